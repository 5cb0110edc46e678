"""Attacks on the log: lines that are forged, terminals that are driven, secrets that leak into it.

And on what a client is told where something fails inside: no more than where to find it.
"""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.chat import PASSWORD, Chat, Socket, User
from tests.e2e.attacks.bare import Bare, BareSocket
from tests.e2e.attacks.well import event_of, events, serving
from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FORGED = (
    '{"time": "2026-01-01T00:00:00.000000Z", "level": "error", "event": "forged.entry",'
    ' "user_id": "admin"}'
)
NASTY = (
    f"\n{FORGED}",
    f"\r\n{FORGED}\r\n",
    f'", "event": "forged.entry", "x": "{FORGED}',
    f"\x1b[2J\x1b]0;forged.entry\x07{FORGED}",
    f"\x0b\x0c\x1c\x85{FORGED}",
    f"\u2028{FORGED}\u2029",
    "\u202eyrtne.degrof",
    "\x00\x08\x08\x08\x7f\x9b31m",
    "%s %n {0} ${jndi:ldap://127.0.0.1:9/x}",
    "x" * 4000,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    proxied = {
        "CHATD_LOGGING__LEVEL": "debug",
        "CHATD_SERVER__TRUSTED_PROXIES": "127.0.0.0/8",
    }
    with serving(Server(tmp_path_factory.mktemp("logs"), environment=proxied)) as server:
        yield server


@pytest.fixture
def chat(server: Server) -> Iterator[Chat]:
    chat = Chat(server.url)
    yield chat
    chat.close()


async def attack(chat: Chat, ann: User) -> None:
    """Everything that may come to be logged, raw where the protocol lets it through."""
    for text in NASTY:
        escaped, raw = quote(text), text.encode()
        no_line = re.sub(rb"[\r\n]", b" ", raw)
        for path in (f"/{escaped}", f"/v1/users/{escaped}", f"/group/{escaped}/connect"):
            await chat.call("GET", f"{path}?x={escaped}", token=ann.token)
        for body in (
            {"email": text, "password": f"pass{text}"},
            {"email": ann.email, "password": f"pass{text:.100}"},
            {"email": ann.email, "password": PASSWORD, text: 1},
        ):
            await chat.call("POST", "/v1/auth/sign-in", body)
        body = {"name": text, "title": text}
        await chat.call("POST", "/v1/groups", body, token=ann.token)
        for line in (b"GET /", b"GET /" + no_line, no_line + b" /", raw):
            async with Bare(chat.url) as bare:
                await bare.send(
                    line + b" HTTP/1.1\r\nHost: " + bare.netloc.encode() + b"\r\nUser-Agent: "
                    b"%b\r\nX-Request-ID: %b\r\nOrigin: %b\r\nReferer: %b\r\nX-Forwarded-For: %b"
                    b"\r\nConnection: close\r\n\r\n" % ((no_line,) * 5)
                )
                await bare.rest()
        for name in (b"Host", b"Content-Length", b"Transfer-Encoding", b"Authorization", no_line):
            async with Bare(chat.url) as bare:
                await bare.send(
                    b"POST /v1/auth/sign-in HTTP/1.1\r\nConnection: close\r\n%b: %b\r\n\r\n"
                    % (name, no_line)
                )
                await bare.rest()
        async with BareSocket(chat.url) as socket:
            await socket.open(ann.token)
            await socket.say(type=text, text=text)
            await socket.say(type="send", to=text, text=text, client_id=text)
            await socket.say(type="send", group=text, text="a text for nobody")
            await socket.send(b"\x88" + bytes((0x80 | 100,)) + bytes(4) + b"\x03\xe8" + b"\n" * 98)
            await socket.rest()


async def test_nothing_that_is_sent_makes_a_line_of_the_log(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with ``ensure_ascii=False`` for the JSON, in logs.py."""
    ann = await chat.user("ann@example.org")
    await attack(chat, ann)
    logged = server.log.read_bytes()
    assert not set(logged) - set(range(0x20, 0x7F)) - {0x0A}
    for event in events(server):
        assert list(event)[:3] == ["time", "level", "event"]
        assert TIME.fullmatch(event["time"])
        assert event["level"] in ("debug", "info", "warning")
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", event["event"])
        assert event["event"] != "forged.entry"
        assert event.get("user_id") != "admin"
        if "request_id" in event:
            assert re.fullmatch(r"[0-9a-f]{16}", event["request_id"])


async def test_nothing_that_is_sent_makes_a_line_of_a_readable_log(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Seen to fail with ``repr_native_str=False``, in logs.py."""
    server = make_server(environment={"CHATD_LOGGING__FORMAT": "text"})
    chat = Chat(server.start())
    await attack(chat, await chat.user("ann@example.org"))
    log = server.log.read_text()
    chat.close()
    server.close()
    assert all(one.isprintable() or one == "\n" for one in log)
    for line in log.splitlines():
        assert re.match(r"chatd: |\d{4}-\d\d-\d\dT[\d:.]+Z \[(info|warning) *\] [a-z_]+\.", line)
        assert not re.match(r"\S+ \S+ forged", line)


async def test_a_request_is_known_by_its_id_its_user_and_its_address(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """The id is the server's own. Seen to fail with a client's X-Request-ID taken, in base.py."""
    ann = await chat.user("known@example.org")
    own = {"X-Request-ID": "0123456789abcdef", "X-Forwarded-For": "198.51.100.7"}
    for path, token, status in (
        ("/v1/auth/me", ann.token, 200),
        ("/v1/users/nobody@example.org", ann.token, 404),
        ("/v1/auth/me", None, 401),
        ("/chat", None, 200),
        ("/nowhere", None, 404),
    ):
        answer = await chat.call("GET", path, token=token, headers=own)
        request_id = answer.headers["X-Request-ID"]
        assert request_id != own["X-Request-ID"]
        if status >= 400:
            assert answer.body["request_id"] == request_id
        logged = event_of(server, request_id)
        assert (logged["method"], logged["path"], logged["status"]) == ("GET", path, status)
        assert logged["address"] == "198.51.100.7"
        assert bool(logged["user_id"]) is bool(token)
    body = {"email": "known@example.org", "password": "wrong horse battery"}
    refused = await chat.call("POST", "/v1/auth/sign-in", body, headers=own)
    session = (await chat.user("known@example.org")).token
    await chat.call("POST", "/v1/auth/sign-out", token=session)
    body = {"current": PASSWORD, "new": "staple battery correct"}
    await chat.call("POST", "/v1/auth/password", body, token=ann.token)
    told = {one["event"]: one for one in events(server)}
    assert {"sign_in.accepted", "sign_in.refused", "sign_out.done", "password.changed"} <= set(told)
    assert told["sign_in.refused"]["code"] == "bad_credentials"
    assert told["sign_in.refused"]["address"] == "198.51.100.7"
    assert told["sign_in.refused"]["request_id"] == refused.body["request_id"]
    assert told["password.changed"]["user_id"] == told["sign_out.done"]["user_id"]


async def test_the_log_has_no_secret_whatever_is_done_with_it(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Tokens and passwords put where none belongs, and texts that are refused.

    Seen to fail with ``request.uri`` for ``request.path`` in app.py, and without
    ``_without_tokens`` in logs.py.
    """
    ann, bob = await chat.user("ann2@example.org"), await chat.user("bob2@example.org")
    private, query = "a most private text", "query-s3cret"
    token, escaped = bob.token, bob.token.replace(".", "%2E")
    for target in (
        f"/v1/ws?Authorization={token}",
        f"/chat/user?Authorization={token}&q={query}",
        f"/group/python/connect?Authorization={token}",
        f"/chat/user%3FAuthorization={token}",
        f"/chat/{token}",
        f"/chat/{escaped}",
        f"/chat/{escaped.replace('%2E', '%2e')}",
        f"/v1/users?prefix={query}&Authorization={token}",
        f"/v1/users?prefix=%ff{query}",
        f"/v1/messages/{token}",
        f"/v1/groups?prefix={query}&after={query}",
        f"//{token}/?{query}",
    ):
        await chat.call("GET", target, token=ann.token)
        async with BareSocket(chat.url) as socket:
            await socket.shake(target)
    for headers in (
        {"Authorization": token},
        {"Authorization": f"Token {token}"},
        {"Authorization": f"Bearer {token} {token}"},
        {"Cookie": f"token={token}"},
        {"Referer": f"http://127.0.0.1/chat?Authorization={token}"},
        {"X-Forwarded-For": token},
        {"X-Request-ID": token},
        {"User-Agent": PASSWORD},
    ):
        await chat.call("GET", "/v1/auth/me", headers=headers)
    for body in (
        {"email": ann.email, "password": ["a wrong pass-word"]},
        {"email": "a wrong pass-word", "password": "a wrong pass-word"},
        {"email": ann.email, "password": "a wrong pass-word", "a wrong pass-word": 1},
    ):
        await chat.call("POST", "/v1/auth/sign-in", body)
    for text in (private, [private], f"{private}\0", private * 1000):
        await ann.call("POST", f"/v1/users/{bob.email}/messages", {"text": text})
        await ann.call("POST", f"/v1/users/{bob.email}/messages", {"text": text, "x": private})
    async with ann.socket() as a:
        for frame in (
            {"type": "send", "to": bob.email, "text": private},
            {"type": "send", "to": bob.email, "text": [private]},
            {"type": "send", "to": "nobody@example.org", "text": private},
            {"type": "auth", "token": f"{token}x"},
        ):
            await a.send(**frame)
        assert await a.closed() == 4401
    async with Socket(chat.socket_url("/v1/ws")) as stranger:
        await stranger.send(type="auth", token=f"{token}x")
        await stranger.closed()
    await chat.call("GET", "/healthz")
    log = server.log.read_text()
    secrets = (query, PASSWORD, "wrong pass", private, *token.split(".")[1:])
    assert [one for one in secrets if one in log] == []


async def test_a_failure_is_told_to_the_log_and_to_the_client_that_it_was_one(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Out of file descriptors, a page can't be read: a real fault, of ours.

    Seen to fail with the error in `InternalError`'s sentence, in base.py.
    """
    server = make_server()
    chat = Chat(server.start())
    ann = await chat.user("ann@example.org")
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    async with Bare(chat.url) as bare:
        await bare.request("GET /healthz HTTP/1.1")
        await bare.until(b"}")
        lowest = lowest_free(server)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
        await bare.request(
            f"GET /chat/user?Authorization={ann.token} HTTP/1.1",
            f"Authorization: Bearer {PASSWORD}",
        )
        answered = (await bare.until(b"}")).decode()
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    head, _, body = answered.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 500 "), answered
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (500, "internal")
    assert problem["detail"].startswith("something went wrong on our side")
    for inside in ("Error:", "Errno", "open files", "chat.html", "/", "File ", "line "):
        assert inside not in problem["detail"].replace("/docs", "")
    assert "Server: chatd\r\n" in head
    logged = event_of(server, problem["request_id"])
    assert (logged["path"], logged["status"]) == ("/chat/user", 500)
    (failure,) = [one for one in events(server) if one["event"] == "http.failed"]
    assert failure["level"] == "error"
    assert failure["request_id"] == problem["request_id"]
    assert "Too many open files" in failure["error"]
    assert failure["exception"].startswith("Traceback")
    log = server.log.read_text()
    assert not [one for one in (ann.token, PASSWORD) if one in log]
    assert (await chat.call("GET", "/chat")).status == 200
    chat.close()


def lowest_free(server: Server) -> int:
    """The number that the next file the server opens will have."""
    in_use = {int(one.name) for one in Path(f"/proc/{server.process.pid}/fd").iterdir()}
    return min(set(range(max(in_use) + 2)) - in_use)
