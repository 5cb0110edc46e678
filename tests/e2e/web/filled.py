"""Stores with more in them than anybody would want to send: written before a server opens them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

from chatd.models import (
    Conversation,
    Draft,
    Group,
    Mark,
    ReceiptKind,
    group_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.sqlite import SqliteStorage

_BATCH: Final = 1000

HOUR_MS: Final = 3_600_000


class Filler:
    """Puts groups and messages of any time into a store; people sign up at the server later."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def group(self, name: str, members: Sequence[str], at: int, title: str = "") -> None:
        """A group that all of these have joined before anything is written, the first made it."""
        first, *others = members
        group = Group(name=name, title=title or None, created_by=first, created_at=at)
        await self._storage.create_group(group)
        for member in others:
            await self._storage.join(name, member, at)

    async def written(self, drafts: Iterable[Draft]) -> None:
        coming = iter(drafts)
        while batch := list(islice(coming, _BATCH)):
            await self._storage.append(batch)

    async def read(self, conversation: Conversation, user: str, seq: int, at: int) -> None:
        """A user has everything up to ``seq``, and has read it."""
        await self._mark(conversation, user, ReceiptKind.READ, seq, at)

    async def delivered(self, conversation: Conversation, user: str, seq: int, at: int) -> None:
        await self._mark(conversation, user, ReceiptKind.DELIVERED, seq, at)

    async def _mark(
        self, conversation: Conversation, user: str, kind: ReceiptKind, seq: int, at: int
    ) -> None:
        mark = Mark(conversation=conversation, user=user, kind=kind, seq=seq, at=at)
        await self._storage.advance([mark])


def fill(file: Path, work: Callable[[Filler], Coroutine[Any, Any, None]]) -> None:
    """Fill the SQLite store of that file."""

    async def filled() -> None:
        storage = SqliteStorage(file)
        await storage.start()
        try:
            await work(Filler(storage))
        finally:
            await storage.close()

    # The thread of a test that drives a browser has a loop running already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, filled()).result()


def draft(conversation: Conversation, sender: str, text: str, sent_at: int) -> Draft:
    return Draft(
        id=str(uuid.uuid4()),
        conversation=conversation,
        sender=sender,
        text=text,
        sent_at=sent_at,
    )


def to_group(name: str, sender: str, text: str, sent_at: int) -> Draft:
    return draft(group_conversation(name), sender, text, sent_at)
