"""Attacks that keep: connections, memory, open files, the processor. Over plain HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

import psutil
import pytest
from tornado.httpclient import HTTPClientError

from tests.chat import Answer, Chat, Socket, User, eventually
from tests.e2e.attacks.bare import Bare, together
from tests.e2e.attacks.well import assert_well, events, serving
from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server
from tests.raw import chunked, send_raw

BODY_BYTES: Final = 65_536
MB: Final = 1_000_000
SLACK_BYTES: Final = 16 * MB
"""What the server's memory may move by, whatever it does."""
PATIENCE: Final = 90
"""Seconds for what takes about twenty."""
EVERYWHERE: Final = (
    "/v1/auth/sign-in",
    "/v1/groups/python/messages",
    "/v1/ws",
    "/chat",
    "/chat/user",
    "/docs",
    "/group/python/connect",
    "/healthz",
    "/openapi.json",
    "/static/chat/main.js",
    "/nowhere",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Room for texts that make an answer longer than what the system takes for who reads nothing.
    environment = {"CHATD_LIMITS__TEXT_CHARS": "10000", "CHATD_LIMITS__FRAME_BYTES": "131072"}
    folder = tmp_path_factory.mktemp("server")
    with serving(Server(folder, unlimited=True, environment=environment)) as server:
        yield server


# -- slowness ----------------------------------------------------------------------------------


class Attacker:
    """Holds a connection in one way, until the server has had enough of it."""

    def __init__(self, connection: Bare, begin: bytes, drip: bytes = b"") -> None:
        """``drip`` is sent again and again behind ``begin``."""
        self.connection = connection
        self._begin = begin
        self._drip = drip
        self.is_over = False

    async def begin(self) -> None:
        await self.connection.send(self._begin)

    async def hold_on(self) -> None:
        """Return once the server has hung up."""
        ending = asyncio.create_task(self._ended())
        while not ending.done():
            await self.connection.send(self._drip)
            await asyncio.wait([ending], timeout=0.5)
        await ending
        self.is_over = True

    async def _ended(self) -> None:
        await self.connection.rest(PATIENCE)


class Deaf(Attacker):
    """Asks for much and takes nothing of it."""

    async def _ended(self) -> None:
        # It must not read, so the system has to be asked.
        async with asyncio.timeout(PATIENCE):
            while self.connection.is_connected():
                await asyncio.sleep(0.5)


async def test_who_is_slow_silent_or_deaf_is_hung_up_on(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """All at the same time, while others are served; nobody is hung up on at once.

    Seen to fail with any time for a head, any time for a body, and any time for who takes nothing
    of an answer.
    """
    ann = await chat.user("ann@example.org")
    await ann.create("python")
    async with ann.socket() as busy:
        for _ in range(150):
            # Each character is six in JSON.
            await busy.send(type="send", group="python", text="\x01" * 10_000)
        await eventually(lambda: len(busy.of("sent")) == 150)
    host = f"Host: {chat.url.removeprefix('http://')}\r\n"
    bearer = f"Authorization: Bearer {ann.token}\r\n"
    post = f"POST /v1/groups HTTP/1.1\r\n{host}{bearer}Content-Type: application/json\r\n"
    history = f"GET /v1/groups/python/messages?limit=200 HTTP/1.1\r\n{host}{bearer}\r\n".encode()
    attackers = [
        Attacker(Bare(chat.url), b""),
        Attacker(Bare(chat.url), b"GET /v1/users HTTP/1.1\r\n"),
        Attacker(Bare(chat.url), b"GET /v1/users HTTP/1.1\r\n", b"X-Drip: x\r\n"),
        Attacker(Bare(chat.url), b"G", b"E"),
        Attacker(Bare(chat.url), f"{post}Content-Length: 60000\r\n\r\n".encode()),
        Attacker(Bare(chat.url), f"{post}Content-Length: 60000\r\n\r\n".encode(), b"{"),
        Attacker(
            Bare(chat.url), f"{post}Transfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\n \r\n"
        ),
        Attacker(
            Bare(chat.url), f"{post}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode()
        ),
        Attacker(
            Bare(chat.url), f"GET /chat HTTP/1.1\r\n{host}Content-Length: 99\r\n\r\n".encode()
        ),
        Attacker(Bare(chat.url), f"GET /docs HTTP/1.1\r\n{host}\r\n".encode()),
        Attacker(Bare(chat.url), f"GET /healthz HTTP/1.1\r\n{host}\r\n".encode()),
    ]
    if sys.platform == "linux":
        attackers.append(Deaf(Bare(chat.url, deaf=True), history, b"\r\n"))
    async with together([one.connection for one in attackers]):
        for one in attackers:
            await one.begin()
        holding = [asyncio.create_task(one.hold_on()) for one in attackers]
        async with ann.socket() as prompt:
            for _ in range(20):
                await prompt.settle()
                assert (await ann.call("GET", "/v1/groups/python")).status == 200
            assert not any(one.is_over for one in attackers), "at once"
            await asyncio.gather(*holding)
            await prompt.settle()


# -- bodies ------------------------------------------------------------------------------------


async def test_large_bodies_are_refused_unread_wherever_they_are_sent(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with a declared length that is not looked at."""
    ann = await chat.user("ann@example.org")
    before = server.resident_bytes()
    flood = [b"x" * BODY_BYTES] * 16

    def head(method: str, path: str, header: str) -> str:
        lines = (f"{method} {path} HTTP/1.1", f"Host: {chat.url[7:]}", header)
        return "\n".join((*lines, f"Authorization: Bearer {ann.token}"))

    for path in EVERYWHERE:
        expected = (404, "not_found") if path == "/nowhere" else (413, "too_large")
        for method in ("POST", "GET"):
            for size in (BODY_BYTES + 1, 10**9, 2**63, 10**18, "9" * 5000):
                answer = await send_raw(chat.url, head(method, path, f"Content-Length: {size}"))
                assert (answer.status, answer.body["code"]) == expected, (method, path, size)
            request = head(method, path, "Transfer-Encoding: chunked")
            answer = await send_raw(chat.url, request, chunked(*flood))
            assert (answer.status, answer.body["code"]) == expected, (method, path)
    assert server.resident_bytes() - before < SLACK_BYTES


async def answers(url: str, request: bytes) -> bytes:
    """All that the server says to these very bytes before it hangs up."""
    async with Bare(url) as client:
        await client.send(request)
        return await client.rest()


async def test_lengths_that_are_none_are_refused_and_smuggle_nothing(
    io_loop: Any, chat: Chat
) -> None:
    """Each is answered once, by a refusal: what stands behind it is never a request.

    Seen to fail with a length that is read as a number, however long it is.
    """
    host = f"Host: {chat.url.removeprefix('http://')}\r\n"
    smuggled = f"GET /healthz HTTP/1.1\r\n{host}\r\n"
    for headers in (
        f"Content-Length: {'9' * 5000}",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x10",
        "Content-Length: 1_0",
        "Content-Length: ١",
        "Content-Length: 1e3",
        "Content-Length: ",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 0, 5",
        "Content-Length : 2",
        " Content-Length: 2",
        "Content-Length\t: 2",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\x0bchunked",
    ):
        head = f"POST /v1/auth/sign-in HTTP/1.1\r\n{host}{headers}\r\n\r\n"
        request = (head + "0\r\n\r\n" + smuggled).encode()
        answer = await answers(chat.url, request)
        assert answer.count(b"HTTP/1.1 ") == 1, (headers, answer)
        assert answer.split(b" ")[1] in (b"400", b"413"), (headers, answer)
    chunk_head = f"POST /v1/auth/sign-in HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"
    for body in (
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        f"{'f' * 60}\r\n",
        "5" + ";" * 5000,
        "\r\n\r\n",
        "0\r\nTrailer: x\r\n\r\n",
        "5\nhello\n0\n\n",
    ):
        answer = await answers(chat.url, (chunk_head + body + smuggled).encode())
        assert answer.count(b"HTTP/1.1 ") <= 1, (body, answer)
        assert answer == b"" or answer.split(b" ")[1] == b"400", (body, answer)
    # What stands behind a request that is whole is the next one, and is looked at as such.
    whole = f"POST /nowhere HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\n{{}}trailing garbage\r\n\r\n"
    answer = await answers(chat.url, whole.encode())
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"404", b"400"] or (
        answer.count(b"HTTP/1.1 ") == 1
    ), answer


# -- heads -------------------------------------------------------------------------------------


async def test_large_heads_are_refused_and_many_parts_cost_little(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with heads of any length."""
    ann = await chat.user("ann@example.org")
    before = server.resident_bytes()
    host = f"Host: {chat.url.removeprefix('http://')}\r\n"
    bearer = f"Authorization: Bearer {ann.token}\r\n"
    flood = b"x" * (4 * MB)
    for begin in (
        b"",
        b"GET /",
        b"GET /healthz?",
        f"GET /healthz HTTP/1.1\r\n{host}X-Long: ".encode(),
        f"GET /healthz HTTP/1.1\r\n{host}Cookie: ".encode(),
    ):
        answer = await answers(chat.url, begin + flood)
        assert b" 200 " not in answer, (begin, answer)
    lines = f"GET /healthz HTTP/1.1\r\n{host}" + "X: y\r\n" * 100_000 + "\r\n"
    assert b" 200 " not in await answers(chat.url, lines.encode())
    assert server.resident_bytes() - before < SLACK_BYTES

    async def status(target: str, *headers: str) -> int:
        end = "Connection: close\r\n\r\n"
        request = f"GET {target} HTTP/1.1\r\n{host}{bearer}{''.join(headers)}{end}"
        return int((await answers(chat.url, request.encode())).split(b" ")[1])

    assert await status("/v1/users", "X: y\r\n" * 2000) == 200
    assert await status("/v1/users", f"Cookie: {'; '.join(['a=b'] * 2000)}\r\n") == 200
    for arguments in ("&".join(["limit=1"] * 1500), "&" * 10_000, "a=b&" * 3000, "%41=&" * 2500):
        assert await status(f"/v1/users?{arguments}") in (400, 422), arguments[:20]


async def test_no_form_of_a_name_or_a_password_takes_long_to_look_at(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """What stands in a request's body keeps nobody waiting: five of them cost less than two hundred
    that are as long, and easy.

    Seen to fail with names and passwords of any length that are brought into their normal form,
    and with every field named that is none.
    """
    ann = await chat.user("ann@example.org")
    # Marks that are in the wrong order: to sort them takes a time that grows with their square.
    marks = "\u0301\u0316" * 16_000

    async def cost(times: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> float:
        before = server.cpu_seconds()
        for _ in range(times):
            answer = await call()
            assert answer.status == 422, answer
        return server.cpu_seconds() - before

    def post(path: str, **body: object) -> Callable[[], Coroutine[Any, Any, Any]]:
        # As UTF-8, where two bytes are one mark.
        raw = json.dumps(body, ensure_ascii=False).encode()
        return lambda: ann.call("POST", path, raw=raw)

    sign_in = partial(post, "/v1/auth/sign-in")

    easy = await cost(200, sign_in(email="x" * 32_000, password="x" * 32_000))
    for attack in (
        sign_in(email=marks, password="x"),
        sign_in(email="x", password=marks),
        post("/v1/groups", name=marks),
        post("/v1/groups", name="x1", title=marks),
        many := sign_in(**{f"{number:x}": 1 for number in range(6000)}),
    ):
        assert await cost(5, attack) < easy
    problem = (await many()).body
    assert len(json.dumps(problem)) < BODY_BYTES / 2, "an answer that is longer than the request"
    async with ann.socket() as socket:
        typing = {"type": "typing", "to": marks[:16_000]}
        marked = json.dumps(typing, ensure_ascii=False)

        async def frame() -> Answer:
            await socket.ws.send(marked)
            error = await socket.next("error")
            return Answer(422 if error["code"] == "invalid" else 0, error, {})

        assert await cost(5, frame) < easy


# -- connections -------------------------------------------------------------------------------


async def talk(speaker: Socket, hearer: User, hearing: Socket, times: int) -> None:
    """So many messages, each of which is there before the next is sent."""
    for number in range(times):
        sent = await speaker.say(f"{number}", to=hearer.email)
        assert sent["type"] == "sent", sent
        assert (await hearing.next("message"))["id"] == sent["id"]


async def test_from_one_address_come_so_many_connections_at_a_time(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Twice as many as its sockets, which are counted apart; the others hear 429 at once.

    Seen to fail with any number of them.
    """
    sockets = 10
    limit = {"CHATD_LIMITS__CONNECTIONS_PER_ADDRESS": str(sockets)}
    server = make_server(environment=limit)
    chat = Chat(server.start())
    ann, bob = [await chat.user(f"{name}@example.org") for name in ("ann", "bob")]
    async with ann.socket() as a, bob.socket() as b:
        idle = [Bare(server.url) for _ in range(2 * sockets)]
        async with together(idle):
            for _ in range(5):
                async with Bare(server.url) as late:
                    answer = await late.rest()
                    assert answer.startswith(b"HTTP/1.1 429 "), answer
                    assert b"Retry-After: " in answer
            before = server.resident_bytes()
            for _ in range(500):
                async with Bare(server.url) as late:
                    await late.send(b"GET / HTTP/1.1\r\n")
            await talk(a, bob, b, 5)
            assert server.resident_bytes() - before < SLACK_BYTES
            assert all(one.is_connected() for one in idle)
        async with asyncio.timeout(PATIENCE):
            while await status(chat) != 200:
                await asyncio.sleep(0.05)
        await talk(b, ann, a, 5)
    chat.close()
    assert_well(server)


async def status(chat: Chat) -> int:
    """What /healthz answers; 0 where the connection breaks off."""
    try:
        return (await chat.call("GET", "/healthz")).status
    except (OSError, HTTPClientError):
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="takes away a running process's files")
async def test_out_of_files_it_waits_and_recovers(io_loop: Any, make_server: MakeServer) -> None:
    """Who is there goes on; who comes is taken in once there are files again.

    Seen to fail with no pause behind a connection that could not be taken in.
    """
    server = make_server()
    chat = Chat(server.start())
    ann, bob = [await chat.user(f"{name}@example.org") for name in ("ann", "bob")]
    process = psutil.Process(server.process.pid)
    async with ann.socket() as a, bob.socket() as b:
        await talk(a, bob, b, 5)
        most = process.num_fds() + 10
        process.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        crowd = [Bare(server.url) for _ in range(100)]
        async with together(crowd):
            await eventually(lambda: bool(starving(server)))
            used, began = server.cpu_seconds(), time.monotonic()
            await talk(a, bob, b, 20)
            await asyncio.sleep(3)
            await talk(b, ann, a, 20)
            used, took = server.cpu_seconds() - used, time.monotonic() - began
            assert used < took / 2, f"{used} s of {took} s: it does not wait"
            assert starving(server) < 100
            assert process.num_fds() <= most
        async with asyncio.timeout(PATIENCE):
            while await status(chat) != 200:
                await asyncio.sleep(0.05)
        assert (await bob.call("GET", f"/v1/users/{ann.email}/messages")).status == 200
        await talk(a, bob, b, 5)
    chat.close()
    failures = {event["event"] for event in events(server) if event["level"] == "error"}
    assert failures == {"server.accept_failed"}


def starving(server: Server) -> int:
    """How often the server's log says that nobody could be taken in."""
    return sum(event["event"] == "server.accept_failed" for event in events(server))
