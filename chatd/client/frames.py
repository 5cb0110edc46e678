"""The WebSocket protocol from the client's side: frames to bytes and back. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import field

from chatd.client.events import (
    Conversation,
    Cursors,
    Frame,
    Gap,
    Joined,
    Left,
    Message,
    Presence,
    Read,
    Receipt,
    Sent,
    Typing,
)

FRAME_BYTES: Final = 32_768
"""The longest frame that a server takes, unless it was told otherwise."""


class Hello(Frame, frozen=True, tag="hello"):
    """The first frame. ``expires_in``: seconds until the token does."""

    user: str
    epoch: str
    expires_in: float


class MessageFrame(Frame, frozen=True, tag="message"):
    """A message, as the WebSocket and the history show it."""

    id: str
    sender: str = field(name="from")
    seq: int
    text: str
    sent_at: datetime
    to: str | None = None
    group: str | None = None
    client_id: str | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None

    def seen_by(self, user: str) -> Message:
        """The message as an event of this user's."""
        own = self.sender == user
        other = None if self.group else (self.to if own else self.sender)
        return Message(
            conversation=Conversation(other, self.group),
            seq=self.seq,
            sender=self.sender,
            text=self.text,
            sent_at=self.sent_at,
            id=self.id,
            own=own,
            client_id=self.client_id,
            delivered_at=self.delivered_at,
            read_at=self.read_at,
        )


class Ready(Frame, frozen=True, tag="ready"):
    """The replay is over."""


class ErrorFrame(Frame, frozen=True, tag="error"):
    """A frame was refused. ``retry_after``: seconds."""

    code: str
    message: str
    client_id: str | None = None
    retry_after: float | None = None


class Bye(Frame, frozen=True, tag="bye"):
    """The server closes. ``after``: seconds to wait before reconnecting."""

    reason: str
    reconnect: bool
    after: float | None = None


class Pong(Frame, frozen=True, tag="pong"):
    """The answer to ``ping``: everything before that has been dealt with."""


News = Receipt | Presence | Typing | Read | Joined | Left
"""What is handed out as it comes."""

Inbound = Hello | Ready | MessageFrame | Sent | ErrorFrame | Gap | News | Bye | Pong

_TYPES: Final = frozenset(kind.__struct_config__.tag for kind in Inbound.__args__)
_decoder: Final[msgspec.json.Decoder[Inbound]] = msgspec.json.Decoder(Inbound)
_encoder: Final = msgspec.json.Encoder()


class _Any(msgspec.Struct):
    type: str


def decode(data: str | bytes) -> Inbound | None:
    """A frame of the server's; None for a type that this client does not know.

    Raises `msgspec.MsgspecError` for what is no frame.
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        if msgspec.json.decode(data, type=_Any).type in _TYPES:
            raise
        return None


def send(text: str, *, to: str | None, group: str | None, client_id: str) -> bytes:
    return _frame("send", to=to, group=group, text=text, client_id=client_id)


def received(conversation: Conversation, seq: int) -> bytes:
    return _frame("received", **_source(conversation), seq=seq)


def read(conversation: Conversation, seq: int) -> bytes:
    return _frame("read", **_source(conversation), seq=seq)


def typing(*, to: str | None, group: str | None) -> bytes:
    return _frame("typing", to=to, group=group)


def auth(token: str) -> bytes:
    return _frame("auth", token=token)


def ping() -> bytes:
    return _frame("ping")


def resume(cursors: Cursors) -> bytes:
    """The newest of these cursors (the last ones) that a frame has room for."""
    room = FRAME_BYTES - len(_resume(cursors.epoch, []))
    chosen: list[bytes] = []
    for cursor in reversed(cursors.cursors):
        encoded = _encoder.encode(cursor)
        room -= len(encoded) + 1
        if room < 0:
            break
        chosen.append(encoded)
    return _resume(cursors.epoch, [msgspec.Raw(one) for one in reversed(chosen)])


def _resume(epoch: str, cursors: list[msgspec.Raw]) -> bytes:
    return _encoder.encode({"type": "resume", "epoch": epoch, "cursors": cursors})


def _source(conversation: Conversation) -> dict[str, str | None]:
    return {"from": conversation.user, "group": conversation.group}


def _frame(kind: str, **fields: str | int | None) -> bytes:
    given = {name: value for name, value in fields.items() if value is not None}
    return _encoder.encode({"type": kind, **given})
