"""What a MongoDB store knows of the ends of conversations, while other calls forget it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from chatd.models import pair_conversation
from chatd.storage.base import Storage
from tests.storage.faults import Call, Driver
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    BOB,
    CAT,
    delivered,
    draft,
    drafts,
    group,
    stored,
)

BOB_AND_CAT = pair_conversation(BOB, CAT)
ANN_AND_CAT = pair_conversation(ANN, CAT)


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


async def test_a_mark_moves_though_its_end_is_forgotten_while_another_is_read(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """Whoever appends has lost a number to another server, and reads anew.

    Seen to fail with ends that ``_within`` looks up again when it has read others.
    """
    await storage.append([draft()])
    await other.append([draft(), draft(BOB_AND_CAT)])
    advanced = asyncio.Event()
    appending: list[asyncio.Task[object]] = []

    async def read_late(call: Call) -> Any:
        await advanced.wait()
        return await call()

    async def forget_meanwhile(call: Call) -> Any:
        found = await call()
        with driver.interrupted("messages.aggregate", read_late) as reading:
            appending.append(asyncio.create_task(storage.append([draft()])))
            while not reading.happened:
                await asyncio.sleep(0)
        return found

    with driver.interrupted("messages.aggregate", forget_meanwhile):
        told = await storage.advance([delivered(BOB, 1), delivered(BOB, 1, BOB_AND_CAT)])
    advanced.set()
    await asyncio.gather(*appending)
    assert {one.conversation for one in told} == {ANN_AND_BOB, BOB_AND_CAT}


async def test_a_conversation_goes_on_though_its_end_is_forgotten_while_another_is_read(
    storage: Storage, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first messages were removed, so nothing else would refuse the number 1.

    Seen to fail with numbers behind what is known once all is read.
    """
    await storage.append([*drafts(5), draft(ANN_AND_CAT)])
    assert await storage.prune(ANN_AND_BOB, 10, 100)

    async def forget_meanwhile(call: Call) -> Any:
        found = await call()
        with monkeypatch.context() as patch:
            patch.setattr("chatd.storage.mongo.tails.MOST_KNOWN", 1)
            await storage.advance([delivered(CAT, 1, ANN_AND_CAT)])
        return found

    with driver.interrupted("messages.aggregate", forget_meanwhile) as interruption:
        goes_on, begins = await storage.append([draft(), draft(BOB_AND_CAT)])
    assert interruption.happened
    assert (stored(goes_on).seq, stored(begins).seq) == (6, 1)


async def test_a_group_made_anew_while_it_is_deleted_keeps_its_founder(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """Seen to fail with ``delete_group`` that ends with the members."""
    await storage.create_group(group("club"))

    async def make_anew(call: Call) -> Any:
        deleted = await call()
        assert await other.create_group(group("club", created_by=BOB))
        return deleted

    with driver.interrupted("groups.delete_one", make_anew):
        assert await storage.delete_group("club")
    found = await other.group("club")
    assert found is not None
    assert (found.created_by, found.members) == (BOB, 1)
    assert [one.email for one in await other.members("club", limit=5)] == [BOB]
