"""One HTTP request after the other, on Tornado's client."""

from __future__ import annotations

import ssl
from typing import Any, Final

import msgspec
from msgspec import Struct
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient, _HTTPConnection

from chatd.client.errors import Refused, Unreachable

_TIMEOUT: Final = 20.0
_TRANSIENT: Final = {429: "rate_limited", 502: "unavailable", 503: "unavailable"}


class _Problem(Struct, frozen=True):
    code: str
    detail: str


class _Exchange(_HTTPConnection):
    """A request whose connection may be reset.

    Tornado raises that where it is only logged, and the request would wait for its time-out.
    """

    def on_connection_close(self) -> None:
        waiting: Any = self.final_callback  # None once it has been called
        error = self.stream.error
        if error is not None and waiting is not None:
            self._handle_exception(type(error), error, None)
        else:
            super().on_connection_close()


class _Client(SimpleAsyncHTTPClient):
    def _connection_class(self) -> type:
        return _Exchange


class Http:
    """Requests to one server."""

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        self._url = url
        self._context = context
        self._client = _Client(force_instance=True)

    def close(self) -> None:
        self._client.close()

    async def fetch(self, method: str, path: str, token: str | None, body: object) -> bytes:
        """The body of the answer. Raises `Refused` and `Unreachable`."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = HTTPRequest(
            self._url + path,
            method=method,
            headers=headers,
            body=None if body is None else msgspec.json.encode(body),
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=_TIMEOUT,
            ssl_options=self._context,
        )
        try:
            response = await self._client.fetch(request, raise_error=False)
        except (OSError, ValueError, HTTPClientError) as error:
            raise Unreachable(f"can't reach {self._url}: {error}") from error
        if response.code >= 300:
            raise refusal(response)
        return response.body


def refusal(response: HTTPResponse) -> Refused:
    """What a server, or a proxy in front of it, has refused."""
    after = response.headers.get("Retry-After", "")
    retry_after = float(after) if after.isdigit() else None
    try:
        problem = msgspec.json.decode(response.body or b"", type=_Problem)
    except msgspec.MsgspecError:
        code = _TRANSIENT.get(response.code, "unexpected")
        return Refused(code, f"{response.code} {response.reason}", retry_after)
    return Refused(problem.code, problem.detail, retry_after)
