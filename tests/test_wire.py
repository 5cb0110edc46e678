from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.util import _websocket_mask
from tornado.web import Application
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from chatd.channel import Channel
from chatd.errors import CloseCode
from chatd.frames import websocket_frame
from chatd.wire import Wire, _taken_from
from tests.chat import PATIENCE, eventually

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
FIN, MASKED = 0x80, 0x80
LIMIT = 1000


class Echo(WebSocketHandler):
    """Writes every message back, as one whole frame."""

    def initialize(self, echoes: list[Echo]) -> None:
        echoes.append(self)
        self.pongs: list[bytes] = []
        self.messages: list[str | bytes] = []
        self.ended = False

    def get_websocket_protocol(self) -> Wire:
        self.wire = Wire(self, LIMIT)
        return self.wire

    def on_message(self, message: str | bytes) -> None:
        self.messages.append(message)
        data = message.encode() if isinstance(message, str) else message
        self.wire.write(websocket_frame(TEXT, data))

    def note(self, message: str | bytes) -> None:
        self.messages.append(message)

    def on_pong(self, data: bytes) -> None:
        self.pongs.append(data)

    def on_close(self) -> None:
        self.ended = True


class Client:
    """A client that reads only when it is told to."""

    def __init__(self, connected: socket.socket, echo: Echo) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self.echo = echo
        self.wire = echo.wire

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(self._loop.sock_sendall(self._socket, data), PATIENCE)

    async def read(self, size: int) -> bytes:
        while len(self._data) < size:
            more = self._loop.sock_recv(self._socket, 1 << 16)
            data = await asyncio.wait_for(more, PATIENCE)
            assert data, "the server has closed"
            self._data += data
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    async def frame(self) -> tuple[int, bytes]:
        head = await self.read(2)
        assert head[1] < 126, "a short one"
        return head[0] & 0x0F, await self.read(head[1])

    async def close_code(self) -> int:
        """The code of the close frame, which must be what comes next."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE
        return int.from_bytes(payload[:2], "big")

    async def ended(self) -> None:
        """Return once the server has let go of the connection, having said no more."""
        rest = await asyncio.wait_for(self._loop.sock_recv(self._socket, 1), PATIENCE)
        assert self._data + rest == b""
        await eventually(lambda: self.echo.ended)

    def close(self) -> None:
        self._socket.close()


def masked(opcode: int, payload: bytes, *, fin: int = FIN, mask: bytes = b"mask") -> bytes:
    """A frame as clients send it."""
    length = len(payload)
    size = bytes([MASKED | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([fin | opcode]) + size + mask + hidden


@asynccontextmanager
async def shaken_hands(behind: bytes = b"") -> AsyncIterator[Client]:
    """A client that has sent this right behind its handshake, and read the answer to that."""
    echoes: list[Echo] = []
    server = HTTPServer(Application([("/", Echo, {"echoes": echoes})]))
    (listening,) = bind_sockets(0, "127.0.0.1")
    server.add_socket(listening)
    connected = socket.socket()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connected.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connected, listening.getsockname())
    await loop.sock_sendall(
        connected,
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        + behind,
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await asyncio.wait_for(loop.sock_recv(connected, 1), PATIENCE)
    assert answer.startswith(b"HTTP/1.1 101 ")
    client = Client(connected, echoes[0])
    yield client
    client.close()
    server.stop()
    await eventually(lambda: client.echo.ended)


@pytest.fixture
async def client(io_loop: Any) -> AsyncIterator[Client]:
    async with shaken_hands() as client:
        yield client


async def test_what_comes_with_the_handshake_is_taken_too(io_loop: Any) -> None:
    second = masked(TEXT, b"two")
    async with shaken_hands(masked(TEXT, b"one") + second[:5]) as client:
        assert await client.frame() == (TEXT, b"one")
        await client.send(second[5:])
        assert await client.frame() == (TEXT, b"two")


@pytest.mark.parametrize("gone", [True, False], ids=["is gone", "does not read the answer"])
async def test_nothing_is_kept_of_a_peer_that_during_its_handshake(
    io_loop: Any, gone: bool
) -> None:
    near, far = socket.socketpair()
    stream = IOStream(near)
    if gone:
        stream.close()
    else:
        stream.write(b"x" * 10_000_000).add_done_callback(lambda written: written.exception())
    connected, behind = _taken_from(stream)
    far.close()
    assert stream.closed()
    assert (connected.fileno(), behind) == (-1, b"")


async def test_whole_frames_are_written_as_they_are(io_loop: Any, client: Client) -> None:
    client.wire.write(websocket_frame(TEXT, b"one") + websocket_frame(PING, b"2"))
    await client.send(masked(TEXT, "drei ✓".encode()))
    assert await client.frame() == (TEXT, b"one")
    assert await client.frame() == (PING, b"2")
    assert await client.frame() == (TEXT, "drei ✓".encode())


async def test_pongs_are_handed_on(io_loop: Any, client: Client) -> None:
    await client.send(masked(PONG, b"\0\1") + masked(PONG, b""))
    await eventually(lambda: client.echo.pongs == [b"\0\1", b""])


async def test_the_backlog_grows_while_the_peer_does_not_read_and_goes_when_it_does(
    io_loop: Any, client: Client
) -> None:
    wire, frame, written = client.wire, websocket_frame(TEXT, b"x" * 100_000), 0
    assert wire.backlog() == 0
    while wire.backlog() < 1_000_000:
        wire.write(frame)
        written += len(frame)
    backlog = wire.backlog()
    wire.write(frame)
    assert wire.backlog() == backlog + len(frame)
    drained = asyncio.create_task(wire.drained())
    await asyncio.sleep(0.02)
    assert not drained.done()
    assert await client.read(written + len(frame)) == frame * (written // len(frame) + 1)
    await asyncio.wait_for(drained, PATIENCE)
    assert wire.backlog() == 0


async def test_with_nothing_written_all_is_drained(io_loop: Any, client: Client) -> None:
    await asyncio.wait_for(client.wire.drained(), PATIENCE)


async def test_who_waits_for_a_peer_that_goes_away_waits_no_longer(
    io_loop: Any, client: Client
) -> None:
    while client.wire.backlog() < 1_000_000:
        client.wire.write(b"x" * 100_000)
    drained = asyncio.create_task(client.wire.drained())
    await asyncio.sleep(0)
    client.close()
    await asyncio.wait_for(drained, PATIENCE)
    await eventually(lambda: client.echo.ended)
    assert client.wire.backlog() == 0
    client.wire.write(b"nothing happens")
    await asyncio.wait_for(client.wire.drained(), PATIENCE)


async def test_one_who_gives_up_waiting_takes_nobody_along(io_loop: Any, client: Client) -> None:
    while client.wire.backlog() < 1_000_000:
        client.wire.write(b"x" * 100_000)
    patient, impatient = [asyncio.create_task(client.wire.drained()) for _ in range(2)]
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    assert not patient.done()
    client.close()
    await asyncio.wait_for(patient, PATIENCE)


async def test_closing_says_why_behind_what_was_written_and_nothing_more(
    io_loop: Any, client: Client
) -> None:
    client.wire.write(websocket_frame(TEXT, b"bye"))
    client.wire.close(CloseCode.SLOW_CONSUMER, "slow consumer")
    client.wire.write(websocket_frame(TEXT, b"too late"))
    assert await client.frame() == (TEXT, b"bye")
    assert await client.frame() == (CLOSE, (4430).to_bytes(2, "big") + b"slow consumer")
    await client.send(masked(CLOSE, (4430).to_bytes(2, "big")))
    await client.ended()


async def test_who_is_dropped_still_gets_what_was_written_and_need_not_answer(
    io_loop: Any, client: Client
) -> None:
    client.wire.write(websocket_frame(TEXT, b"bye"))
    client.wire.close(CloseCode.TIMEOUT, "no Pong in time")
    client.wire.drop()
    assert client.wire.stream.closed()
    assert not client.echo.ended, "told in a turn of its own"
    client.wire.write(websocket_frame(TEXT, b"too late"))
    assert await client.frame() == (TEXT, b"bye")
    assert await client.frame() == (CLOSE, (4408).to_bytes(2, "big") + b"no Pong in time")
    await client.ended()


async def test_nothing_is_kept_for_who_is_dropped(io_loop: Any, client: Client) -> None:
    while client.wire.backlog() < 1_000_000:
        client.wire.write(b"x" * 100_000)
    client.wire.close(CloseCode.TIMEOUT, "no Pong in time")
    client.wire.drop()
    assert client.wire.backlog() == 0
    await eventually(lambda: client.echo.ended)


async def test_a_peer_is_heard_but_while_a_frame_of_its_waits(io_loop: Any, client: Client) -> None:
    let_go = asyncio.Event()

    async def slow(message: str | bytes) -> None:
        client.echo.messages.append(message)
        await let_go.wait()

    client.echo.on_message = slow  # type: ignore[method-assign, assignment]
    assert client.wire.hears()
    await client.send(masked(TEXT, b"x"))
    await eventually(lambda: client.echo.messages == ["x"])
    assert not client.wire.hears()
    let_go.set()
    await eventually(client.wire.hears)


# -- what is refused ---------------------------------------------------------------------------

CUT = "✓".encode()


@pytest.mark.parametrize(
    "frames",
    [
        masked(TEXT, b"\xff\xfe"),
        masked(TEXT, CUT[:2]),
        masked(TEXT, b"\xed\xa0\x80"),
        masked(TEXT, b"fine", fin=0) + masked(CONTINUATION, b"\xff"),
    ],
    ids=["no utf-8", "cut off", "surrogate", "in a fragment"],
)
async def test_text_that_is_not_utf_8_closes_with_1007(
    io_loop: Any, client: Client, frames: bytes
) -> None:
    await client.send(frames)
    assert await client.close_code() == CloseCode.INVALID_UTF8
    await client.ended()
    assert client.echo.messages == []


async def test_a_character_may_be_cut_in_two_by_fragments(io_loop: Any, client: Client) -> None:
    frames = masked(TEXT, CUT[:2], fin=0) + masked(PING, b"!") + masked(CONTINUATION, CUT[2:])
    await client.send(frames)
    assert await client.frame() == (PONG, b"!")
    assert await client.frame() == (TEXT, CUT)


async def test_binary_data_need_not_be_utf_8(io_loop: Any, client: Client) -> None:
    await client.send(masked(BINARY, b"\xff"))
    assert await client.frame() == (TEXT, b"\xff")


@pytest.mark.parametrize(
    "frames",
    [
        masked(TEXT, b"x" * (LIMIT + 1))[:8],
        masked(TEXT, b"x" * LIMIT, fin=0) + masked(CONTINUATION, b"x"),
        bytes([FIN | TEXT, MASKED | 127]) + (1 << 62).to_bytes(8, "big"),
    ],
    ids=["declared", "in fragments", "absurd"],
)
async def test_too_long_a_message_closes_with_1009_unread(
    io_loop: Any, client: Client, frames: bytes
) -> None:
    await client.send(frames)
    assert await client.close_code() == CloseCode.TOO_BIG
    assert client.echo.messages == []


async def test_a_message_of_just_the_limit_is_taken(io_loop: Any, client: Client) -> None:
    await client.send(masked(TEXT, b"x" * LIMIT))
    await eventually(lambda: client.echo.messages == ["x" * LIMIT])


@pytest.mark.parametrize(
    "frames",
    [
        websocket_frame(TEXT, b"bare"),
        bytes([TEXT, 4]) + b"bare" + masked(CONTINUATION, b"x"),
        masked(TEXT, b"x", fin=0) + websocket_frame(CONTINUATION, b"bare"),
        masked(TEXT, b"x", fin=FIN | 0x40),
        masked(0x3, b"x"),
        masked(0xB, b"x"),
        masked(PING, b"x", fin=0),
        masked(PING, b"x" * 126),
        masked(CONTINUATION, b"x"),
        masked(TEXT, b"x", fin=0) + masked(TEXT, b"x"),
    ],
    ids=[
        "unmasked",
        "unmasked fragment",
        "unmasked end",
        "reserved bit",
        "unknown opcode",
        "unknown control opcode",
        "fragmented control frame",
        "long control frame",
        "continuation of nothing",
        "new message inside another",
    ],
)
async def test_what_rfc_6455_forbids_closes_with_1002(
    io_loop: Any, client: Client, frames: bytes
) -> None:
    await client.send(frames)
    assert await client.close_code() == CloseCode.PROTOCOL_ERROR
    await eventually(lambda: client.echo.ended)
    assert client.echo.messages == []


# -- turns --------------------------------------------------------------------------------------


async def test_who_floods_does_not_hold_the_loop(io_loop: Any, client: Client) -> None:
    loop, turns = asyncio.get_running_loop(), []

    def turn() -> None:
        turns.append(len(client.echo.messages))
        loop.call_soon(turn)

    client.echo.on_message = client.echo.note  # type: ignore[method-assign]
    flood = masked(TEXT, b"x") * 100_000
    sending = asyncio.create_task(client.send(flood))
    loop.call_soon(turn)
    await eventually(lambda: len(client.echo.messages) == 100_000)
    await sending
    longest = max(after - before for before, after in pairwise(turns))
    # A chunk holds more than nine thousand of these, and not one of them may be all of a turn.
    assert longest < 20_000
    assert len([turn for turn in pairwise(turns) if turn[0] != turn[1]]) > 10


async def test_what_a_message_asks_for_is_done_before_the_next_is_taken(
    io_loop: Any, client: Client
) -> None:
    let_go = asyncio.Event()

    async def slow(message: str | bytes) -> None:
        if message == "slow":
            await let_go.wait()
        client.echo.messages.append(message)

    client.echo.on_message = slow  # type: ignore[method-assign, assignment]
    await client.send(b"".join(masked(TEXT, text) for text in (b"one", b"slow", b"three")))
    await eventually(lambda: client.echo.messages == ["one"])
    await client.send(masked(TEXT, b"four"))
    await asyncio.sleep(0.02)
    assert client.echo.messages == ["one"]
    let_go.set()
    await eventually(lambda: client.echo.messages == ["one", "slow", "three", "four"])


async def test_a_handler_that_fails_ends_the_connection(
    io_loop: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: str | bytes) -> None:
        raise RuntimeError("on purpose")

    client.echo.on_message = fail  # type: ignore[method-assign]
    await client.send(masked(TEXT, b"x"))
    await client.ended()
    assert "on purpose" in caplog.text


# -- Tornado -----------------------------------------------------------------------------------


OVERRIDDEN = {
    "__init__": ["self", "handler", "mask_outgoing", "params"],
    "_receive_frame_loop": ["self"],
    "_write_frame": ["self", "fin", "opcode", "data", "flags"],
}
CALLED = {
    "_abort": ["self"],
    "_send_pong": ["self", "data"],
    "close": ["self", "code", "reason"],
    "is_closing": ["self"],
}


@pytest.mark.parametrize(("name", "parameters"), [*OVERRIDDEN.items(), *CALLED.items()])
def test_tornado_still_has_the_methods_that_wire_leans_on(name: str, parameters: list[str]) -> None:
    """These are no public API: read chatd/wire.py again before a new Tornado is allowed in."""
    method = getattr(WebSocketProtocol13, name, None)
    assert method is not None, f"WebSocketProtocol13.{name} is gone"
    assert list(inspect.signature(method).parameters) == parameters, (
        f"WebSocketProtocol13.{name} takes other arguments now"
    )


async def test_tornado_still_has_the_attributes_that_wire_leans_on(
    io_loop: Any, client: Client
) -> None:
    wire = client.wire
    assert type(wire.stream) is Channel, "Tornado hands the stream over by another attribute now"
    for name in ("client_terminated", "server_terminated", "close_code", "close_reason"):
        assert name in vars(wire), f"WebSocketProtocol13 has no {name} any more"
    assert wire.params.max_message_size == LIMIT, "_WebSocketParams has no max_message_size now"
    assert _websocket_mask(b"mask", b"\0\0\0\0\0") == b"maskm", "tornado.util masks otherwise now"


async def test_tornado_still_keeps_what_comes_behind_a_handshake_where_wire_looks(
    io_loop: Any,
) -> None:
    near, far = socket.socketpair()
    far.sendall(b"GET / HTTP/1.1\r\n\r\nbehind")
    stream = IOStream(near)
    await stream.read_until(b"\r\n\r\n")
    assert bytes(stream._read_buffer) == b"behind", "IOStream._read_buffer is another thing now"
    stream.close()
    far.close()
