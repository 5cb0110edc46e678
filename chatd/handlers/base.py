"""What every handler stands on: guards, and the one place for errors over HTTP."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Iterable
from http import HTTPStatus
from math import ceil
from typing import Any, Final, NamedTuple

from tornado.web import HTTPError, RequestHandler, stream_request_body

from chatd.accounts import Session
from chatd.errors import (
    BadRequest,
    ChatError,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    MisdirectedRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from chatd.handlers.services import Services
from chatd.networks import client_address
from chatd.schemas import FieldProblem, Problem

_SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

TOKEN_ARGUMENT: Final = "Authorization"
"""The query argument in which a page's address, and a handshake's, may carry a token."""

_MOST_DIGITS: Final = 19
"""Of a declared length: more make no other answer, but a number that Python won't read."""


class Route(NamedTuple):
    """A path like ``/v1/groups/{name}`` and the handler behind it."""

    path: str
    handler: type[RequestHandler]


@stream_request_body
class GuardedHandler(RequestHandler):
    """A handler that knows its services, checks the Host, and answers errors as problems.

    Bodies beyond the limit are refused unread, wherever they are sent.
    """

    services: Services
    session: Session | None = None

    def initialize(self, services: Services) -> None:
        self.services = services
        self.body = bytearray()

    @property
    def request_id(self) -> str:
        """A word that stands in this request's answer and in its log lines."""
        if not hasattr(self, "_request_id"):
            self._request_id = secrets.token_hex(8)
        return self._request_id

    def set_default_headers(self) -> None:
        for name, value in _SECURITY_HEADERS.items():
            self.set_header(name, value)
        self.set_header("Server", "chatd")
        self.set_header("X-Request-ID", self.request_id)

    def prepare(self) -> Awaitable[None] | None:
        self.check_host()
        length = self.request.headers.get("Content-Length", "")
        # One that is no number is refused by Tornado when it comes to the body.
        self._check_body_size(int(length[:_MOST_DIGITS]) if length.isdecimal() else 0)
        return None

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk
        try:
            self._check_body_size(len(self.body))
        except TooLarge:
            # A body of undeclared length: the answer goes out, the rest is thrown away.
            self.body.clear()
            self.send_error(exc_info=sys.exc_info())

    def _check_body_size(self, size: int) -> None:
        limit = self.services.settings.limits.body_bytes
        if limit and size > limit:
            raise TooLarge(f"the body must be at most {limit} bytes")

    # -- guards ------------------------------------------------------------------------------

    def check_host(self) -> None:
        """Refuse a Host that isn't ours: DNS rebinding would lend a foreign page our origin."""
        if "*" in self.services.hosts:
            return
        host = _host_name(self.request.host)
        if host not in self.services.hosts:
            raise MisdirectedRequest(
                f"this server does not answer for {host[:100]!r}; see server.allowed_hosts"
            )

    def check_origin_allowed(self) -> None:
        """Refuse a browser's page from elsewhere. Other programs send no Origin."""
        origin = self.request.headers.get("Origin")
        if origin is None:
            return
        allowed = self.services.settings.server.allowed_origins
        if allowed:
            good = origin.lower() in allowed
        else:
            host = self.request.host.lower()
            good = origin.lower() in (f"http://{host}", f"https://{host}")
        if not good:
            raise Forbidden(f"pages of {origin[:100]!r} may not connect; see allowed_origins")

    def check_no_surplus_arguments(self, known: frozenset[str]) -> None:
        """Refuse query arguments that mean nothing here, or stand twice."""
        for name, values in self.request.query_arguments.items():
            if name not in known:
                hint = f"one of: {', '.join(sorted(known))}" if known else "none"
                raise Invalid.field(name[:64], f"is no query argument of this address ({hint})")
            if len(values) > 1:
                raise Invalid.field(name, "stands more than once in the query")

    def bearer_token(self) -> str | None:
        """The token of the Authorization header, None where there is no such header."""
        values = self.request.headers.get_list("Authorization")
        if not values:
            return None
        if len(values) > 1:
            raise BadRequest("there must be one Authorization header only")
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the Authorization header must be: Bearer TOKEN")
        return token.strip()

    def one_token(self, others: Iterable[str] = ()) -> str | None:
        """The token of the header, the query or one of ``others``; None where there is none.

        Two that differ are refused: which of them a proxy in front has checked nobody knows.
        """
        asked = self.get_query_arguments(TOKEN_ARGUMENT)
        found = {self.bearer_token(), *(token.removeprefix("Bearer ") for token in asked), *others}
        found -= {None, ""}
        if len(found) > 1:
            raise BadRequest("the request carries two different tokens; send one")
        return next(iter(found), None)

    async def authenticate(self) -> Session:
        """Whose request this is."""
        token = self.bearer_token()
        if token is None:
            raise Unauthenticated(
                "sign in with POST /v1/auth/sign-in, then send Authorization: Bearer TOKEN"
            )
        self.one_token()
        self.services.state.check_started()
        self.session = await self.services.session(token)
        return self.session

    @property
    def user(self) -> str:
        """The e-mail address of the signed-in user."""
        assert self.session is not None, "authenticate() comes first"
        return self.session.user.email

    @property
    def user_id(self) -> str | None:
        """The id of the signed-in user, for the log; None before authentication."""
        return self.session.user.id if self.session else None

    @property
    def client_address(self) -> str:
        """The network address of the client, as far as the listed proxies can be trusted."""
        forwarded = ",".join(self.request.headers.get_list("X-Forwarded-For"))
        proxies = self.services.settings.server.trusted_proxies
        return client_address(str(self.request.remote_ip), forwarded, proxies)

    # -- errors ------------------------------------------------------------------------------

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, ChatError | HTTPError):
            return
        self.services.metrics.failed("http.failed", value, request_id=self.request_id)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        super().send_error(as_chat_error(error, status_code).status, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = as_chat_error(kwargs.get("exc_info", (None, None))[1], status_code)
        self.services.metrics.refusals.labels(error.code).inc()
        self.set_status(status_code)
        if isinstance(error, Unauthenticated):
            self.set_header("WWW-Authenticate", 'Bearer realm="chatd"')
        if isinstance(error, RateLimited | Unavailable):
            self.set_header("Retry-After", str(max(1, ceil(error.retry_after))))
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        problem = Problem(
            title=error.title,
            status=status_code,
            detail=error.detail,
            code=error.code,
            request_id=self.request_id,
            errors=[
                FieldProblem(field=one.field, message=one.message)
                for one in (error.errors if isinstance(error, Invalid) else ())
            ],
        )
        self.set_header("Content-Type", "application/problem+json")
        self.finish(problem.model_dump_json())

    @classmethod
    def allowed_methods(cls) -> list[str]:
        """The methods this handler answers."""
        return [
            method
            for method in cls.SUPPORTED_METHODS
            if getattr(cls, method.lower()) is not getattr(RequestHandler, method.lower())
        ]


class InternalError(ChatError):
    """A fault of ours: the client hears no more than that."""

    code, status, title = "internal", 500, "Internal server error"


def as_chat_error(error: BaseException | None, status: int) -> ChatError:
    """Any exception as the error to answer with: the one place that maps them for HTTP."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, HTTPError):
        status = error.status_code
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed("this address does not answer that method; see Allow")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
        # Tornado's own 403 is of a static file outside its folder: there is none for anyone.
        return NotFound("there is nothing at this address; see /docs")
    if 400 <= status < 500:
        return BadRequest("the request could not be read")
    return InternalError("something went wrong on our side; the log has it under the request_id")


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; ``[::1]`` keeps its brackets."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


class NothingHere(GuardedHandler):
    """What answers where no route does."""

    def prepare(self) -> None:
        self.check_host()
        raise NotFound("there is nothing at this address; see /docs")
