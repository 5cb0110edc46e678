"""Connections byte by byte: to send what no library would, and to read only when told to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from tests.chat import PATIENCE

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80
MASKED: Final = 0x80

_SMALL_BUFFER: Final = 4096
_READ_BYTES: Final = 65_536
_ESTABLISHED: Final = bytes((1,))


class Bare:
    """A TCP connection to enter with ``async with``."""

    def __init__(self, url: str, *, deaf: bool = False) -> None:
        """``deaf``: the system is to keep as little as it can of what is not read."""
        address = urlsplit(url)
        self.netloc = address.netloc
        self._address = (address.hostname, address.port)
        self._deaf = deaf
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._data = bytearray()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        if self._deaf:
            # Before it connects, or the system has agreed to more.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_connect(self._socket, self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Return once the system has all of it, or the server has hung up."""
        with suppress(ConnectionError):
            await self._loop.sock_sendall(self._socket, data)

    async def request(self, line: str, *headers: str, body: bytes = b"") -> None:
        """Send a request as it stands; a Host, the server's own, is added where none is given."""
        lines = [line, *headers]
        if not any(header.lower().startswith("host") for header in headers):
            lines.append(f"Host: {self.netloc}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def until(self, marker: bytes, patience: float = PATIENCE) -> bytes:
        """What comes up to and with ``marker``; all there is where it never comes."""
        async with asyncio.timeout(patience):
            while marker not in self._data and await self._more():
                pass
        at = self._data.find(marker)
        return self._taken(len(self._data) if at < 0 else at + len(marker))

    async def exactly(self, size: int, patience: float = PATIENCE) -> bytes:
        async with asyncio.timeout(patience):
            while len(self._data) < size:
                assert await self._more(), f"ended behind {bytes(self._data)!r}"
        return self._taken(size)

    async def rest(self, patience: float = PATIENCE) -> bytes:
        """All that comes until the server hangs up, as it must."""
        async with asyncio.timeout(patience):
            while await self._more():
                pass
        return self._taken(len(self._data))

    def is_connected(self) -> bool:
        """Whether neither side has ended it, as far as the system knows (Linux)."""
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state == _ESTABLISHED

    async def _more(self) -> bool:
        part = b""
        with suppress(ConnectionError):
            part = await self._loop.sock_recv(self._socket, _READ_BYTES)
        self._data += part
        return bool(part)

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


class Frame(NamedTuple):
    """One frame of the server's."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        assert self.opcode == TEXT, self
        return dict(json.loads(self.payload))


class BareSocket(Bare):
    """A WebSocket that answers no Ping, no Close, nothing by itself."""

    async def open(self, token: str | None = None, path: str = "/v1/ws?replay=none") -> Self:
        """Shake hands; with a token, return behind ``hello``."""
        head = await self.shake(path, *([f"Authorization: Bearer {token}"] if token else []))
        assert head.startswith(b"HTTP/1.1 101 "), head
        if token:
            assert (await self.frame()).json["type"] == "hello"
        return self

    async def shake(
        self, path: str, *headers: str, behind: bytes = b"", version: str = "HTTP/1.1"
    ) -> bytes:
        """The head of the answer to a handshake with these headers, and ``behind`` behind it."""
        await self.request(f"GET {path} {version}", *HANDSHAKE, *headers, body=behind)
        return await self.until(b"\r\n\r\n")

    async def frame(self, patience: float = PATIENCE) -> Frame:
        first, second = await self.exactly(2, patience)
        size = second
        if second >= 126:
            extended = await self.exactly(2 if second == 126 else 8, patience)
            size = int.from_bytes(extended, "big")
        return Frame(first & 0x0F, await self.exactly(size, patience))

    async def json_until(self, kind: str) -> list[dict[str, Any]]:
        """The JSON frames up to the first of this type, and that one."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["type"] != kind:
            frame = await self.frame()
            if frame.opcode == TEXT:
                found.append(frame.json)
            else:
                assert frame.opcode != CLOSE, (frame, found)
        return found

    async def close_code(self, patience: float = PATIENCE) -> int:
        """The code the server closes with; what it says before that is passed over."""
        while (frame := await self.frame(patience)).opcode != CLOSE:
            pass
        return int.from_bytes(frame.payload[:2], "big")

    async def say(self, **frame: object) -> None:
        await self.send(text(json.dumps(frame)))


HANDSHAKE: Final = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def masked(first: int, payload: bytes) -> bytes:
    """A frame as clients send it; ``first`` is its whole first byte."""
    size = len(payload)
    if size < 126:
        head = bytes((first, MASKED | size))
    elif size < 65_536:
        head = bytes((first, MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = declared(first, size)
    # A mask of zeros is a mask too, and leaves the payload as it is.
    return head + bytes(4) + payload


def declared(first: int, size: int) -> bytes:
    """The head of a frame, without its mask, that declares so many bytes."""
    return bytes((first, MASKED | 127)) + size.to_bytes(8, "big")


def text(payload: str | bytes) -> bytes:
    """A whole text message."""
    return masked(FIN | TEXT, payload.encode() if isinstance(payload, str) else payload)


@asynccontextmanager
async def together(sockets: Sequence[Bare]) -> AsyncIterator[Sequence[Bare]]:
    """All of these, connected; closed in the end."""
    try:
        for one in sockets:
            await one.__aenter__()
        yield sockets
    finally:
        for one in sockets:
            one.close()
