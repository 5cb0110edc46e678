"""Tornado's WebSocket protocol, written to the way chatd writes: whole frames, once a turn.

The handshake, reading, fragmentation, Pongs and the closing handshake are Tornado's own. All
that is leaned on beyond Tornado's public API stands in `Wire.backlog` and in the methods that
are overridden; ``tests/test_wire.py`` says so when a new Tornado changes them.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Future

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from chatd.errors import CloseCode

_TEXT = 0x1


class Wire(WebSocketProtocol13):
    """The server's side of one WebSocket; a `chatd.connection.Transport`."""

    def __init__(self, handler: WebSocketHandler, max_message_size: int) -> None:
        """``max_message_size`` in bytes, for a whole message: a larger one closes with 1009.

        Tornado's own Pings stay off: chatd's carry receipts, and keep alive as well.
        """
        super().__init__(handler, False, _WebSocketParams(max_message_size=max_message_size))
        self._last_write: Future[None] | None = None

    def write(self, data: bytes) -> None:
        """Hand whole frames to the stream; nothing happens once the socket is gone."""
        if self.is_closing():
            return
        with contextlib.suppress(StreamClosedError):
            self._last_write = self.stream.write(data)

    def backlog(self) -> int:
        """Bytes the stream keeps because the system would not take them yet."""
        return 0 if self.stream.closed() else len(self.stream._write_buffer)

    async def drained(self) -> None:
        """Return once everything written so far is with the system, or the socket is gone."""
        if self._last_write is not None:
            await asyncio.wait([self._last_write])

    async def _receive_frame(self) -> None:
        self._frame_mask = None
        await super()._receive_frame()
        if self._frame_mask is None:
            self._abort()

    def _handle_message(self, opcode: int, data: bytes) -> Future[None] | None:
        # RFC 6455 section 5.1: a server takes no frame that is not masked, where Tornado would.
        if self._frame_mask is None:
            self._abort()
            return None
        # RFC 6455 section 8.1: text that is not UTF-8 fails the connection with 1007, where
        # Tornado would drop it without a word.
        if opcode == _TEXT and not self._frame_compressed:
            try:
                data.decode()
            except UnicodeDecodeError:
                self.close(CloseCode.INVALID_UTF8, "text frames are UTF-8")
                self._abort()
                return None
        return super()._handle_message(opcode, data)

    def _abort(self) -> None:
        # RFC 6455 section 7.1.7: say why. What Tornado aborts unsaid, once it has read, is a
        # frame that it can't take.
        if self._wire_bytes_in and not self.is_closing():
            self.close(CloseCode.PROTOCOL_ERROR, "not a frame that RFC 6455 allows")
        super()._abort()
