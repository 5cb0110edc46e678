"""REST resources: `operation` parses a request, answers it, and documents it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from tornado.iostream import StreamClosedError

from chatd.accounts import Session
from chatd.errors import (
    BadJson,
    BadRequest,
    ChatError,
    FieldError,
    Invalid,
    MisdirectedRequest,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from chatd.handlers.base import GuardedHandler
from chatd.openapi import Operation
from chatd.schemas import Query

_MOST_ERRORS: Final = 20
_PIECE_CHARS: Final = 64 * 1024
_LONGEST_NAME: Final = 200
"""Of what was wrong with a body, and of the name of a field: a client may make up thousands."""


class Reply(NamedTuple):
    """An answer with a status of its own; ``pieces`` of JSON are sent as they come."""

    status: int
    body: BaseModel | None = None
    pieces: AsyncGenerator[str, None] | None = None


class ApiHandler(GuardedHandler):
    """A REST resource: JSON in, JSON out."""

    operations: ClassVar[Mapping[str, Operation]] = {}

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
        body = bytes(self.body)
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

    async def reply(self, reply: Reply) -> None:
        """Answer with this status and, where there is one, this body; return once the system has
        all of it, or the client is gone."""
        self.set_status(reply.status)
        if reply.body is not None or reply.pieces is not None:
            self.set_header("Content-Type", "application/json; charset=utf-8")
        with contextlib.suppress(StreamClosedError):
            if reply.pieces is not None:
                await self._send_pieces(reply.pieces)
            await self.finish(None if reply.body is None else reply.body.model_dump_json())

    async def _send_pieces(self, pieces: AsyncGenerator[str, None]) -> None:
        """Send them as the client takes them; what fails later than the first ends the connection,
        so that half a document is not taken for a whole one."""
        async with contextlib.aclosing(pieces):
            size = 0
            try:
                async for piece in pieces:
                    self.write(piece)
                    size += len(piece)
                    if size >= _PIECE_CHARS:
                        size = 0
                        await self.flush()
            except ChatError:
                if self._headers_written:
                    self.detach().close()
                    raise StreamClosedError from None
                raise

    def check_call_limit(self, session: Session) -> None:
        """Refuse a user who asks for more than a team ever does."""
        now = asyncio.get_running_loop().time()
        wait = self.services.calls.take(session.user.email, now)
        if wait:
            raise RateLimited("too many requests in a short time; slow down", wait)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def invalid(error: ValidationError) -> Invalid:
    """What pydantic found, each field with what would be right, and never the input itself.

    Of the fields there may be thousands: the first few are named.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    errors = [
        FieldError(
            ".".join(str(part) for part in one["loc"])[:_LONGEST_NAME], _sentence(one["msg"])
        )
        for one in found[:_MOST_ERRORS]
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
                    self.check_call_limit(await self.authenticate())
                query = self.read_query(spec.query)
                if query is not None:
                    arguments["query"] = query
                body = self.read_body(spec.body)
                if body is not None:
                    arguments["body"] = body
                result = await method(self, **arguments)
                reply = result if isinstance(result, Reply) else Reply(default_status, result)
                await self.reply(reply)

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
        usual += [Unauthenticated, RateLimited]
    return (*usual, *errors)
