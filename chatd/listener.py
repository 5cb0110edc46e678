"""Taking connections in: a few a turn of the loop, however many stand in line, and so many of
one place."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from chatd.channel import give_up_on_the_deaf
from chatd.networks import Network, is_among, place_of

_IN_LINE: Final = 4096
"""How many may wait to be taken in. From a full line the system sends the next one away, to try
again a second later. It may allow fewer (``net.core.somaxconn``)."""
_A_TURN: Final = 4
"""Tornado takes 128. A request that has come by then is answered on the spot: so many of them
would keep those waiting who talk."""
_PAUSE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 20
"""For a request's head (and for the next one, on a connection that is kept), for its body, and for
a client that takes nothing of its answer."""
_HEAD_BYTES: Final = 16 * 1024
_TOO_MANY: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class BoundedServer(HTTPServer):
    """Tornado's server, with bounds for those who keep connections and say little or nothing.

    A connection counts until it is a WebSocket: from then on others count it.
    """

    def initialize(  # type: ignore[override]
        self,
        application: Any,
        *,
        max_body_size: int,
        most_of_a_place: int,
        proxies: Collection[Network],
    ) -> None:
        """``most_of_a_place``: so many connections may come from one (0: any number). Through
        ``proxies`` come many, as many as they let through."""
        super().initialize(
            application,
            max_header_size=_HEAD_BYTES,
            max_body_size=max_body_size,
            body_timeout=_PATIENCE_SECONDS,
            idle_connection_timeout=_PATIENCE_SECONDS,
        )
        self._most = most_of_a_place
        self._proxies = proxies
        self._counts: Counter[str] = Counter()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        place = place_of(address[0])
        full = self._most and self._counts[place] >= self._most
        if full and not is_among(address[0], self._proxies):
            stream.write(_TOO_MANY)
            stream.close()
            return
        self._counts[place] += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        super().on_close(server_conn)
        place = place_of(server_conn.context.address[0])
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]


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
            give_up_on_the_deaf(connection, _PATIENCE_SECONDS)
            self._server.handle_stream(IOStream(connection), address)
