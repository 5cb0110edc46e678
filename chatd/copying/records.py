"""Records, each a line of JSON: what a dump has, a server hands out, and checksums are of.

They come in an order of their own: groups, then of each conversation its messages and its places,
then revoked tokens, then users. As users come last, nobody can sign in to what is half a copy,
and of a server that goes on meanwhile there is every user who wrote what was copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from chatd.models import (
    Conversation,
    Group,
    Message,
    Place,
    Record,
    RevokedToken,
    User,
    group_of,
    pair_of,
)

PAGE: Final = 500
"""Records that are read, sent and written at once, more or less."""


class Kind(StrEnum):
    """Kinds of records, by how one of them is called."""

    GROUP = "group"
    MESSAGE = "message"
    PLACE = "place"
    TOKEN = "token"
    USER = "user"


_TYPES: Final[Mapping[Kind, type[Record]]] = MappingProxyType(
    {
        Kind.GROUP: Group,
        Kind.MESSAGE: Message,
        Kind.PLACE: Place,
        Kind.TOKEN: RevokedToken,
        Kind.USER: User,
    }
)
_KINDS: Final[Mapping[type, Kind]] = MappingProxyType(
    {record: kind for kind, record in _TYPES.items()}
)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    record: msgspec.Raw


class _Group(msgspec.Struct):
    """A group as it is copied: the counts follow from its members and messages."""

    name: str
    title: str | None
    created_by: str
    created_at: int


def kind_of(record: Record) -> Kind:
    return _KINDS[type(record)]


def to_line(record: Record) -> bytes:
    """The one form of a record as JSON, without an end of line."""
    told: msgspec.Struct = record
    if isinstance(record, Group):
        told = _Group(record.name, record.title, record.created_by, record.created_at)
    return b'{"kind":"%b","record":%b}' % (kind_of(record).encode(), msgspec.json.encode(told))


def from_line(line: bytes | str) -> Record:
    """The record of a line. Raises ValueError with a sentence where it is none."""
    parsed = msgspec.json.decode(line, type=_Line)
    record = msgspec.json.decode(parsed.record, type=_TYPES[parsed.kind])
    if isinstance(record, Message | Place) and not _is_conversation(record.conversation):
        raise ValueError(f"{record.conversation!r} is no conversation")
    return record


def _is_conversation(conversation: Conversation) -> bool:
    if group_of(conversation):
        return True
    try:
        one, other = pair_of(conversation) or ("", "")
    except ValueError:
        return False
    return "" < one <= other


Rank = tuple[int, str, int]
"""Where in the order the records of one kind, or of one kind in one conversation, stand."""


def rank(record: Record) -> Rank:
    match record:
        case Group():
            return 0, "", 0
        case Message():
            return 1, record.conversation, 0
        case Place():
            return 1, record.conversation, 1
        case RevokedToken():
            return 2, "", 0
        case User():
            return 3, "", 0


class Order:
    """Sees that records come in their order, each of them once, and messages without a hole."""

    def __init__(self) -> None:
        self._last: tuple[Rank, Any] = ((-1, "", 0), None)

    def check(self, record: Record) -> None:
        """Raises ValueError with a sentence."""
        last_rank, last_key = self._last
        self._last = here, key = rank(record), _key(record)
        if here < last_rank or (here == last_rank and key <= last_key):
            raise ValueError(f"the {kind_of(record)} is not in its place, or comes again")
        if isinstance(record, Message) and here == last_rank and key != last_key + 1:
            raise ValueError(
                f"{record.conversation} has message {key} where {last_key + 1} should be"
            )


def _key(record: Record) -> str | int:
    match record:
        case Group():
            return record.name
        case Message():
            return record.seq
        case Place():
            return record.user
        case RevokedToken():
            return record.id
        case User():
            return record.email
