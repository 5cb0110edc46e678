"""Everything a store has, in pages that can each be asked for alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from chatd.copying.records import PAGE
from chatd.models import Conversation, GroupCursor, Record
from chatd.storage.base import Storage

_NONE: Final = Conversation("")
"""What all conversations are behind."""


class Section(StrEnum):
    """What a page goes on with."""

    GROUPS = "groups"
    MESSAGES = "messages"
    PLACES = "places"
    TOKENS = "tokens"
    USERS = "users"


class Cursor(msgspec.Struct, frozen=True):
    """Where the next page begins: behind this group, message, place or user. The default is the
    beginning."""

    section: Section = Section.GROUPS
    conversation: Conversation = _NONE
    seq: int = 0
    name: str = ""


class Page(NamedTuple):
    """Records in their order, and where the next ones begin; None at the end."""

    records: list[Record]
    behind: Cursor | None


_Step = tuple[Sequence[Record], Cursor | None]


class Reader:
    """Reads a store through its contract alone. A server may work on it meanwhile; whether what
    it changes is seen depends on where it is."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        # Each conversation of the page read last, by the one it is behind.
        self._ahead: dict[Conversation, Conversation] = {}

    async def page(self, at: Cursor) -> Page:
        """At least `PAGE` records and fewer than two such pages, but at the end and of tokens,
        which come all at once."""
        records: list[Record] = []
        behind: Cursor | None = at
        while behind is not None and len(records) < PAGE:
            found, behind = await self._step(behind)
            records += found
        return Page(records, behind)

    async def _step(self, at: Cursor) -> _Step:
        match at.section:
            case Section.GROUPS:
                return await self._groups(at)
            case Section.MESSAGES:
                return await self._messages(at)
            case Section.PLACES:
                return await self._places(at)
            case Section.TOKENS:
                return await self._storage.revoked_tokens(0), Cursor(Section.USERS)
            case Section.USERS:
                return await self._users(at)

    async def _groups(self, at: Cursor) -> _Step:
        after = GroupCursor(at.name) if at.name else None
        found = await self._storage.list_groups(after=after, limit=PAGE)
        if len(found) == PAGE:
            return found, Cursor(Section.GROUPS, name=found[-1].name)
        return found, await self._conversation(_NONE)

    async def _messages(self, at: Cursor) -> _Step:
        conversation = at.conversation
        found = await self._storage.history(conversation, after_seq=at.seq, limit=PAGE)
        if len(found) == PAGE:
            return found, Cursor(Section.MESSAGES, conversation, seq=found[-1].seq)
        return found, Cursor(Section.PLACES, conversation)

    async def _places(self, at: Cursor) -> _Step:
        conversation = at.conversation
        found = await self._storage.places(conversation, after=at.name, limit=PAGE)
        if len(found) == PAGE:
            return found, Cursor(Section.PLACES, conversation, name=found[-1].user)
        return found, await self._conversation(conversation)

    async def _users(self, at: Cursor) -> _Step:
        found = await self._storage.list_users(after=at.name, limit=PAGE)
        behind = Cursor(Section.USERS, name=found[-1].email) if len(found) == PAGE else None
        return found, behind

    async def _conversation(self, after: Conversation) -> Cursor:
        """The beginning of the next conversation, or of what comes behind them."""
        if after == _NONE or after not in self._ahead:
            found = await self._storage.conversations(after=after, limit=PAGE)
            self._ahead = dict(zip([after, *found], found, strict=False))
        following = self._ahead.get(after)
        return Cursor(Section.MESSAGES, following) if following else Cursor(Section.TOKENS)


async def pages(read: Callable[[Cursor], Awaitable[Page]]) -> AsyncGenerator[list[Record], None]:
    """Every page, from the beginning."""
    at: Cursor | None = Cursor()
    while at is not None:
        records, at = await read(at)
        yield records


async def total(storage: Storage) -> int:
    """How many steps `chatd.copying.progress` will count, as of now."""
    found, at = 0, ""
    while users := await storage.list_users(after=at, limit=PAGE):
        found, at = found + len(users), users[-1].email
    at = ""
    while conversations := await storage.conversations(after=at, limit=PAGE):
        for conversation in conversations:
            found += await storage.last_seq(conversation)
        at = conversations[-1]
    return found
