"""Taking connections in: a few a turn of the loop, however many stand in line."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

_IN_LINE: Final = 4096
"""How many may wait to be taken in. From a full line the system sends the next one away, to try
again a second later. It may allow fewer (``net.core.somaxconn``)."""
_A_TURN: Final = 4
"""Tornado takes 128. A request that has come by then is answered on the spot: so many of them
would keep those waiting who talk."""
_PAUSE_SECONDS: Final = 1.0


class Listener:
    """The sockets by which connections come to an `HTTPServer`."""

    def __init__(
        self, host: str, port: int, server: HTTPServer, on_failure: Callable[[OSError], None]
    ) -> None:
        """Listens from now on; raises OSError where that can't be, as the port may be taken.

        ``on_failure`` is told when nobody can be taken in for a while: no more open files, say.
        """
        self._sockets = bind_sockets(port, host, backlog=_IN_LINE)
        self._server = server
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        for listening in self._sockets:
            self._watch(listening)

    @property
    def port(self) -> int:
        """Where it listens, also if the system was to choose."""
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take nobody in any more."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._take_some, listening)

    def _take_some(self, listening: socket.socket) -> None:
        for _ in range(_A_TURN):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                # Nobody is there, or who was there has gone again.
                return
            except OSError as error:
                # They stand in line still: without a pause this would be called for ever.
                self._loop.remove_reader(listening)
                self._loop.call_later(_PAUSE_SECONDS, self._watch, listening)
                self._on_failure(error)
                return
            self._server.handle_stream(IOStream(connection), address)
