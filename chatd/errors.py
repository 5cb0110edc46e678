"""Everything chatd can refuse, and why a live socket is closed.

Two catalogues, kept apart. A *reply error* answers one request or one frame, which then had
no effect; the connection stays as it was::

    ChatError
    ├── BadRequest            400 bad_request
    │   └── BadJson           400 bad_json
    ├── Unauthenticated       401 unauthenticated
    │   └── BadCredentials    401 bad_credentials
    ├── Forbidden             403 forbidden
    │   ├── NotAMember        403 not_a_member
    │   └── SignupClosed      403 signup_closed
    ├── NotFound              404 not_found
    │   ├── UnknownUser       404 unknown_user
    │   ├── UnknownGroup      404 unknown_group
    │   └── UnknownMessage    404 unknown_message
    ├── MethodNotAllowed      405 method_not_allowed
    ├── Conflict              409 conflict
    │   ├── GroupExists       409 group_exists
    │   ├── NothingToLeave    409 not_a_member
    │   └── ClientIdReused    409 client_id_reused
    ├── TooLarge              413 too_large
    ├── UnsupportedMediaType  415 unsupported_media_type
    ├── MisdirectedRequest    421 misdirected_request
    ├── Invalid               422 invalid
    ├── RateLimited           429 rate_limited
    └── Unavailable           503 unavailable

A *close code* ends a socket; see `CloseCode`. `handlers.base` maps reply errors to HTTP and
`handlers.socket` maps them to ``error`` frames: one place each.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """One field of the input that was refused: where, and what would be right."""

    field: str
    message: str


class ChatError(Exception):
    """A refusal with a stable ``code``, the HTTP ``status`` that goes with it, and a sentence.

    ``detail`` says what was wrong and what would be right; it may be shown to the client.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(ChatError):
    code, status, title = "bad_request", 400, "Bad request"


class BadJson(BadRequest):
    code, title = "bad_json", "Not valid JSON"


class Unauthenticated(ChatError):
    code, status, title = "unauthenticated", 401, "Sign in first"


class BadCredentials(Unauthenticated):
    code, title = "bad_credentials", "Wrong e-mail address or password"


class Forbidden(ChatError):
    code, status, title = "forbidden", 403, "Not allowed"


class NotAMember(Forbidden):
    code, title = "not_a_member", "Not a member of this group"


class SignupClosed(Forbidden):
    code, title = "signup_closed", "Sign-up is closed"


class NotFound(ChatError):
    code, status, title = "not_found", 404, "Not found"


class UnknownUser(NotFound):
    code, title = "unknown_user", "No such user"


class UnknownGroup(NotFound):
    code, title = "unknown_group", "No such group"


class UnknownMessage(NotFound):
    code, title = "unknown_message", "No such message"


class MethodNotAllowed(ChatError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


class Conflict(ChatError):
    code, status, title = "conflict", 409, "Conflict"


class GroupExists(Conflict):
    code, title = "group_exists", "The group exists already"


class NothingToLeave(Conflict):
    """Leaving a group one is not in; elsewhere the same code comes as `NotAMember`."""

    code, title = "not_a_member", "Not a member of this group"


class ClientIdReused(Conflict):
    code, title = "client_id_reused", "This client_id belongs to another message"


class TooLarge(ChatError):
    code, status, title = "too_large", 413, "Too large"


class UnsupportedMediaType(ChatError):
    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class MisdirectedRequest(ChatError):
    code, status, title = "misdirected_request", 421, "Not a host of this server"


class Invalid(ChatError):
    """The input was readable but wrong; ``errors`` names each field."""

    code, status, title = "invalid", 422, "Invalid input"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    @classmethod
    def field(cls, field: str, message: str) -> Invalid:
        """One wrong field: ``message`` completes the sentence "<field> …"."""
        return cls(f"{field} {message}", (FieldError(field, message),))


class _TryAgain(ChatError):
    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        """``retry_after``: seconds until trying again makes sense."""
        super().__init__(detail)
        self.retry_after = retry_after


class RateLimited(_TryAgain):
    code, status, title = "rate_limited", 429, "Too many requests"


class Unavailable(_TryAgain):
    """The server can't do this now: storage out, a queue full, or draining."""

    code, status, title = "unavailable", 503, "Unavailable"


class CloseCode(IntEnum):
    """Why the server ends a socket (RFC 6455 section 7.4; 4000 and up are chatd's own)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_UTF8 = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    BAD_FRAMES = 4400
    UNAUTHENTICATED = 4401
    NOT_A_MEMBER = 4403
    UNKNOWN_GROUP = 4404
    TIMEOUT = 4408
    FLOODING = 4429
    SLOW_CONSUMER = 4430
