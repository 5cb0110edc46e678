"""Copies of a running server's store, which the server itself reads and writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from chatd.copying.ends import is_empty
from chatd.copying.reader import Cursor, Reader, total
from chatd.copying.records import from_line, to_line
from chatd.errors import Conflict, Invalid
from chatd.models import RevokedToken, User
from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage


class StoreInfo(msgspec.Struct, frozen=True):
    """Where a server keeps things, as it says itself, whether that ends with it, and whether there
    is nobody and nothing yet."""

    promise: str
    in_memory: bool
    empty: bool


class Lines(msgspec.Struct, frozen=True):
    """A page of records, a line of JSON each, and where the next one begins; None at the end."""

    lines: list[str]
    behind: Cursor | None


class ServedStore:
    """The store of a server that runs."""

    def __init__(
        self, storage: Storage, *, on_tokens_revoked: Callable[[], Awaitable[None]]
    ) -> None:
        """``on_tokens_revoked`` is called when some have been taken over."""
        self._storage = storage
        self._reader = Reader(storage)
        self._on_tokens_revoked = on_tokens_revoked

    async def info(self) -> StoreInfo:
        return StoreInfo(self._storage.promise, self._in_memory, await is_empty(self._storage))

    @property
    def _in_memory(self) -> bool:
        return self._storage.promise == MemoryStorage().promise

    async def total(self) -> int:
        """How many steps it is through all of it."""
        return await total(self._storage)

    async def page(self, at: Cursor) -> Lines:
        """What comes next."""
        page = await self._reader.page(at)
        return Lines([to_line(record).decode() for record in page.records], page.behind)

    async def load(self, lines: Sequence[str]) -> None:
        """Take over what comes next, into a store in memory that nobody works on.

        Raises `Conflict` where it is another store, or has users. Users come last, so as long as
        there is none nobody can have sent anything.
        """
        if not self._in_memory:
            raise Conflict("a store that outlives the server is written to without the server only")
        try:
            records = [from_line(line) for line in lines]
        except ValueError as error:
            raise Invalid.field("lines", f"can't be taken over: {error}") from None
        has_users = bool(await self._storage.list_users(limit=1))
        if has_users and not all(isinstance(record, User) for record in records):
            raise Conflict(
                "there are users on the server already: start it anew, and copy before anybody"
                " signs up"
            )
        await self._storage.load(records)
        if any(isinstance(record, RevokedToken) for record in records):
            await self._on_tokens_revoked()
