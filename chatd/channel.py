"""A socket once its handshake is over: bytes in by a callback, bytes out at once.

Tornado's `IOStream` serves those who wait for so many bytes or for the end of a line; for each
small thing that comes it asks the system two or three times. Here that is one call to the system
and one to whom it concerns.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import Future
from collections.abc import Callable
from typing import Final

from tornado.ioloop import IOLoop

_CHUNK: Final = 65536
"""The most bytes that are read in one turn of the loop."""


class Channel:
    """A connected, non-blocking socket; as much of an `IOStream` as `WebSocketProtocol13` asks for.

    Nothing here raises. When the peer is gone, or `close` was called, ``on_end`` is told.
    """

    __slots__ = ("_all_sent", "_loop", "_on_bytes", "_on_end", "_socket", "_unsent", "reading")

    def __init__(
        self,
        connected: socket.socket,
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        """``on_bytes`` hears what comes, once `resume` is called. ``on_end`` is called once, in a
        turn of the loop of its own, also where the socket was closed before."""
        self._socket = connected
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self.reading = False
        self._unsent = bytearray()
        self._all_sent: Future[None] | None = None
        if self.closed():
            self._loop.call_soon(on_end)

    # -- in ----------------------------------------------------------------------------------

    def resume(self) -> None:
        """Read what comes from now on."""
        if not self.reading and not self.closed():
            self.reading = True
            self._loop.add_reader(self._socket, self._read)

    def pause(self) -> None:
        """Leave what comes to the system: when its buffers are full, the peer can't send on."""
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._on_bytes(data)
        else:
            self.close()

    # -- out ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> int:
        """Hand bytes to the system; what it does not take is kept until the peer has read.

        Returns how many bytes are kept by now.
        """
        if self._unsent:
            self._unsent += data
            return len(self._unsent)
        try:
            sent = self._socket.send(data)
        except OSError as error:
            sent = self._refused(error)
        if sent < len(data) and not self.closed():
            self._unsent += data[sent:]
            self._loop.add_writer(self._socket, self._send_on)
        return len(self._unsent)

    def backlog(self) -> int:
        """How many bytes are kept."""
        return len(self._unsent)

    def all_sent(self) -> Future[None]:
        """Done once the system has all that was written so far, or the socket is gone."""
        waiting = self._all_sent or self._loop.create_future()
        if self._unsent:
            self._all_sent = waiting
        else:
            waiting.set_result(None)
        return waiting

    def _refused(self, error: OSError) -> int:
        """The system took no bytes: not now, or never again."""
        if not isinstance(error, BlockingIOError | InterruptedError):
            self.close()
        return 0

    def _send_on(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except OSError as error:
            sent = self._refused(error)
        del self._unsent[:sent]
        if not self._unsent and not self.closed():
            self._loop.remove_writer(self._socket)
            self._tell_all_sent()

    def _tell_all_sent(self) -> None:
        waiting, self._all_sent = self._all_sent, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # -- the end -----------------------------------------------------------------------------

    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Let go of the socket, and of what is kept."""
        if self.closed():
            return
        self.pause()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._unsent.clear()
        self._tell_all_sent()
        self._loop.call_soon(self._on_end)
        # They know this channel, as it knows them: no circle is to be left behind.
        self._on_bytes = self._on_end = _ignore

    # -- as Tornado calls it -----------------------------------------------------------------

    @property
    def io_loop(self) -> IOLoop:
        """Where timeouts are set."""
        return IOLoop.current()

    def set_nodelay(self, value: bool) -> None:
        """Send small things at once."""
        if not self.closed():
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, value)


def _ignore(*_: object) -> None:
    pass


def give_up_on_the_deaf(connected: socket.socket, seconds: float) -> None:
    """Have the system end a connection whose peer has let nothing be sent to it for so long.

    0 for as long as it likes. Linux alone can do that (``TCP_USER_TIMEOUT`` in tcp(7)).
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(seconds * 1000)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
