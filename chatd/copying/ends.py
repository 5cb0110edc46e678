"""What is copied from, and what is copied to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from chatd.copying.reader import Reader, pages, total
from chatd.copying.records import PAGE
from chatd.copying.refused import CopyRefused
from chatd.errors import Conflict
from chatd.models import Conversation, Message, Record
from chatd.storage.base import Storage


class Source(Protocol):
    """Hands out everything it has. Raises `CopyRefused` or `Unavailable` where it can't."""

    def pages(self) -> AsyncGenerator[list[Record], None]:
        """All records in their order, from the beginning."""

    async def total(self) -> int:
        """About how many steps it is through all of it, as `chatd.copying.progress` counts."""


class Target(Source, Protocol):
    """Takes everything over. Raises `CopyRefused` or `Unavailable` where it can't."""

    async def is_empty(self) -> bool: ...

    async def last_messages(self, conversation: Conversation) -> list[Message]:
        """The last `PAGE` that a copy which broke off has brought, by ``seq`` ascending."""

    async def load(self, records: Sequence[Record]) -> None:
        """Take over the records that are next in the order, `PAGE` of them at most."""

    async def finish(self) -> None:
        """Nothing more is coming."""


class StoreEnd:
    """A store that nobody else works on, or whose backend is made for several."""

    def __init__(self, storage: Storage) -> None:
        """``storage``: started; whoever opened it closes it."""
        self._storage = storage

    def pages(self) -> AsyncGenerator[list[Record], None]:
        return pages(Reader(self._storage).page)

    async def total(self) -> int:
        return await total(self._storage)

    async def is_empty(self) -> bool:
        return await is_empty(self._storage)

    async def last_messages(self, conversation: Conversation) -> list[Message]:
        return await self._storage.history(conversation, limit=PAGE)

    async def load(self, records: Sequence[Record]) -> None:
        try:
            await self._storage.load(records)
        except Conflict as error:
            raise CopyRefused(
                f"what is there is no part of this copy: {error.detail}; copy to an empty place"
                " instead"
            ) from None

    async def finish(self) -> None:
        """Each page was written as it came."""


async def is_empty(storage: Storage) -> bool:
    """Whether it has nobody and nothing."""
    return not (await storage.list_users(limit=1) or await storage.conversations(limit=1))
