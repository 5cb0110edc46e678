"""Tornado's WebSocket protocol, made fast: many frames a read, whole frames a write.

The opening and the closing handshake are Tornado's own. Reading is not: `WebSocketProtocol13`
awaits three or four futures for each frame, where a chunk of the socket's may hold hundreds
(`chatd.framing`). Nor is the socket Tornado's any longer (`chatd.channel`).

All that is leaned on beyond Tornado's public API is named in `Wire` and in `_taken_from`: the
methods it overrides and the attributes it uses. ``tests/test_wire.py`` says so when a new Tornado
changes them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import Future
from collections.abc import Awaitable, Iterator
from typing import Any, Final

from tornado.iostream import IOStream, StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from chatd.channel import Channel, give_up_on_the_deaf
from chatd.frames import websocket_frame
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

_TURN_SECONDS: Final = 0.002
"""How long one client may hold the loop before the others get their turn."""


class Wire(WebSocketProtocol13):
    """The server's side of one WebSocket; a `chatd.connection.Transport`."""

    _channel: Channel | None = None

    def __init__(self, handler: WebSocketHandler, max_message_size: int) -> None:
        """``max_message_size`` in bytes, for a whole message: a larger one closes with 1009.

        Tornado's own Pings stay off: chatd's carry receipts, and keep alive as well.
        """
        super().__init__(handler, False, _WebSocketParams(max_message_size=max_message_size))
        self._reader = FrameReader(max_message_size, _websocket_mask)
        self._events: Iterator[Event] = iter(())
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time

    @property
    def stream(self) -> Any:
        """What Tornado's own methods write to and close: no `IOStream`, but the channel."""
        return self._channel

    @stream.setter
    def stream(self, stream: IOStream | None) -> None:
        # Where Tornado hands over the stream of the handshake; None is the absence of one.
        if stream is not None:
            connected, behind = _taken_from(stream)
            self._channel = Channel(connected, self._take_bytes, self._end)
            self._events = self._reader.feed(behind)

    # -- out ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Hand over whole frames; how many bytes are kept as the system would not take them yet.

        Nothing happens once either side has begun to close.
        """
        if self._channel is None or self.server_terminated or self.client_terminated:
            return 0
        return self._channel.write(data)

    def backlog(self) -> int:
        """Bytes that are kept because the system would not take them yet."""
        return 0 if self._channel is None else self._channel.backlog()

    async def drained(self) -> None:
        """Return once everything written so far is with the system, or the socket is gone."""
        if self._channel is not None:
            # Others may wait for the same: who gives up takes nobody along.
            await asyncio.wait([self._channel.all_sent()])

    def hears(self) -> bool:
        """Whether what the peer sends is being read; not so while a frame of its waits."""
        return self._channel is not None and self._channel.reading

    def drop(self) -> None:
        """Let go of the socket now, whether the peer has answered the closing handshake or not.

        What the system has taken still leaves; what it would not take yet is lost.
        """
        self._abort()

    def _write_frame(self, fin: bool, opcode: int, data: bytes, flags: int = 0) -> Future[None]:
        """What Tornado's own methods say: always whole frames, never compressed ones."""
        if self._channel is None or self._channel.closed():
            raise StreamClosedError
        self._channel.write(websocket_frame(opcode, data))
        return self._channel.all_sent()

    # -- in ----------------------------------------------------------------------------------

    async def _receive_frame_loop(self) -> None:
        # From here on callbacks read. A coroutine that waits for bytes, with all those that wait
        # for it, would cost each idle connection some kilobytes.
        self._take_events()

    def _take_bytes(self, data: bytes) -> None:
        self._events = self._reader.feed(data)
        self._take_events()

    def _take_events(self, waited_for: Future[Any] | None = None) -> None:
        """Take the frames of a chunk, until one has to wait, or the turn is over.

        Nothing more is read until this is called again for the others. ``waited_for`` is what a
        frame asked for; its failure ends the connection.
        """
        assert self._channel is not None
        until = self._now() + _TURN_SECONDS
        try:
            if waited_for is not None:
                waited_for.result()
            for opcode, payload in self._events:
                waiting = self._take(opcode, payload)
                if waiting is not None:
                    self._channel.pause()
                    asyncio.ensure_future(waiting).add_done_callback(self._take_events)
                    return
                if self._now() > until:
                    self._channel.pause()
                    self._loop.call_soon(self._take_events)
                    return
            self._channel.resume()
        except FramingError as error:
            self.close(error.code, error.reason)
            self._abort()
        except asyncio.CancelledError:
            self._abort()
        except Exception:
            self.handler.log_exception(*sys.exc_info())
            self._abort()

    def _take(self, opcode: int, payload: str | bytes) -> Awaitable[None] | None:
        """Do what one message or control frame asks for; a result is to be awaited."""
        if self.client_terminated:
            return None
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

    def _end(self) -> None:
        """The socket is gone, whoever ended it."""
        self._abort()
        self.handler.on_ws_connection_close(self.close_code, self.close_reason)


def _taken_from(stream: IOStream) -> tuple[socket.socket, bytes]:
    """The socket of the handshake, and what the client has sent behind that already."""
    assert type(stream) is IOStream, "TLS ends in front of chatd, not here"
    connected = stream.socket
    if stream.closed() or stream.writing():
        # Gone already, or of a peer that does not even read the answer to its handshake.
        stream.close()
        connected = socket.socket()
        connected.close()
        return connected, b""
    stream.io_loop.remove_handler(connected)
    # From here on it is Pongs that tell who is there, and outboxes that are bounded.
    give_up_on_the_deaf(connected, 0)
    return connected, bytes(stream._read_buffer)
