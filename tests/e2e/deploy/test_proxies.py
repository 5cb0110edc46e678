"""The reverse proxies of conf/nginx and conf/caddy in front of a real chatd."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.exceptions import WebSocketException

from chatd import listener
from chatd.settings import Settings
from tests.certificates import Authority
from tests.chat import Json, Socket, User
from tests.e2e.deploy.proxies import (
    CADDY,
    CADDY_CLUSTER,
    NGINX,
    NGINX_CLUSTER,
    NGINX_PATIENCE,
    SHORT_PATIENCE,
    Caddy,
    Nginx,
    Proxy,
    Visitor,
)
from tests.e2e.faults.device import until
from tests.e2e.server import Server
from tests.raw import chunked

CLIENT: Final = "127.0.0.2"
"""An address of this machine that no proxy connects from."""
AT_ONCE: Final = 20
CLAIMED: Final = "203.0.113.7"
BODY_BYTES: Final = Settings().limits.body_bytes

PROXIES = {"nginx": Nginx, "caddy": Caddy}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("deploy") / "authority")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A chatd with the settings that the examples ask for."""
    environment = {
        "CHATD_SERVER__ALLOWED_HOSTS": "localhost",
        "CHATD_SERVER__TRUSTED_PROXIES": "127.0.0.1/32",
        "CHATD_WEBSOCKET__PING_SECONDS": "1",
    }
    with closing(Server(tmp_path_factory.mktemp("chatd"), environment=environment)) as made:
        made.start()
        yield made


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in PROXIES],
)
def proxy(
    request: pytest.FixtureRequest,
    server: Server,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(request.param) / "proxy"
    with closing(PROXIES[request.param](folder, [server.url], authority)) as made:
        made.start()
        yield made


@pytest.fixture
async def visitor(io_loop: Any, proxy: Proxy) -> AsyncGenerator[Visitor, None]:
    made = Visitor(proxy)
    yield made
    made.close()


# -- what comes through ------------------------------------------------------------------------


async def test_calls_and_all_three_sockets_come_through_tls(io_loop: Any, visitor: Visitor) -> None:
    ann, bob = [await visitor.user(f"{name}@example.org") for name in ("ann", "bob")]
    group = type(visitor.proxy).__name__.lower()
    await ann.create(group)
    async with (
        visitor.socket(ann) as everything,
        visitor.socket(bob, "/chat/user") as pairs,
        visitor.socket(ann, f"/group/{group}/connect") as one_group,
    ):
        await everything.say("Hello, Bob", to=bob.email)
        assert (await pairs.next("message"))["text"] == "Hello, Bob"
        await everything.say("Hello, all", group=group)
        assert (await one_group.next("message"))["text"] == "Hello, all"
        # The Pong that a receipt rests on comes through as well.
        await everything.next("receipt", where=lambda frame: frame.get("to") == bob.email)
    page = await visitor.call("GET", "/chat")
    assert page.status == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_who_comes_without_tls_is_sent_to_it(io_loop: Any, visitor: Visitor) -> None:
    visitor.url = visitor.proxy.plain_url
    answer = await visitor.call("GET", "/chat")
    assert answer.status == 308
    assert answer.headers["Location"] == "https://localhost/chat"


async def test_metrics_are_not_for_everybody(io_loop: Any, visitor: Visitor) -> None:
    assert (await visitor.call("GET", "/metrics")).status == 404


async def test_the_log_has_the_clients_address_whatever_it_claims(
    io_loop: Any, visitor: Visitor, server: Server
) -> None:
    """Seen to fail with a proxy that passes on what the client claims."""
    claims = [f"X-Forwarded-For: {CLAIMED}", f"X-Forwarded-For: {CLAIMED}, 127.0.0.1"]
    path = f"/v1/claimed-by-{type(visitor.proxy).__name__}"
    for headers in ([], claims[:1], claims[1:], claims, [*claims, f"X-Real-IP: {CLAIMED}"]):
        await visitor.raw("\r\n".join([f"GET {path} HTTP/1.1", *headers]), source=CLIENT)
    ann = await visitor.user("ann@example.org")
    url = visitor.socket_url("/v1/ws")
    claim = {"X-Forwarded-For": CLAIMED, "Authorization": f"Bearer {ann.token}"}
    async with visitor.bare_socket(url, claim, CLIENT) as socket:
        ((connection,),) = [[one["connection_id"] for one in socket.of("hello")]]
    by_path = addresses(server, lambda event: event.get("path") == path)
    assert by_path == [CLIENT] * 5
    assert addresses(server, lambda event: event.get("connection_id") == connection)[0] == CLIENT


def addresses(server: Server, chosen: Callable[[Json], bool]) -> list[str | None]:
    """The clients' addresses in the log's chosen events."""
    lines = server.log.read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return [event.get("address") for event in events if chosen(event)]


async def test_a_silent_socket_is_not_cut(io_loop: Any, visitor: Visitor) -> None:
    """chatd pings it every second here. Seen to fail with nginx and pings of the default 20 s."""
    ann = await visitor.user("ann@example.org")
    async with visitor.socket(ann) as socket:
        await asyncio.sleep(1.5 * SHORT_PATIENCE)
        assert (await socket.say("Still there", to=ann.email))["type"] == "sent"


async def test_a_body_that_is_too_large_is_refused_like_chatd_does(
    io_loop: Any, visitor: Visitor
) -> None:
    ann = await visitor.user("ann@example.org")
    head = (
        f"POST /v1/users/{ann.email}/messages HTTP/1.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {ann.token}\r\n"
    )
    fits, too_large = b" " * BODY_BYTES, b" " * (BODY_BYTES + 1)
    declared = "Content-Length: {}"
    undeclared = "Transfer-Encoding: chunked"
    refused = [
        await visitor.raw(head + declared.format(len(too_large)), too_large),
        await visitor.raw(head + undeclared, chunked(too_large)),
    ]
    taken = [
        await visitor.raw(head + declared.format(len(fits)), fits),
        await visitor.raw(head + undeclared, chunked(fits)),
    ]
    assert [status_and_code(answer) for answer in refused] == [(413, "too_large")] * 2
    assert [status_and_code(answer) for answer in taken] == [(400, "bad_json")] * 2


def status_and_code(answer: bytes) -> tuple[int, str]:
    """Of a problem (RFC 9457)."""
    status = int(answer.split()[1])
    code = re.search(rb'"code":"(\w+)"', answer)
    assert b"application/problem+json" in answer, answer
    assert code, answer
    return status, code[1].decode()


# -- a restart ---------------------------------------------------------------------------------


class Sender:
    """Sends numbered messages to itself, some at once, each again until it is stored, over as
    many sockets as that takes; and asks over REST meanwhile."""

    def __init__(self, visitor: Visitor, user: User) -> None:
        self.visitor = visitor
        self.user = user
        self.acked: dict[str, int] = {}
        self.statuses: set[int] = set()
        self.sockets = 0
        self.enough = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(self._send(), self._ask())

    async def _send(self) -> None:
        numbers = count(1)
        waiting: list[str] = []
        while waiting or not self.enough.is_set():
            with suppress(OSError, WebSocketException, AssertionError, TimeoutError):
                async with self.visitor.socket(self.user, replay="none") as socket:
                    self.sockets += 1
                    while waiting or not self.enough.is_set():
                        waiting = waiting or [
                            f"{self.user.email} says {next(numbers)}" for _ in range(AT_ONCE)
                        ]
                        await self._say(socket, waiting)
            await asyncio.sleep(0.05)

    async def _say(self, socket: Socket, waiting: list[str]) -> None:
        for text in waiting:
            await socket.send(type="send", to=self.user.email, text=text, client_id=text)
        while waiting:
            answer = await socket.next("sent")
            self.acked[answer["client_id"]] = answer["seq"]
            waiting.remove(answer["client_id"])

    async def _ask(self) -> None:
        while not self.enough.is_set():
            answer = await self.user.call("GET", "/v1/auth/me")
            self.statuses.add(answer.status)
            if answer.status == 503:
                assert answer.body["code"] == "unavailable"
                assert int(answer.headers["Retry-After"]) >= 1
            await asyncio.sleep(0.05)

    async def stored(self) -> dict[str, int]:
        found: dict[str, int] = {}
        more = True
        while more:
            last = max(found.values(), default=0)
            path = f"/v1/users/{self.user.email}/messages?after_seq={last}&limit=200"
            page = (await self.user.call("GET", path)).body
            assert not found.keys() & {one["text"] for one in page["items"]}
            found |= {one["text"]: one["seq"] for one in page["items"]}
            more = page["has_more"]
        return found


async def test_a_restart_of_chatd_behind_the_proxy_loses_no_message(
    io_loop: Any, visitor: Visitor, server: Server
) -> None:
    """Seen to fail with a server that rolls back, once it drains, what it says is sent."""
    name = type(visitor.proxy).__name__.lower()
    senders = [Sender(visitor, await visitor.user(f"{name}{n}@example.org")) for n in range(3)]
    running = [asyncio.create_task(sender.run()) for sender in senders]
    try:
        await until(lambda: all(len(sender.acked) > 5 for sender in senders))
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 60) == 0
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.restart)
        before = [(len(sender.acked), sender.sockets) for sender in senders]
        await until(
            lambda: all(
                len(sender.acked) > acked + 5 and sender.sockets > 1
                for sender, (acked, _) in zip(senders, before, strict=True)
            )
        )
    finally:
        for sender in senders:
            sender.enough.set()
        await asyncio.gather(*running)
    for sender in senders:
        stored = await sender.stored()
        assert sender.acked.items() <= stored.items()
        assert sorted(stored.values()) == list(range(1, len(stored) + 1))
        assert sender.statuses <= {200, 503}


# -- what the proxies write down ---------------------------------------------------------------


async def test_no_log_of_a_proxy_has_a_token(
    io_loop: Any, visitor: Visitor, server: Server
) -> None:
    """Whether chatd is there or not."""
    ann = await visitor.user("ann@example.org")
    path = f"/chat/user?Authorization={ann.token}"
    headers = (
        f"Referer: {visitor.url}{path}\r\nSec-WebSocket-Protocol: chatd.v1, bearer.{ann.token}"
    )
    request = f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {ann.token}\r\n{headers}"
    async with visitor.bare_socket(visitor.socket_url(path), {}) as socket:
        await socket.settle()
    assert (await visitor.raw(request)).startswith(b"HTTP/1.1 200")
    server.terminate()
    try:
        assert (await visitor.raw(request)).startswith(b"HTTP/1.1 503")
    finally:
        await asyncio.to_thread(server.restart)
    logged = visitor.proxy.logged()
    assert "/chat/user" in logged
    assert "503" in logged
    assert ann.token not in logged
    assert ann.token.rpartition(".")[2] not in logged


# -- what can't be waited for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        (NGINX, "keepalive_timeout"),
        (CADDY, "keepalive"),
        (NGINX_CLUSTER, "keepalive_timeout"),
        (CADDY_CLUSTER, "keepalive"),
    ],
    ids=["nginx", "caddy", "nginx of a cluster", "caddy of a cluster"],
)
def test_the_proxy_ends_kept_connections_before_chatd_does(path: Path, setting: str) -> None:
    ((seconds),) = re.findall(rf"^\s*{setting} (\d+)s;?$", path.read_text(), re.MULTILINE)
    assert int(seconds) < listener._PATIENCE_SECONDS


def test_nginx_has_more_patience_than_chatd_with_a_silent_socket() -> None:
    sockets = Settings().websocket
    patience = float(NGINX_PATIENCE.removesuffix("s"))
    assert patience > sockets.ping_seconds + sockets.pong_seconds
