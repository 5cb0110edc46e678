"""The WebSocket protocol: what clients may say, what the server says. No I/O.

Inbound frames are decoded and checked in one pass; outbound frames are encoded once, header
and all (RFC 6455 section 5.2), so that the same bytes can go to every recipient. AsyncAPI is
generated from the very structs below.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from chatd.errors import BadJson, BadRequest, FieldError, Invalid
from chatd.models import (
    Advance,
    Conversation,
    Message,
    ReceiptKind,
    group_of,
    other_of,
    rfc3339,
)

PROTOCOL_VERSION: Final = 1
MAX_SEQ: Final = 2**53 - 1

Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ, description="A place in a conversation.")]
Text = Annotated[str, Meta(min_length=1, description="Any Unicode text but NUL.")]
ClientId = Annotated[
    str, Meta(min_length=1, max_length=64, description="The sender's own name for the message.")
]
# Longer names there are none; to bring many characters into their one form holds the loop.
Email = Annotated[
    str,
    Meta(max_length=320, description="A user's e-mail address.", examples=["bob@example.org"]),
]
GroupName = Annotated[str, Meta(max_length=512, description="A group's name.", examples=["python"])]
Time = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC, milliseconds.",
        examples=["2026-01-31T12:00:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


class Inbound(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """A frame from a client."""


class Auth(Inbound, frozen=True, tag="auth"):
    """The first authentication, or a fresh token for the same user on a live socket."""

    token: str


class Send(Inbound, frozen=True, tag="send"):
    """Send a message. On a group's own socket the target may be left out."""

    text: Text
    to: Email | None = None
    group: GroupName | None = None
    client_id: ClientId | None = None


class Received(Inbound, frozen=True, tag="received"):
    """Everything up to ``seq`` has arrived."""

    seq: Seq
    sender: Email | None = field(default=None, name="from")
    group: GroupName | None = None


class Read(Inbound, frozen=True, tag="read"):
    """Everything up to ``seq`` has been read."""

    seq: Seq
    sender: Email | None = field(default=None, name="from")
    group: GroupName | None = None


class Typing(Inbound, frozen=True, tag="typing"):
    """Shown to the others for five seconds, never stored."""

    to: Email | None = None
    group: GroupName | None = None


class Cursor(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to ``seq`` of this conversation is with the client already."""

    seq: Seq
    user: Email | None = None
    group: GroupName | None = None


class Resume(Inbound, frozen=True, tag="resume"):
    """Where this client stands; the answer to ``hello`` under ``?replay=resume``."""

    epoch: str
    cursors: list[Cursor]


class Ping(Inbound, frozen=True, tag="ping"):
    """Answered by ``pong``, for clients that can't see protocol pings."""


AnyInbound = Auth | Send | Received | Read | Typing | Resume | Ping


class Outbound(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A frame from the server."""


class Hello(Outbound, frozen=True, tag="hello"):
    """The first frame once authenticated. ``expires_in`` counts seconds."""

    version: int
    user: Email
    connection_id: str
    epoch: str
    expires_in: int
    server_time: Time


class MessageFrame(Outbound, frozen=True, tag="message"):
    """A message, replayed or live."""

    id: str
    sender: Email = field(name="from")
    seq: Seq
    text: str
    sent_at: Time
    to: Email | None = None
    group: GroupName | None = None


class Sent(Outbound, frozen=True, tag="sent"):
    """To the sending connection alone: the message is stored."""

    id: str
    seq: Seq
    sent_at: Time
    duplicate: bool
    to: Email | None = None
    group: GroupName | None = None
    client_id: ClientId | None = None


class Receipt(Outbound, frozen=True, tag="receipt"):
    """``by`` has everything up to ``seq``. ``to`` (one-to-one) is the recipient's address."""

    kind: Literal["delivered", "read"]
    by: Email
    seq: Seq
    at: Time
    to: Email | None = None
    group: GroupName | None = None


class Gap(Outbound, frozen=True, tag="gap"):
    """Not replayed; page it through the history call."""

    from_seq: Seq
    to_seq: Seq
    user: Email | None = None
    group: GroupName | None = None


class Ready(Outbound, frozen=True, tag="ready"):
    """The replay is over, what follows is live."""


class Presence(Outbound, frozen=True, tag="presence"):
    """Users who came on line and who went, gathered."""

    online: list[Email]
    offline: list[Email]


class TypingNotice(Outbound, frozen=True, tag="typing"):
    """Somebody is typing."""

    sender: Email = field(name="from")
    group: GroupName | None = None


class ReadNotice(Outbound, frozen=True, tag="read"):
    """You have read everything up to ``seq``, elsewhere: on another connection, or over REST."""

    seq: Seq
    user: Email | None = None
    group: GroupName | None = None


class Joined(Outbound, frozen=True, tag="joined"):
    """A user became a member."""

    group: GroupName
    user: Email


class Left(Outbound, frozen=True, tag="left"):
    """A user is no member any more."""

    group: GroupName
    user: Email


class ErrorFrame(Outbound, frozen=True, tag="error"):
    """The frame it answers was refused; the socket stays open. ``retry_after``: seconds."""

    code: str
    message: str
    client_id: str | None = None
    retry_after: float | None = None


class Bye(Outbound, frozen=True, tag="bye"):
    """Just before the server closes. ``after``: seconds to wait before reconnecting."""

    reason: str
    reconnect: bool
    after: float | None = None


class PongFrame(Outbound, frozen=True, tag="pong"):
    """The answer to ``ping``."""


AnyOutbound = (
    Hello
    | MessageFrame
    | Sent
    | Receipt
    | Gap
    | Ready
    | Presence
    | TypingNotice
    | ReadNotice
    | Joined
    | Left
    | ErrorFrame
    | Bye
    | PongFrame
)

_decoder: Final[msgspec.json.Decoder[AnyInbound]] = msgspec.json.Decoder(AnyInbound)
_encoder: Final = msgspec.json.Encoder()

_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED_FIELD: Final = re.compile(r"(?:unknown|required) field `([^`]*)`")


def decode(data: str | bytes) -> AnyInbound:
    """One text frame's payload, decoded and checked.

    Raises:
        BadJson: not JSON in UTF-8.
        BadRequest: JSON, but no frame of this protocol (not an object, no known ``type``).
        Invalid: a frame with a wrong, missing or unknown field.
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadJson(f"a frame is one JSON object in UTF-8: {error}") from None
    except RecursionError:
        raise BadJson("a frame is one JSON object; this one is nested too deeply") from None


def _refusal(problem: str) -> BadRequest | Invalid:
    path = _PATH.search(problem)
    named = _NAMED_FIELD.search(problem)
    where = ".".join(part for part in (path and path[1], named and named[1]) if part)
    if where in ("", "type"):
        kinds = ", ".join(kind.__struct_config__.tag for kind in AnyInbound.__args__)
        return BadRequest(f"not a frame of this protocol: {problem}. Types: {kinds}")
    return Invalid(problem, (FieldError(where, _PATH.sub("", problem)),))


def client_id_of(data: str | bytes) -> str | None:
    """The ``client_id`` of a frame that was refused, where one can be made out."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    client_id = found.get("client_id") if isinstance(found, dict) else None
    return client_id if isinstance(client_id, str) and len(client_id) <= 64 else None


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """A whole, final, unmasked frame (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


def encode(frame: Outbound) -> bytes:
    """The frame as it goes over the wire: a whole WebSocket text frame."""
    return websocket_frame(0x1, _encoder.encode(frame))


def message_frame(message: Message) -> MessageFrame:
    """A message as everyone who may read it sees it."""
    group = group_of(message.conversation)
    return MessageFrame(
        id=message.id,
        sender=message.sender,
        to=None if group else other_of(message.conversation, message.sender),
        group=group,
        seq=message.seq,
        text=message.text,
        sent_at=rfc3339(message.sent_at),
    )


def sent_frame(message: Message, *, duplicate: bool) -> Sent:
    """What tells the sender that the message is stored."""
    group = group_of(message.conversation)
    return Sent(
        id=message.id,
        to=None if group else other_of(message.conversation, message.sender),
        group=group,
        seq=message.seq,
        sent_at=rfc3339(message.sent_at),
        client_id=message.client_id,
        duplicate=duplicate,
    )


def receipt_frame(advance: Advance) -> Receipt:
    """What tells the senders how far ``advance.user`` has got."""
    group = group_of(advance.conversation)
    return Receipt(
        kind="delivered" if advance.kind is ReceiptKind.DELIVERED else "read",
        to=None if group else advance.user,
        group=group,
        by=advance.user,
        seq=advance.seq,
        at=rfc3339(advance.at),
    )


def gap_frame(conversation: Conversation, viewer: str, from_seq: int, to_seq: int) -> Gap:
    """What tells ``viewer`` that these messages were not replayed."""
    group = group_of(conversation)
    return Gap(
        user=None if group else other_of(conversation, viewer),
        group=group,
        from_seq=from_seq,
        to_seq=to_seq,
    )


def read_frame(conversation: Conversation, reader: str, seq: int) -> ReadNotice:
    """What tells ``reader``'s other connections how far the conversation has been read."""
    group = group_of(conversation)
    return ReadNotice(user=None if group else other_of(conversation, reader), group=group, seq=seq)
