"""What every handler stands on: guards, JSON in and out, and the one place for REST errors."""

from __future__ import annotations

import functools
import json
import secrets
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from math import ceil
from typing import Any, ClassVar, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from chatd.accounts import Accounts, Session
from chatd.connection import Flusher
from chatd.directory import Directory
from chatd.errors import (
    BadJson,
    BadRequest,
    ChatError,
    FieldError,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    MisdirectedRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from chatd.ids import UuidPool
from chatd.journal import MessageJournal
from chatd.logs import Logger
from chatd.metrics import Metrics
from chatd.openapi import Operation
from chatd.presence import PresenceBoard
from chatd.registry import ConnectionRegistry
from chatd.replay import Replayer
from chatd.router import ChatRouter
from chatd.schemas import FieldProblem, Problem, Query
from chatd.settings import Settings
from chatd.storage.base import Storage

_SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ServerState:
    """What changes while the server runs: whether it takes work, and the store's epoch."""

    def __init__(self) -> None:
        self.ready = False
        self.draining = False
        self.epoch = ""


class AddressCounter:
    """How many sockets each network address has open."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, address: str) -> int:
        return self._counts[address]

    def add(self, address: str) -> None:
        self._counts[address] += 1

    def remove(self, address: str) -> None:
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]


@dataclass(frozen=True)
class Services:
    """The rooms of the server, as the handlers are given them."""

    settings: Settings
    state: ServerState
    storage: Storage
    accounts: Accounts
    router: ChatRouter
    journal: MessageJournal
    registry: ConnectionRegistry
    directory: Directory
    addresses: AddressCounter
    presence: PresenceBoard
    replayer: Replayer
    flusher: Flusher
    ids: UuidPool
    metrics: Metrics
    log: Logger
    hosts: frozenset[str]


class Route(NamedTuple):
    """A path like ``/v1/groups/{name}`` and the handler behind it."""

    path: str
    handler: type[RequestHandler]


class Reply(NamedTuple):
    """An answer with a status of its own."""

    status: int
    body: BaseModel | None = None


class GuardedHandler(RequestHandler):
    """A handler that knows its services, checks the Host, and answers errors as problems."""

    services: Services
    session: Session | None = None

    def initialize(self, services: Services) -> None:
        self.services = services

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
        return None

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
            good = urlsplit(origin).netloc.lower() == self.request.host.lower()
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

    async def authenticate(self) -> Session:
        """Whose request this is."""
        token = self.bearer_token()
        if token is None:
            raise Unauthenticated(
                "sign in with POST /v1/auth/sign-in, then send Authorization: Bearer TOKEN"
            )
        self.session = await self.services.accounts.authenticate(token)
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
        """The network address of the client, as far as the listed proxies can be trusted.

        Each proxy appends whom it speaks for to X-Forwarded-For: from the right, the first
        address that is no trusted proxy is the client's.
        """
        address = str(self.request.remote_ip)
        forwarded = ",".join(self.request.headers.get_list("X-Forwarded-For")).split(",")
        while self._is_trusted_proxy(address) and forwarded:
            address = forwarded.pop().strip() or address
        return address

    def _is_trusted_proxy(self, address: str) -> bool:
        proxies = self.services.settings.server.trusted_proxies
        try:
            return any(ip_address(address) in network for network in proxies)
        except ValueError:
            return False

    # -- errors ------------------------------------------------------------------------------

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, ChatError | HTTPError):
            return
        self.services.metrics.failed("http.failed", value)

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
    if status == HTTPStatus.NOT_FOUND:
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


@stream_request_body
class ApiHandler(GuardedHandler):
    """A REST resource: JSON in, JSON out. Bodies beyond the limit are refused unread."""

    operations: ClassVar[Mapping[str, Operation]] = {}

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._body = bytearray()

    def prepare(self) -> None:
        super().prepare()
        self._check_body_size(int(self.request.headers.get("Content-Length", 0)))

    def data_received(self, chunk: bytes) -> None:
        self._body += chunk
        try:
            self._check_body_size(len(self._body))
        except TooLarge:
            # A body of undeclared length: the answer goes out, the rest is thrown away.
            self._body.clear()
            self.send_error(exc_info=sys.exc_info())

    def _check_body_size(self, size: int) -> None:
        limit = self.services.settings.limits.body_bytes
        if limit and size > limit:
            raise TooLarge(f"the body must be at most {limit} bytes")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.operations = {
            method.lower(): found
            for method in cls.SUPPORTED_METHODS
            if isinstance(
                found := getattr(getattr(cls, method.lower()), "operation", None), Operation
            )
        }

    def read_query(self, model: type[Query] | None) -> Query | None:
        """The query as the model has it; `Invalid` names what is wrong."""
        known = frozenset(model.model_fields) if model else frozenset[str]()
        self.check_no_surplus_arguments(known)
        if model is None:
            return None
        values = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise invalid(error) from None

    def read_body(self, model: type[BaseModel] | None) -> BaseModel | None:
        """The body as the model has it.

        Raises `UnsupportedMediaType`, `BadJson` or `Invalid` where it is none.
        """
        body = bytes(self._body)
        if model is None and not body:
            return None
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type.lower() != "application/json":
            raise UnsupportedMediaType("send the body as Content-Type: application/json")
        try:
            found = json.loads(body.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BadJson(f"the body is not JSON in UTF-8: {error}") from None
        if not isinstance(found, dict):
            raise Invalid("the body must be a JSON object", [FieldError("", "must be an object")])
        if model is None:
            if found:
                raise Invalid.field(str(next(iter(found)))[:64], "is not taken here: send no body")
            return None
        try:
            return model.model_validate(found)
        except ValidationError as error:
            raise invalid(error) from None

    def reply(self, body: BaseModel | None, status: int) -> None:
        """Answer with this status and, where there is one, this body."""
        self.set_status(status)
        if body is None:
            self.finish()
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(body.model_dump_json())


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def invalid(error: ValidationError) -> Invalid:
    """What pydantic found, each field with what would be right, and never the input itself."""
    errors = [
        FieldError(".".join(str(part) for part in one["loc"]), _sentence(one["msg"]))
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Invalid("; ".join(f"{one.field}: {one.message}" for one in errors), errors)


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


_Method = TypeVar("_Method", bound=Callable[..., Awaitable[BaseModel | Reply | None]])


def operation(
    summary: str, tag: str, *errors: type[ChatError], **details: Any
) -> Callable[[_Method], Callable[..., Awaitable[None]]]:
    """Make a method of an `ApiHandler` answer a request, as `Operation` describes it.

    The method is called with the path's parts, and with ``query`` and ``body`` where the
    operation has them, already checked; what it returns is the answer, under the first of
    ``answers`` unless it is a `Reply`.
    """
    spec = Operation(summary, tag, errors=_usual_errors(errors, details), **details)
    default_status = next(iter(spec.answers))

    def decorate(method: _Method) -> Callable[..., Awaitable[None]]:
        @functools.wraps(method)
        async def answer(self: ApiHandler, **arguments: Any) -> None:
            if not spec.public:
                await self.authenticate()
            query = self.read_query(spec.query)
            if query is not None:
                arguments["query"] = query
            body = self.read_body(spec.body)
            if body is not None:
                arguments["body"] = body
            result = await method(self, **arguments)
            reply = result if isinstance(result, Reply) else Reply(default_status, result)
            self.reply(reply.body, reply.status)

        answer.operation = spec  # type: ignore[attr-defined]
        return answer

    return decorate


def _usual_errors(
    errors: Sequence[type[ChatError]], details: Mapping[str, Any]
) -> tuple[type[ChatError], ...]:
    """The errors of every operation of this kind, and these."""
    usual: list[type[ChatError]] = [BadRequest, MisdirectedRequest, Unavailable]
    # Any operation may be sent a body or a query that means nothing to it.
    usual += [BadJson, TooLarge, UnsupportedMediaType, Invalid]
    if not details.get("public"):
        usual.append(Unauthenticated)
    return (*usual, *errors)


class NothingHere(GuardedHandler):
    """What answers where no route does."""

    def prepare(self) -> None:
        self.check_host()
        raise NotFound("there is nothing at this address; see /docs")
