"""Attacks over the WebSocket: on its handshake, its framing, its limits, and by what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from tests.chat import Chat, Socket, User, eventually, texts
from tests.counts import Report, Scale
from tests.e2e.attacks.bare import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    BareSocket,
    declared,
    masked,
    text,
    together,
)
from tests.e2e.attacks.well import events, serving
from tests.e2e.server import Server

DOORS: Final = ("/v1/ws", "/chat/user", "/group/python/connect")
EVIL: Final = "evil.example"
FRAME_BYTES: Final = 32_768
MB: Final = 1_000_000
SLACK_BYTES: Final = 8 * MB
"""What the server's memory may move by, whatever it does."""

CALLS: Final = 100
"""A second, of one user."""
OF_A_USER: Final = 3
OF_AN_ADDRESS: Final = 8
FRIEND: Final = "https://chat.example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the limits as they are by default."""
    with serving(Server(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that takes few calls a second, and any number of messages."""
    environment = {"CHATD_LIMITS__CALL_PER_SECOND": str(CALLS), "CHATD_LIMITS__CALL_BURST": "10"}
    folder = tmp_path_factory.mktemp("patient")
    with serving(Server(folder, unlimited=True, environment=environment)) as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that lets few in, takes few messages, and knows whose pages may connect."""
    environment = {
        "CHATD_LIMITS__CONNECTIONS_PER_USER": str(OF_A_USER),
        "CHATD_LIMITS__CONNECTIONS_PER_ADDRESS": str(OF_AN_ADDRESS),
        "CHATD_LIMITS__SEND_PER_SECOND": "1",
        "CHATD_LIMITS__SEND_BURST": "5",
        "CHATD_SERVER__ALLOWED_ORIGINS": FRIEND,
    }
    folder = tmp_path_factory.mktemp("strict")
    with serving(Server(folder, environment=environment)) as server:
        yield server


# -- the handshake -----------------------------------------------------------------------------


async def test_only_pages_of_our_own_open_a_socket(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with no check of the Host, which is DNS rebinding, and with an Origin that
    counts as ours where its host alone is."""
    ann = await chat.user("ann@example.org")
    await ann.call("POST", "/v1/groups", {"name": "python"})
    own = chat.url.removeprefix("http://")
    bearer = f"Authorization: Bearer {ann.token}"

    async def status(target: str, *headers: str) -> int:
        async with BareSocket(chat.url) as client:
            return int((await client.shake(target, bearer, *headers)).split(b" ")[1])

    for door in DOORS:
        assert await status(door) == 101, "no browser"
        assert await status(door, f"Origin: http://{own}") == 101
        assert await status(door, f"Host: {EVIL}", f"Origin: http://{EVIL}") == 421
        assert await status(door, f"Host: {EVIL}") == 421
        for foreign in (
            "null",
            f"http://{EVIL}",
            f"http://{own}.{EVIL}",
            f"http://{EVIL}/{own}",
            f"http://{EVIL}@{own}",
            f"http://{own}@{EVIL}",
            f"http://{own}/",
            f"file://{own}",
            f"//{own}",
            own,
            "http://[::1",
            "http://127.0.0.1",
            "",
        ):
            assert await status(door, f"Origin: {foreign}") == 403, foreign
    door = DOORS[0]
    for twice in ((own, EVIL), (EVIL, own), (own, own)):
        assert await status(door, *(f"Host: {host}" for host in twice)) == 400, twice
        assert await status(door, *(f"Origin: http://{host}" for host in twice)) == 403, twice
    assert await status(f"http://{own}{door}", f"Host: {EVIL}") == 421
    for target in (f"http://{own}{door}", f"http://{EVIL}{door}", f"//{EVIL}{door}"):
        assert await status(target) == 404, target
    # What a proxy may say about another Host counts for nothing.
    for header in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL"):
        assert await status(door, f"Host: {EVIL}", f"{header}: {own}") == 421
    assert await status(door, "Host: localhost.") == 421


async def test_where_origins_are_listed_those_alone_count(io_loop: Any, strict: Server) -> None:
    """Seen to fail with an own Origin that counts beside those."""
    own = strict.url.removeprefix("http://")
    for origin, status in (
        (FRIEND, b"101"),
        (FRIEND.upper(), b"101"),
        (f"http://{own}", b"403"),
        (f"{FRIEND}.{EVIL}", b"403"),
        (f"{FRIEND}:8443", b"403"),
        ("null", b"403"),
        (FRIEND.replace("https", "http"), b"403"),
    ):
        async with BareSocket(strict.url) as client:
            head = await client.shake("/v1/ws", f"Origin: {origin}")
            assert head.split(b" ")[1] == status, origin
    async with BareSocket(strict.url) as client:
        head = await client.shake("/v1/ws", "Host: chat.example.org", f"Origin: {FRIEND}")
        assert head.split(b" ")[1] == b"421", "a listed origin is no host of ours"


async def test_half_a_handshake_opens_nothing(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with any version of the protocol."""
    whole = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }

    async def status(method: str, headers: dict[str, str]) -> int:
        async with BareSocket(chat.url) as client:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            await client.request(f"{method} /v1/ws HTTP/1.1", *lines)
            return int((await client.until(b"\r\n\r\n")).split(b" ")[1])

    for name, value, expected in (
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Version", "13, 8", 426),
        ("Sec-WebSocket-Version", "", 426),
        ("Sec-WebSocket-Key", "", 400),
        ("Connection", "keep-alive", 400),
        ("Upgrade", "h2c", 400),
        ("Upgrade", "websocket, h2c", 400),
    ):
        assert await status("GET", {**whole, name: value}) == expected, (name, value)
    for method in ("POST", "PUT", "HEAD", "OPTIONS"):
        assert await status(method, {**whole, "Content-Length": "0"}) == 405, method


async def test_no_compression_is_agreed_to(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with the reserved bits let through."""
    ann = await chat.user("ann@example.org")
    async with BareSocket(chat.url) as client:
        head = await client.shake(
            "/v1/ws",
            f"Authorization: Bearer {ann.token}",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
        )
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head.lower()
        # {"type":"ping"} compressed, as where it had been agreed to.
        await client.send(masked(FIN | 0x40 | TEXT, bytes.fromhex("aa562aa92c4855b2522ac8cc4b")))
        assert await client.close_code() == 1002


async def test_what_stands_behind_a_handshake_is_no_request(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with what comes in one piece with the handshake thrown away."""
    ann = await chat.user("ann@example.org")
    bearer = f"Authorization: Bearer {ann.token}"
    smuggled = f"GET /v1/auth/me HTTP/1.1\r\nHost: x\r\n{bearer}\r\n\r\n".encode()
    again = f"GET /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\n{bearer}\r\n\r\n".encode()
    for behind in (smuggled, again):
        async with BareSocket(chat.url) as client:
            await client.shake("/v1/ws", bearer, behind=behind)
            assert await client.close_code() == 1002
            assert b"HTTP/" not in await client.rest()
        async with BareSocket(chat.url) as client:
            await client.open(ann.token)
            await client.send(behind)
            assert await client.close_code() == 1002
            assert b"HTTP/" not in await client.rest()
    # A body is passed over: what comes behind it is frames.
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    for header, body in (
        (f"Content-Length: {len(smuggled)}", smuggled),
        ("Transfer-Encoding: chunked", chunk),
    ):
        async with BareSocket(chat.url) as client:
            behind = body + text('{"type":"ping"}')
            head = await client.shake("/v1/ws?replay=none", bearer, header, behind=behind)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert (await client.json_until("pong"))[0]["type"] == "hello"
    async with BareSocket(chat.url) as client:
        head = await client.shake("/v1/ws", bearer, "Content-Length: 70000")
        assert head.split(b" ")[1] == b"413"


# -- the framing -------------------------------------------------------------------------------


async def close_codes(url: str, *attacks: bytes) -> list[int]:
    """What each of these closes a socket of its own with; then the server hangs up."""
    codes = []
    for attack in attacks:
        async with BareSocket(url) as client:
            await client.open()
            await client.send(attack)
            codes.append(await client.close_code())
            assert await client.rest() == b""
    return codes


async def test_what_rfc_6455_forbids_closes_with_1002(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with frames that need no mask, reserved bits let through, and control frames of
    any length."""
    ping = b'{"type":"ping"}'
    attacks = [
        bytes((FIN | TEXT, len(ping))) + ping,
        bytes((FIN | PING, 0)),
        *(masked(FIN | bit | TEXT, ping) for bit in (0x40, 0x20, 0x10)),
        masked(FIN | 0x40 | PING, b""),
        *(masked(FIN | opcode, b"") for opcode in (0x3, 0x7, 0xB, 0xF)),
        masked(PING, b"in two"),
        masked(CLOSE, b""),
        masked(FIN | PING, b"x" * 126),
        declared(FIN | PONG, 1 << 62) + bytes(4),
        masked(FIN | CONTINUATION, b"of nothing"),
        masked(TEXT, b"") + masked(FIN | TEXT, ping),
        masked(TEXT, b"") + bytes((CONTINUATION, 0)),
        masked(FIN | CLOSE, b"x"),
        *(masked(FIN | CLOSE, code.to_bytes(2, "big")) for code in (0, 999, 1005, 1015, 2999)),
    ]
    assert await close_codes(chat.url, *attacks) == [1002] * len(attacks)


async def test_a_size_beyond_the_limit_is_refused_before_anything_of_it_is_there(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with a size that is looked at once the whole frame is there."""
    first = (FIN | TEXT, TEXT, FIN | BINARY)
    sizes = (FRAME_BYTES + 1, (1 << 31) + 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 1)
    heads = [declared(byte, size) + bytes(4) for byte in first for size in sizes]
    heads.append(bytes((FIN | TEXT, 0xFE)) + (FRAME_BYTES + 1).to_bytes(2, "big") + bytes(4))
    heads.append(masked(TEXT, b"") + declared(CONTINUATION, FRAME_BYTES + 1) + bytes(4))
    before = server.resident_bytes()
    assert await close_codes(chat.url, *heads) == [1009] * len(heads)
    assert server.resident_bytes() - before < SLACK_BYTES


async def test_fragments_beyond_the_limit_are_refused(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with a limit that counts each fragment alone."""
    small = masked(TEXT, b"x") + masked(CONTINUATION, b"x") * FRAME_BYTES
    large = masked(TEXT, b"x" * FRAME_BYTES) + masked(CONTINUATION, b"x" * FRAME_BYTES)
    before = server.resident_bytes()
    assert await close_codes(chat.url, small, large) == [1009] * 2
    async with BareSocket(chat.url) as client:
        # Fragments of nothing are none too many.
        await client.open()
        await client.send(masked(TEXT, b'{"type":') + masked(CONTINUATION, b"") * 20_000)
        await client.send(masked(FIN | CONTINUATION, b'"auth","token":"x"}'))
        assert await client.close_code() == 4401
    assert server.resident_bytes() - before < SLACK_BYTES


async def test_what_is_no_utf_8_closes_with_1007(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with fragments that are looked at only together, and with any reason of a
    close."""
    cut = "✓".encode()
    attacks = [
        text(b"\xff"),
        text(b'{"type":"ping"}\xc0\x80'),
        text(b"\xed\xa0\x80"),
        text(b"\xf4\x90\x80\x80"),
        text(cut[:2]),
        # Known before the end comes, which never does.
        masked(TEXT, b"\xff"),
        masked(TEXT, cut[:2]) + masked(CONTINUATION, b"x"),
        masked(TEXT, cut[:1]) + masked(FIN | CONTINUATION, cut[1:2]),
        masked(FIN | CLOSE, b"\x03\xe8\xff"),
        masked(FIN | CLOSE, b"\x0f\xa0" + cut[:2]),
    ]
    assert await close_codes(chat.url, *attacks) == [1007] * len(attacks)
    async with BareSocket(chat.url) as client:
        await client.open()
        await client.send(masked(TEXT, b'{"type":"auth","token":"' + cut[:1]))
        await client.send(masked(CONTINUATION, cut[1:2]))
        await client.send(masked(FIN | CONTINUATION, cut[2:] + b'"}'))
        assert await client.close_code() == 4401, "cut in three it is text all the same"


# -- floods ------------------------------------------------------------------------------------


async def talk(speaker: Socket, hearer: User, hearing: Socket, times: int) -> None:
    """So many messages, each of which is there before the next is sent."""
    for number in range(times):
        sent = await speaker.say(f"{number}", to=hearer.email)
        assert sent["type"] == "sent", sent
        assert (await hearing.next("message"))["id"] == sent["id"]


async def test_calls_beyond_the_limit_are_taken_later_and_none_is_lost(
    io_loop: Any, patient: Server
) -> None:
    """Seen to fail with a turn that comes at once, and with none for what is refused at sight."""
    chat = Chat(patient.url)
    ann, bob, carol, dave = [
        await chat.user(f"{name}@example.org") for name in ("ann", "bob", "carol", "dave")
    ]
    times = 40
    async with (
        ann.socket() as flooding,
        ann.socket() as beside,
        bob.socket() as other,
        carol.socket() as speaking,
        dave.socket() as hearing,
    ):
        for number in range(times):
            await other.send(type="send", to=ann.email, text=str(number))
        await flooding.next("message", where=lambda frame: bool(frame["seq"] == times))
        for seq in range(1, times + 1):
            await flooding.send(type="received", **{"from": bob.email}, seq=seq)
            await flooding.send(type="read", **{"from": bob.email}, seq=seq)
            await flooding.send(type="typing", to=bob.email)
            await flooding.send(type="auth", token=ann.token)
            await flooding.send(type="ping")
        await talk(speaking, dave, hearing, 30)
        assert len(flooding.of("pong")) < times, "who floods comes later"
        await eventually(lambda: len(flooding.of("pong")) == times)
        assert flooding.of("error") == []
        await eventually(lambda: len(other.of("typing")) == times)
        await eventually(lambda: len(beside.of("read")) == times)
        assert [frame["seq"] for frame in beside.of("read")] == list(range(1, times + 1))
        wrong: list[dict[str, Any]] = [
            {"type": "send", "to": 5},
            {"type": "send", "to": bob.email, "text": " "},
        ]
        for number in range(100):
            await flooding.send(**wrong[number % 2])
        await talk(speaking, dave, hearing, 20)
        assert len(flooding.of("error")) < 100
        await eventually(lambda: len(flooding.of("error")) == 100)
        assert {frame["code"] for frame in flooding.of("error")} == {"invalid"}
    chat.close()


async def test_too_many_messages_are_refused_and_then_end_the_socket(
    io_loop: Any, strict: Server
) -> None:
    """Seen to fail with a flood that never ends the socket."""
    chat = Chat(strict.url)
    ann, bob, carol = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "carol")]
    async with BareSocket(strict.url) as flooding, bob.socket() as b, carol.socket() as c:
        await flooding.open(ann.token)
        send = text(json.dumps({"type": "send", "to": bob.email, "text": "flood"}))
        await flooding.send(send * 1000)
        frames = await flooding.json_until("bye")
        assert await flooding.close_code() == 4429
        sent = [frame for frame in frames if frame["type"] == "sent"]
        refused = [frame for frame in frames if frame["type"] == "error"]
        assert {frame["code"] for frame in refused} == {"rate_limited"}
        assert all(frame["retry_after"] > 0 for frame in refused)
        await talk(b, carol, c, 2)
        # What was taken before the end is there, and nothing that was refused.
        history = (await ann.call("GET", f"/v1/users/{bob.email}/messages")).body["items"]
        assert 5 <= len(history) < 1000 - len(refused)
        await eventually(lambda: len(b.of("message")) == len(history))
        assert {frame["id"] for frame in sent} <= {message["id"] for message in history}
    async with ann.socket() as again:
        await again.settle()
    chat.close()


async def test_pings_whose_pongs_are_never_read_cost_no_memory(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with a Pong that is kept for each of them."""
    ann = await chat.user("ann@example.org")
    tokens = (ann.token, None)
    sockets = [BareSocket(server.url, deaf=True) for _ in tokens]
    before = server.resident_bytes()
    async with together(sockets):
        for client, token in zip(sockets, tokens, strict=True):
            await client.open(token)
            await client.send(masked(FIN | PING, b"x" * 125) * 100_000)
        async with ann.socket() as others:
            await others.settle()
        assert server.resident_bytes() - before < SLACK_BYTES
        for client in sockets:
            # The last of them is answered once what is there has been read.
            await client.send(masked(FIN | PING, b"last"))
            while (await client.frame()).payload != b"last":
                pass


async def test_frames_whose_answers_are_never_read_end_the_socket_and_cost_no_memory(
    io_loop: Any, server: Server, chat: Chat, scale: Scale, report: Report
) -> None:
    """Seen to fail with no limit to what waits for a connection."""
    ann = await chat.user("ann@example.org")
    # The system itself takes some megabytes of answers, and of pongs that is half a million.
    refused = text('{"type":"ping","%s":1}' % ("x" * 2000))
    flood = text('{"type":"ping"}') + scale(refused, b"")
    sent, before = 0, server.resident_bytes()
    async with BareSocket(server.url, deaf=True) as client:
        await client.open(ann.token)
        while not any(event["event"] == "socket.slow_consumer" for event in events(server)):
            await client.send(flood * 200)
            sent += 200
            assert server.resident_bytes() - before < SLACK_BYTES
        answers = await client.rest()
    report(f"cut after {sent} pings, with {len(answers)} bytes of answers underway")
    # Who reads again too late finds the socket closed, and no more.
    _, found, close = answers.rpartition(bytes((FIN | CLOSE,)))
    assert not found or close[1:3] == (4430).to_bytes(2, "big")
    async with ann.socket() as others:
        await others.settle()


async def test_who_has_not_said_who_they_are_is_told_little(
    io_loop: Any, server: Server, chat: Chat
) -> None:
    """Seen to fail with any number of wrong first frames, each of which is answered."""
    wrong = text('{"type":"auth","token":"x","%s":1}' % ("x" * 30_000))
    before = server.resident_bytes()
    for attack in (wrong, text('{"type":"auth","token":7}'), text("junk")):
        async with BareSocket(chat.url, deaf=True) as client:
            await client.open()
            await client.send(attack * 1000)
            assert await client.close_code() == 4400
    assert server.resident_bytes() - before < SLACK_BYTES
    for first in (
        {"type": "ping"},
        {"type": "send", "to": "ann@example.org", "text": "x"},
        {"type": "typing", "group": "python"},
        {"type": "read", "group": "python", "seq": 0},
        {"type": "resume", "epoch": "x", "cursors": []},
    ):
        async with BareSocket(chat.url) as client:
            await client.open()
            await client.say(**first)
            assert await client.close_code() == 4401, first


async def test_sockets_are_counted_for_each_user_and_each_address(
    io_loop: Any, strict: Server
) -> None:
    """Unauthenticated ones count for their address, and whatever they say, they end.

    Seen to fail with sockets that count for their address once they have authenticated, and with
    no end to those that never do.
    """
    chat = Chat(strict.url)
    ann, bob = [await chat.user(f"{name}@example.org") for name in ("ann", "bob")]

    async def refusal(user: User, door: str = "/v1/ws") -> bytes:
        async with BareSocket(strict.url) as client:
            return await client.shake(door, f"Authorization: Bearer {user.token}")

    async def chatter(client: BareSocket) -> None:
        """Say much, and never who it is."""
        await client.send(masked(TEXT, b'{"type":"auth","token":"'))
        while True:
            await client.send(masked(FIN | PING, b"still here") + masked(CONTINUATION, b"x"))
            await asyncio.sleep(0.2)

    own = [BareSocket(strict.url) for _ in range(OF_A_USER)]
    nobodies = [BareSocket(strict.url) for _ in range(OF_AN_ADDRESS - OF_A_USER)]
    async with together(own):
        for client in own:
            await client.open(ann.token)
        head = await refusal(ann)
        assert head.startswith(b"HTTP/1.1 429 "), head
        assert b"Retry-After: " in head
        async with BareSocket(strict.url) as late:
            await late.open()
            await late.say(type="auth", token=ann.token)
            assert await late.close_code() == 4429
        async with AsyncExitStack() as exits, together(nobodies):
            for client in nobodies:
                await client.open()
            for client in nobodies:
                exits.callback(asyncio.create_task(chatter(client)).cancel)
            for door in DOORS:
                head = await refusal(bob, door)
                assert head.startswith(b"HTTP/1.1 429 "), (door, head)
                assert b"Retry-After: " in head
            assert (await chat.call("GET", "/chat")).status == 200
            assert (await bob.call("GET", "/v1/users")).status == 200
            async with asyncio.timeout(30):
                codes = await asyncio.gather(*(one.close_code() for one in nobodies))
            assert codes == [4408] * len(nobodies)
        async with bob.socket() as b:
            await b.settle()
        for client in own:
            await client.send(text('{"type":"ping"}'))
            await client.json_until("pong")
    chat.close()


# -- what is not one's own ---------------------------------------------------------------------


async def test_nothing_of_others_is_told_or_changed(io_loop: Any, chat: Chat) -> None:
    """Seen to fail with frames about any group that there is, and with messages that anybody may
    read who knows their id."""
    ann, bob, eve = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "eve")]
    await ann.call("POST", "/v1/groups", {"name": "others"})
    await bob.join("others")
    messages = [await ann.say("secret", group="others"), await ann.say("secret", user=bob.email)]
    pair = f"{ann.email} {bob.email}"
    names = (pair, f"u:{pair}", "g:others", "*", "u:*", "")
    groups = ("g:others", f"u:{pair}", "u:", "*", "oth*", "others\0", "others/../others", "")
    async with ann.socket() as a, bob.socket() as b, eve.socket() as e:

        async def code(**frame: object) -> str:
            await e.send(**frame)
            return str((await e.next("error"))["code"])

        for kind, target, more in (
            ("send", "to", {"text": "x"}),
            ("typing", "to", {}),
            ("read", "from", {"seq": 1}),
            ("received", "from", {"seq": 1}),
        ):
            # Only who would write there is told that there is such a group.
            expected = "not_a_member" if kind == "send" else "unknown_group"
            for group in ("others", "OTHERS "):
                assert await code(type=kind, group=group, **more) == expected, (kind, group)
            for group in groups:
                assert await code(type=kind, group=group, **more) == "unknown_group", group
            for name in names:
                found = await code(type=kind, **{target: name}, **more)
                assert found == "unknown_user", (kind, name)
            both = {"to": ann.email, "from": bob.email}
            assert await code(type=kind, **both, **more) == "invalid"
        for kind in ("read", "received"):
            # Her own conversation with them has no message.
            assert await code(type=kind, **{"from": ann.email}, seq=1) == "invalid"
        ids = [*[one["id"] for one in messages], "0" * 36, "x", "%00"]
        answers = [await eve.call("GET", f"/v1/messages/{id_}") for id_ in ids]
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body["detail"] for answer in answers}) == 1
        for path in ("messages", "members"):
            assert (await eve.call("GET", f"/v1/groups/others/{path}")).status == 403
        marks = {"delivered_seq": 1, "read_seq": 1}
        assert (await eve.call("POST", "/v1/groups/others/receipts", marks)).status == 403
        assert (await eve.call("GET", f"/v1/users/{ann.email}/messages")).body["items"] == []
        assert (await eve.call("GET", "/v1/me/conversations")).body["items"] == []
        for one in (a, b, e):
            await one.settle()
        assert texts(e.of("message")) == []
        heard = [frame for frame in (*a.frames, *b.frames) if frame.get("from") == eve.email]
        assert heard == []
    # Nor did any mark of theirs move: bob has read nothing.
    conversations = (await bob.call("GET", "/v1/me/conversations")).body["items"]
    assert [one["read_seq"] for one in conversations] == [0, 0]
    for name, status in (("others", 403), ("nowhere", 404)):
        door = f"/group/{name}/connect"
        async with BareSocket(chat.url) as client:
            head = await client.shake(door, f"Authorization: Bearer {eve.token}")
            assert int(head.split(b" ")[1]) == status
        async with BareSocket(chat.url) as client:
            await client.open(path=door)
            await client.say(type="auth", token=eve.token)
            assert await client.close_code() == 4000 + status


async def test_foreign_cursors_bring_nothing_and_absurd_ones_do_no_harm(
    io_loop: Any, chat: Chat
) -> None:
    """Seen to fail with a replay of whatever a cursor names."""
    ann, bob, eve = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "eve")]
    await ann.call("POST", "/v1/groups", {"name": "circle"})
    for _ in range(3):
        await ann.say("secret", group="circle")
        await ann.say("secret", user=bob.email)
    own = await ann.say("for eve", user=eve.email)
    pair = f"{ann.email} {bob.email}"
    foreign: list[dict[str, object]] = [
        {"group": "circle", "seq": 0},
        {"user": pair, "seq": 0},
        {"user": f"{eve.email} {ann.email}", "seq": 0},
        {"group": f"u:{pair}", "seq": 0},
        {"user": "", "seq": 0},
        {"group": "", "seq": 2**53 - 1},
        {"user": "😀" * 50, "seq": 1},
    ]
    thousand = [{"user": f"{number}", "seq": number} for number in range(1000)]
    beyond = [{"user": ann.email, "seq": 2**53 - 1}]

    async def resumed(*cursors: object) -> list[dict[str, Any]]:
        """What comes behind hello, up to ready or an error."""
        async with BareSocket(chat.url) as client:
            path = "/v1/ws?replay=resume&receipts=explicit"
            await client.shake(path, f"Authorization: Bearer {eve.token}")
            (hello,) = await client.json_until("hello")
            await client.say(type="resume", epoch=hello["epoch"], cursors=cursors)
            frames: list[dict[str, Any]] = []
            while not frames or frames[-1]["type"] not in ("ready", "error"):
                frames.append((await client.frame()).json)
            return frames

    for cursors in (foreign, thousand, beyond, foreign * 20):
        *replayed, end = await resumed(*cursors)
        assert end["type"] == "ready", end
        assert [frame["id"] for frame in replayed] == [own["id"]]
    (end,) = await resumed({"user": ann.email, "seq": own["seq"]}, *foreign)
    assert end["type"] == "ready", "nothing is behind that"
    for seq in (2**53, -1, 1.5, "1", None, 10**400):
        (error,) = await resumed({"user": ann.email, "seq": seq})
        assert (error["type"], error["code"]) == ("error", "invalid"), seq
    wrong: tuple[object, ...] = (
        {"seq": 1},
        {"user": ann.email, "group": "circle", "seq": 1},
        [],
        "x",
        None,
    )
    for cursor in wrong:
        (error,) = await resumed(cursor)
        assert (error["type"], error["code"]) == ("error", "invalid"), cursor
    async with BareSocket(chat.url) as client:
        await client.shake("/v1/ws?replay=resume", f"Authorization: Bearer {eve.token}")
        await client.say(type="resume", epoch="x", cursors=thousand * 3)
        assert await client.close_code() == 1009
