"""Tornado's WebSocket protocol, made fast: many frames a read, whole frames a write.

The opening and the closing handshake are Tornado's own. Reading is not: `WebSocketProtocol13`
awaits three or four futures for each frame, where a chunk of the socket's may hold hundreds
(`chatd.framing`). Writing hands whole frames straight to the system as long as it takes them.

All that is leaned on beyond Tornado's public API is named in `Wire`: the methods it overrides and
the attributes it uses. ``tests/test_wire.py`` says so when a new Tornado changes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import Future
from collections.abc import Awaitable, Iterator
from typing import Any, Final, cast

from tornado.iostream import IOStream, StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from chatd.framing import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Event,
    FrameReader,
    FramingError,
    close_code,
)

_CHUNK: Final = 65536
_TURN_SECONDS: Final = 0.002
"""How long one client may hold the loop before the others get their turn."""


class Wire(WebSocketProtocol13):
    """The server's side of one WebSocket; a `chatd.connection.Transport`."""

    def __init__(self, handler: WebSocketHandler, max_message_size: int) -> None:
        """``max_message_size`` in bytes, for a whole message: a larger one closes with 1009.

        Tornado's own Pings stay off: chatd's carry receipts, and keep alive as well.
        """
        super().__init__(handler, False, _WebSocketParams(max_message_size=max_message_size))
        self._reader = FrameReader(max_message_size, _websocket_mask)
        self._events: Iterator[Event] | None = None
        self._last_write: Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time

    # -- out ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand whole frames to the system, or to the stream what the system does not take.

        Nothing happens once the socket is gone.
        """
        if self.is_closing():
            return
        stream = self.stream
        # A TLS stream has no bytes of its own to send, and what waits already goes first.
        if type(stream) is IOStream and not stream.writing():
            try:
                sent = stream.socket.send(data)
            except OSError:
                # Not now, or never again: the stream finds out which.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        with contextlib.suppress(StreamClosedError):
            self._last_write = stream.write(data)

    def backlog(self) -> int:
        """Bytes the stream keeps because the system would not take them yet."""
        return 0 if self.stream.closed() else len(self.stream._write_buffer)

    async def drained(self) -> None:
        """Return once everything written so far is with the system, or the socket is gone."""
        if self._last_write is not None:
            await asyncio.wait([self._last_write])

    # -- in ----------------------------------------------------------------------------------

    async def _receive_frame_loop(self) -> None:
        # From here on callbacks read. A coroutine that waits for bytes, with all those that wait
        # for it, would cost each idle connection some kilobytes.
        self._go_on()

    def _go_on(self, done: Future[Any] | None = None) -> None:
        """Read and take frames until there are none, one has to wait, or the turn is over.

        ``done`` is what was waited for: bytes, or what a frame asked for.
        """
        until = self._now() + _TURN_SECONDS
        try:
            if done is not None:
                done.result()
            while not self.client_terminated:
                if self._events is None:
                    read = done or self._read()
                    done = None
                    if not read.done():
                        read.add_done_callback(self._go_on)
                        return
                    self._events = self._reader.feed(read.result())
                if not self._take_events(self._events, until):
                    return
                self._events, done = None, None
        except FramingError as error:
            self.close(error.code, error.reason)
            self._abort()
        except (StreamClosedError, asyncio.CancelledError):
            self._abort()
        except Exception:
            self.handler.log_exception(*sys.exc_info())
            self._abort()
        self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    def _read(self) -> Future[bytes]:
        """Some bytes, at once where the stream has them."""
        return cast("Future[bytes]", self.stream.read_bytes(_CHUNK, partial=True))

    def _take_events(self, events: Iterator[Event], until: float) -> bool:
        """Take what a chunk held; False where `_go_on` is called again for the rest."""
        for opcode, payload in events:
            waiting = self._take(opcode, payload)
            if waiting is not None:
                asyncio.ensure_future(waiting).add_done_callback(self._go_on)
                return False
            if self._now() > until:
                self._loop.call_soon(self._go_on)
                return False
        return True

    def _take(self, opcode: int, payload: str | bytes) -> Awaitable[None] | None:
        """Do what one message or control frame asks for; a result is to be awaited."""
        if opcode in (TEXT, BINARY):
            return self.handler.on_message(payload)
        assert isinstance(payload, bytes)
        if opcode == PONG:
            self.handler.on_pong(payload)
        elif opcode == PING:
            self._send_pong(payload)
        else:
            self.client_terminated = True
            self.close_code = close_code(payload)
            self.close_reason = payload[2:].decode() if len(payload) > 2 else None
            # Echoed, if there is one (RFC 6455 section 5.5.1).
            self.close(self.close_code)
        return None
