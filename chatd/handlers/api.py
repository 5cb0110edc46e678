"""REST resources: `operation` parses a request, answers it, and documents it."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from chatd.errors import (
    BadJson,
    BadRequest,
    ChatError,
    FieldError,
    Invalid,
    MisdirectedRequest,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from chatd.handlers.base import GuardedHandler
from chatd.handlers.services import Services
from chatd.openapi import Operation
from chatd.schemas import Query


class Reply(NamedTuple):
    """An answer with a status of its own."""

    status: int
    body: BaseModel | None = None


@stream_request_body
class ApiHandler(GuardedHandler):
    """A REST resource: JSON in, JSON out. Bodies beyond the limit are refused unread."""

    operations: ClassVar[Mapping[str, Operation]] = {}

    def initialize(self, services: Services) -> None:
        super().initialize(services)
        self._body = bytearray()

    def prepare(self) -> None:
        super().prepare()
        length = self.request.headers.get("Content-Length", "")
        # One that is no number is refused by Tornado when it comes to the body.
        self._check_body_size(int(length) if length.isdecimal() else 0)

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
                name = next(iter(found))[:64].encode(errors="backslashreplace").decode()
                raise Invalid.field(name, "is not taken here: send no body")
            return None
        try:
            return model.model_validate(found)
        except ValidationError as error:
            raise invalid(error) from None

    def compute_etag(self) -> None:
        """None: what may change from one moment to the next is not cached, nor answered 304."""

    async def reply(self, body: BaseModel | None, status: int) -> None:
        """Answer with this status and, where there is one, this body; return once the system has
        all of it, or the client is gone."""
        self.set_status(status)
        if body is not None:
            self.set_header("Content-Type", "application/json; charset=utf-8")
        with contextlib.suppress(StreamClosedError):
            await self.finish(None if body is None else body.model_dump_json())


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
            if not spec.while_draining:
                self.services.state.check_taking_requests()
            with self.services.requests.one():
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
                await self.reply(reply.body, reply.status)

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
