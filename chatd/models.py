"""The nouns of chatd: frozen, and knowing nothing of storage or of the wire.

Users are named by their e-mail address (trimmed, lower-cased), groups by their name. Times are
integers: milliseconds since the Unix epoch, UTC. ``rfc3339`` turns one into its text form.
"""

from __future__ import annotations

import re
import time
from enum import StrEnum
from functools import lru_cache
from typing import Final, NewType

import msgspec

Conversation = NewType("Conversation", str)
"""The key of a conversation: ``g:NAME`` for a group, ``u:EMAIL EMAIL`` (sorted) for a pair."""

GROUP_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}")


def group_conversation(name: str) -> Conversation:
    return Conversation("g:" + name)


def pair_conversation(one: str, other: str) -> Conversation:
    """The conversation of two users, whichever is named first; one may write to oneself."""
    return Conversation(f"u:{one} {other}" if one <= other else f"u:{other} {one}")


def group_of(conversation: Conversation) -> str | None:
    """The group whose conversation this is, None for a pair's."""
    return conversation[2:] if conversation.startswith("g:") else None


def pair_of(conversation: Conversation) -> tuple[str, str] | None:
    """The two users whose conversation this is, None for a group's."""
    if not conversation.startswith("u:"):
        return None
    one, other = conversation[2:].split(" ")
    return one, other


def other_of(conversation: Conversation, user: str) -> str:
    """The one a user talks to in a pair's conversation (oneself in one's own)."""
    pair = pair_of(conversation)
    assert pair is not None, "a group's conversation has no other side"
    return pair[1] if pair[0] == user else pair[0]


def now_ms() -> int:
    """The wall clock, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(at: int) -> str:
    """A time in milliseconds as RFC 3339 UTC text with milliseconds and ``Z``."""
    seconds, milliseconds = divmod(at, 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    # Live messages are mostly of this second.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_LOCK: Final = "!"
_ERASED: Final = "@erased.invalid"
"""Where the addresses of those who were erased lie; nobody can have one there (RFC 2606)."""


def is_erased(email: str) -> bool:
    """Whether this is the address that stands for somebody who was erased."""
    return email.endswith(_ERASED)


class User(msgspec.Struct, frozen=True):
    """A registered user. A token is good while its generation is the user's.

    A disabled one has its password's hash behind a "!", which no password has (as in shadow(5)).
    One that is being erased has there the address of the author that takes its place.
    """

    id: str
    email: str
    password_hash: str
    created_at: int
    generation: int = 0
    last_seen_at: int | None = None

    @property
    def disabled(self) -> bool:
        return self.password_hash.startswith(_LOCK)

    @property
    def locked_hash(self) -> str:
        """The hash that disables the account."""
        return self.password_hash if self.disabled else _LOCK + self.password_hash

    @property
    def unlocked_hash(self) -> str:
        """The hash with which the account can be signed in to."""
        return self.password_hash.removeprefix(_LOCK)

    @property
    def author(self) -> str | None:
        """The address of the author in whose favour the user is being erased."""
        return self.unlocked_hash if self.disabled and is_erased(self.unlocked_hash) else None

    def hash_erased_for(self, author: User) -> str:
        """The hash of the account while it is being erased."""
        return _LOCK + author.email

    @classmethod
    def nobody(cls, user_id: str, name: str, at: int) -> User:
        """Who stands for somebody erased: nobody can sign in as this user."""
        return cls(user_id, name + _ERASED, _LOCK, at)


class Group(msgspec.Struct, frozen=True):
    """A group, with how many members it has, and how many messages were ever stored in it."""

    name: str
    title: str | None
    created_by: str
    created_at: int
    members: int = 1
    messages: int = 0


class GroupSort(StrEnum):
    """How groups are listed: by name ascending, or by a count descending, then by name."""

    NAME = "name"
    MEMBERS = "members"
    MESSAGES = "messages"


class GroupCursor(msgspec.Struct, frozen=True):
    """The last group of a page: its name and, where sorted by a count, that count."""

    name: str
    count: int = 0


class Member(msgspec.Struct, frozen=True):
    """A user's place in a group: everything up to each ``seq`` has been delivered, or read."""

    group: str
    email: str
    joined_at: int
    delivered_seq: int
    read_seq: int


class Place(msgspec.Struct, frozen=True):
    """Where a user stands in a conversation: a member of a group, or one side of a pair."""

    conversation: Conversation
    user: str
    joined_at: int
    delivered_seq: int
    read_seq: int


class Draft(msgspec.Struct, frozen=True):
    """A message about to be stored: everything but its ``seq``."""

    id: str
    conversation: Conversation
    sender: str
    text: str
    sent_at: int
    client_id: str | None = None

    def numbered(self, seq: int) -> Message:
        """The message that this becomes."""
        return Message(
            id=self.id,
            conversation=self.conversation,
            seq=seq,
            sender=self.sender,
            text=self.text,
            sent_at=self.sent_at,
            client_id=self.client_id,
        )


class Message(msgspec.Struct, frozen=True):
    """A stored message. ``seq`` counts 1, 2, 3 … in its conversation, without holes.

    ``delivered_at`` and ``read_at`` are the recipient's, on one-to-one messages only. An empty
    ``text`` was taken away.
    """

    id: str
    conversation: Conversation
    seq: int
    sender: str
    text: str
    sent_at: int
    client_id: str | None = None
    delivered_at: int | None = None
    read_at: int | None = None


class Stored(msgspec.Struct, frozen=True):
    """The draft is stored as this message."""

    message: Message


class Duplicate(msgspec.Struct, frozen=True):
    """The sender's ``client_id`` was stored before, with the same text and target."""

    message: Message


class ClientIdConflict(msgspec.Struct, frozen=True):
    """The sender's ``client_id`` was stored before, with another text or target."""


Outcome = Stored | Duplicate | ClientIdConflict


class Position(msgspec.Struct, frozen=True):
    """Where a user stands in one conversation."""

    conversation: Conversation
    last_seq: int
    delivered_seq: int
    read_seq: int


class Summary(msgspec.Struct, frozen=True):
    """One line of a user's list of conversations.

    ``active_at`` is the time of the last message, or of joining where a group has none yet.
    ``unread`` counts what others wrote after ``read_seq`` and is still there.
    """

    conversation: Conversation
    last_message: Message | None
    last_seq: int
    read_seq: int
    unread: int
    active_at: int


class SummaryCursor(msgspec.Struct, frozen=True):
    """The last line of a page of summaries."""

    active_at: int
    conversation: Conversation


class ReceiptKind(StrEnum):
    """What a mark says of everything up to it."""

    DELIVERED = "delivered"
    READ = "read"


class Mark(msgspec.Struct, frozen=True):
    """A claim: ``user`` has everything from ``since`` up to ``seq``, as of the time ``at``.

    ``since`` guards the truth where a connection was not sent everything before it: the mark
    moves only if it stands at ``since - 1`` or beyond. The default claims everything.
    """

    conversation: Conversation
    user: str
    kind: ReceiptKind
    seq: int
    at: int
    since: int = 1


class Advance(msgspec.Struct, frozen=True):
    """A mark that moved from ``old`` to ``seq``; ``senders`` wrote what lies between.

    The user whose mark it is never stands among the senders.
    """

    conversation: Conversation
    user: str
    kind: ReceiptKind
    old: int
    seq: int
    at: int
    senders: frozenset[str]


class Ended(msgspec.Struct, frozen=True):
    """Tokens of a user that are good no more: one, or all that are older than ``generation``.

    ``others``: those of anybody else by this address, too.
    """

    email: str
    user_id: str
    token_id: str | None = None
    expires_at: int = 0
    generation: int | None = None
    others: bool = False

    def ends(self, user_id: str, token_id: str, generation: int) -> bool:
        """Whether a token with this id, of this user and generation, is among them."""
        if self.token_id is not None:
            return token_id == self.token_id
        if user_id != self.user_id:
            return self.others
        return self.generation is not None and generation < self.generation


class RevokedToken(msgspec.Struct, frozen=True):
    """The id of a token that is good no more, and until when that has to be known."""

    id: str
    expires_at: int


Record = User | Group | Message | Place | RevokedToken
"""What stores are made of, as they are copied."""
