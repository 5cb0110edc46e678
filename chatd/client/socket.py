"""One WebSocket to the server, from its handshake to its end, on Tornado's client.

A Ping is answered as it is read, and nothing is read while what came before it waits: so a Pong
says that the program's side has all that the Ping stands behind.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any, Final

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from chatd.client.errors import Unreachable
from chatd.client.http import refusal
from chatd.client.pauses import why_no_handshake

_CONNECT_SECONDS: Final = 10.0
_PING_SECONDS: Final = 20.0
_GOODBYE_SECONDS: Final = 6.0
"""Tornado gives a server that does not answer five."""


class NotNow(Exception):
    """The server can't take the connection now. ``retry_after``: seconds that it asks for."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Socket:
    """A connection; make one by ``open``."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._over = False

    @classmethod
    async def open(cls, url: str, token: str, context: ssl.SSLContext | None) -> Socket:
        """Connect to a WebSocket's URL.

        Raises `Unreachable`, `NotNow`, or what makes trying again senseless.
        """
        request = HTTPRequest(
            url,
            headers={"Authorization": f"Bearer {token}"},
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_CONNECT_SECONDS,
            ssl_options=context,
        )
        connecting = asyncio.ensure_future(_connected(request))
        try:
            return cls(await asyncio.shield(connecting))
        except asyncio.CancelledError:
            # It can't be stopped half way; whatever becomes of it is closed.
            connecting.add_done_callback(_close_what_came)
            raise
        except HTTPClientError as error:
            raise _handshake_error(url, error) from None
        except (OSError, ValueError, WebSocketError) as error:
            raise Unreachable(f"can't connect to {url}: {error}") from error

    async def read(self) -> str | None:
        """The next frame; None once the connection is over."""
        if self._over:
            return None
        data = await self._connection.read_message()
        self._over = data is None
        return data if isinstance(data, str) else None

    def write(self, frame: bytes) -> None:
        """Send a frame; on a connection that is over, nothing happens."""
        try:
            writing = self._connection.write_message(frame)
        except WebSocketError:
            return
        writing.add_done_callback(_forget)

    @property
    def close_code(self) -> int | None:
        """How it ended, where the server said so."""
        return self._connection.close_code

    async def close(self) -> None:
        """Say good-bye, and wait a little for the answer."""
        self._connection.close(1000)
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while not self._over:
                    await self.read()
        except TimeoutError:
            pass


async def _connected(request: HTTPRequest) -> WebSocketClientConnection:
    connecting: Awaitable[WebSocketClientConnection] = websocket_connect(
        request, ping_interval=_PING_SECONDS, ping_timeout=_PING_SECONDS
    )
    return await connecting


def _close_what_came(connecting: asyncio.Future[WebSocketClientConnection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


def _forget(writing: asyncio.Future[Any]) -> None:
    """Whether it got through is told by the server's answer, not here."""
    if not writing.cancelled():
        writing.exception()


def _handshake_error(url: str, error: HTTPClientError) -> Exception:
    if error.response is None:
        return Unreachable(f"can't connect to {url}: {error}")
    refused = refusal(error.response)
    final = why_no_handshake(refused, error.code)
    return final or NotNow(refused.message, refused.retry_after or 0.0)
