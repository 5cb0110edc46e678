"""Opening MongoDB stores: one that works is talked to, one that doesn't says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from chatd.errors import Unavailable
from chatd.models import Duplicate, Position
from chatd.storage.base import Storage
from chatd.storage.mongo import MongoStorage
from chatd.storage.refused import StorageRefused
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    BOB,
    CLUB,
    DELIVERED,
    READ,
    draft,
    drafts,
    group,
    read,
    stored,
    user,
)

PASSWORD: Final = "s3cret"
"""What passwords of these tests begin with; characters that need care come behind it."""

NOISE: Final = (
    "\n",
    "..",
    "configured timeouts",
    "Topology",
    "lsid",
    "clusterTime",
    "_ssl.c",
    "Do53",
    "docstring",
    "urllib",
)
"""What the driver tells programmers: of no use to the person who starts a server."""


async def refusal(url: str) -> str:
    """Why the store is refused: a sentence for people, that tells nobody the password."""
    return await _why(url, StorageRefused)


async def outage(url: str) -> str:
    """Why the store is out, as far as anybody can tell; as plain and as discreet."""
    return await _why(url, Unavailable)


async def _why(url: str, kind: type[Exception]) -> str:
    storage = MongoStorage(url)
    before = asyncio.all_tasks()
    with pytest.raises(kind) as raised:
        await storage.start()
    assert asyncio.all_tasks() <= before, "something goes on behind the refusal"
    await storage.close()
    sentence = str(raised.value)
    assert not [noise for noise in NOISE if noise in sentence], sentence
    assert PASSWORD not in sentence
    return sentence


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Storage]:
    storage = MongoStorage(url)
    try:
        await storage.start()
        assert PASSWORD not in storage.promise
        yield storage
    finally:
        await storage.close()


async def talk(storage: Storage) -> None:
    """A round of all that a chat does, in a store without users."""
    made = [await storage.create_user(user(email)) for email in (ANN, BOB, ANN)]
    assert made == [True, True, False]
    assert [one.email for one in await storage.list_users(limit=9)] == [ANN, BOB]
    assert await storage.create_group(group("club"))
    assert await storage.join("club", BOB, 2)
    batch = [*drafts(2), draft(client_id="once"), draft(CLUB, BOB)]
    messages = [stored(outcome) for outcome in await storage.append(batch)]
    assert [message.seq for message in messages] == [1, 2, 3, 1]
    assert await storage.append(batch) == [Duplicate(message) for message in messages]
    moved = await storage.advance([read(BOB, 3)])
    assert [(one.kind, one.old, one.seq) for one in moved] == [(DELIVERED, 0, 3), (READ, 0, 3)]
    assert await storage.positions(BOB) == [
        Position(CLUB, 1, 0, 0),
        Position(ANN_AND_BOB, 3, 3, 3),
    ]
    assert [one.read_at for one in await storage.history(ANN_AND_BOB, limit=9)] == [60] * 3
    assert [line.unread for line in await storage.summaries(ANN, limit=9)] == [1, 0]
    assert await storage.leave("club", BOB)
    await storage.revoke_token("token", 100)
    assert [one.id for one in await storage.revoked_tokens(50)] == ["token"]
    await storage.ping()
    assert await storage.epoch()
