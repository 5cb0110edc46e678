"""What a program hears, and what it is answered: frozen, and named as the protocol names it.

Times are aware and UTC. Most of these are frames of the WebSocket as they come, and say under
`conversation` where they belong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from msgspec import Struct, field


class Conversation(NamedTuple):
    """One conversation of the user's: with another ``user``, by e-mail address, or a ``group``'s.

    One of the two is None.
    """

    user: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        return self.group or self.user or ""


class Frame(Struct, frozen=True, tag_field="type"):
    """What the server says; its class is told by ``type``."""


class _Placed(Frame, frozen=True, kw_only=True):
    """A frame about one conversation, named by ``to`` or ``group``."""

    to: str | None = None
    group: str | None = None

    @property
    def conversation(self) -> Conversation:
        return Conversation(self.to, self.group)


class _About(Frame, frozen=True, kw_only=True):
    """A frame about one conversation, named by ``user`` or ``group``."""

    user: str | None = None
    group: str | None = None

    @property
    def conversation(self) -> Conversation:
        return Conversation(self.user, self.group)


class Message(Struct, frozen=True):
    """A message of another's, or one that the user has written elsewhere (``own``).

    ``delivered_at`` and ``read_at`` are the recipient's, on one-to-one messages of the history.
    """

    conversation: Conversation
    seq: int
    sender: str
    text: str
    sent_at: datetime
    id: str
    own: bool
    client_id: str | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None


class Sent(_Placed, frozen=True, tag="sent"):
    """The message is stored. ``duplicate``: an earlier send with its ``client_id`` stored it."""

    id: str
    seq: int
    sent_at: datetime
    duplicate: bool
    client_id: str | None = None


class Receipt(_Placed, frozen=True, tag="receipt"):
    """``by`` has, or has read, everything of the user's up to ``seq``."""

    kind: Literal["delivered", "read"]
    by: str
    seq: int
    at: datetime


class Presence(Frame, frozen=True, tag="presence"):
    """Who came on line and who went. Behind `Connected`, the first one is of all who are there."""

    online: tuple[str, ...]
    offline: tuple[str, ...]


class Typing(Frame, frozen=True, tag="typing"):
    """Somebody is typing, and may be for the next five seconds."""

    sender: str = field(name="from")
    group: str | None = None

    @property
    def conversation(self) -> Conversation:
        return Conversation(group=self.group) if self.group else Conversation(user=self.sender)


class Read(_About, frozen=True, tag="read"):
    """The user has read everything up to ``seq``, elsewhere."""

    seq: int


class Joined(Frame, frozen=True, tag="joined"):
    """``user`` became a member of the group."""

    group: str
    user: str

    @property
    def conversation(self) -> Conversation:
        return Conversation(group=self.group)


class Left(Frame, frozen=True, tag="left"):
    """``user`` is no member of the group any more."""

    group: str
    user: str

    @property
    def conversation(self) -> Conversation:
        return Conversation(group=self.group)


class Connected(Struct, frozen=True):
    """What follows is live; what was missed has come before."""

    user: str


class Disconnected(Struct, frozen=True):
    """The connection is gone; the next attempt is in ``retry_in`` seconds."""

    reason: str
    retry_in: float


Event = Message | Receipt | Presence | Typing | Read | Joined | Left | Connected | Disconnected


class Gap(_About, frozen=True, tag="gap"):
    """What is not replayed, and is to be paged through the history."""

    from_seq: int
    to_seq: int


class Cursor(Struct, frozen=True, omit_defaults=True):
    """Everything up to ``seq`` of a conversation has been handed to the program."""

    seq: int
    user: str | None = None
    group: str | None = None

    @property
    def conversation(self) -> Conversation:
        return Conversation(self.user, self.group)


class Cursors(Struct, frozen=True):
    """Where a program stands, to be kept over its restarts: see ``to_json``."""

    epoch: str
    cursors: tuple[Cursor, ...]


# -- what REST answers -------------------------------------------------------------------------


class Group(Struct, frozen=True):
    """A group; ``joined`` tells whether the user is a member."""

    name: str
    title: str | None
    created_at: datetime
    members: int
    messages: int
    joined: bool


class Member(Struct, frozen=True):
    """A member of a group, and how far it was delivered to and read by them."""

    email: str
    joined_at: datetime
    online: bool
    delivered_seq: int
    read_seq: int


class User(Struct, frozen=True):
    """A user as others see them."""

    id: str
    email: str
    created_at: datetime
    online: bool
    last_seen_at: datetime | None


class Summary(Struct, frozen=True):
    """One of the user's conversations; ``unread`` counts what others wrote since."""

    conversation: Conversation
    last_message: Message | None
    last_seq: int
    read_seq: int
    unread: int


class History(Struct, frozen=True):
    """Messages by ``seq`` ascending; ``has_more`` in the direction asked for."""

    messages: tuple[Message, ...]
    has_more: bool
