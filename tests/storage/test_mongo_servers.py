"""Several servers over one MongoDB database: what each does amid the others' doings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec
import pytest
from pymongo import MongoClient
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import Advance, Conversation, Draft, Duplicate, Outcome, Position, Stored
from chatd.storage.base import Storage
from chatd.storage.mongo.address import address_of
from tests.storage.faults import Call, Driver, Event, after, lost_answer, lost_call, made
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    READ,
    delivered,
    draft,
    drafts,
    group,
    read,
)


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


# -- groups ----------------------------------------------------------------------------------------


async def test_a_group_whose_making_broke_off_is_healed_by_the_next_of_its_name(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    with driver.interrupted("members.insert_one", lost_call), pytest.raises(Unavailable):
        await storage.create_group(group("club", created_at=5))
    assert await storage.members("club", limit=5) == []
    assert not await other.create_group(group("club", created_by=BOB, created_at=6))
    (founder,) = await other.members("club", limit=5)
    assert (founder.email, founder.joined_at) == (ANN, 5)
    found = await storage.group("club")
    assert found is not None
    assert (found.created_by, found.members) == (ANN, 1)


@pytest.mark.parametrize("first", ["groups.find_one", "members.insert_one"])
async def test_who_makes_a_group_is_in_it_though_another_joins_at_once(
    storage: Storage, other: Storage, driver: Driver, first: str
) -> None:
    joining = after(lambda: other.join("club", BOB, 2), made)
    with driver.interrupted(first, joining) as interruption:
        assert await storage.create_group(group("club"))
    assert interruption.happened
    assert [one.email for one in await storage.members("club", limit=5)] == [ANN, BOB]
    found = await storage.group("club")
    assert found is not None
    assert found.members == 2


async def test_a_group_whose_making_broke_off_is_healed_though_another_has_joined(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    with driver.interrupted("members.insert_one", lost_call), pytest.raises(Unavailable):
        await storage.create_group(group("club"))
    await other.join("club", BOB, 2)
    await storage.create_group(group("club"))
    assert [one.email for one in await storage.members("club", limit=5)] == [ANN, BOB]


async def test_a_founder_who_has_left_is_not_brought_back_by_who_wants_the_name(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """The making broke off when the founder was in it, but before that was noted."""
    with driver.interrupted("groups.update_one", lost_call), pytest.raises(Unavailable):
        await storage.create_group(group("club"))
    assert await storage.leave("club", ANN)
    assert not await other.create_group(group("club", created_by=BOB))
    assert await other.members("club", limit=5) == []


async def test_members_that_join_and_leave_by_two_servers_at_once_are_counted(
    storage: Storage, other: Storage
) -> None:
    await storage.create_group(group("club"))
    emails = [f"user-{number}@example.org" for number in range(12)]

    async def come_and_go(server: Storage, email: str) -> int:
        joined = 0
        for _ in range(random.randint(1, 3)):
            joined += await server.join("club", email, 1)
            if random.random() < 0.6:
                joined -= await server.leave("club", email)
        return joined

    joined = await asyncio.gather(
        *(come_and_go(server, email) for server in (storage, other) for email in emails)
    )
    members = await other.members("club", limit=50)
    found = await storage.group("club")
    assert found is not None
    assert found.members == len(members) == 1 + sum(joined)


async def _assert_messages_are_counted(expected: int, *servers: Storage) -> None:
    for server in servers:
        found = await server.group("club")
        assert found is not None
        assert found.messages == await server.last_seq(CLUB) == expected


@pytest.mark.parametrize(("fault", "last"), [(lost_call, 1), (lost_answer, 4)])
async def test_a_groups_messages_are_counted_though_their_storing_broke_off(
    storage: Storage, other: Storage, driver: Driver, fault: Event, last: int
) -> None:
    await storage.create_group(group("club"))
    await storage.append([draft(CLUB)])
    batch = [draft(CLUB, client_id=str(number)) for number in range(3)]
    with driver.interrupted("messages.insert_many", fault), pytest.raises(Unavailable):
        await storage.append(batch)
    await _assert_messages_are_counted(last, storage, other)
    await storage.append([msgspec.structs.replace(one, id=f"again {one.id}") for one in batch])
    await _assert_messages_are_counted(4, storage, other)


@pytest.mark.parametrize("fault", [lost_call, lost_answer])
@pytest.mark.parametrize("call", ["messages.aggregate", "groups.bulk_write"])
async def test_a_groups_messages_are_counted_though_their_counting_broke_off(
    storage: Storage, other: Storage, driver: Driver, call: str, fault: Event
) -> None:
    await storage.create_group(group("club"))
    await storage.append([draft(CLUB)])
    await _assert_messages_are_counted(1, storage)
    with driver.interrupted(call, fault) as interruption:
        await storage.append(drafts(3, CLUB))
        while not interruption.happened:
            await asyncio.sleep(0)
    await _assert_messages_are_counted(4, storage, other)


async def test_a_count_of_messages_never_goes_back(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """One server counts, and stores the count when another has counted more."""

    async def count_more() -> None:
        await other.append(drafts(2, CLUB))
        await _assert_messages_are_counted(5, other)

    await storage.create_group(group("club"))
    with driver.interrupted("groups.bulk_write", after(count_more, made)):
        await storage.append(drafts(3, CLUB))
        await storage.group("club")
    await _assert_messages_are_counted(5, storage, other)


async def test_a_groups_messages_are_counted_behind_the_appends_and_before_closing(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    await storage.create_group(group("club"))
    with driver.interrupted("groups.bulk_write", lost_call) as interruption:
        await storage.append(drafts(3, CLUB))
        while not interruption.happened:
            await asyncio.sleep(0)
    await storage.close()
    await _assert_messages_are_counted(3, other)


# -- messages --------------------------------------------------------------------------------------


async def test_the_marks_of_a_pair_without_a_message_are_no_conversation(
    storage: Storage, driver: Driver, mongo_client: MongoClient[dict[str, Any]], mongo_url: str
) -> None:
    with driver.interrupted("messages.insert_many", lost_call), pytest.raises(Unavailable):
        await storage.append([draft(), draft(ANN_HERSELF)])
    assert mongo_client[address_of(mongo_url).database].marks.count_documents({}) == 3
    for email in (ANN, BOB):
        assert await storage.positions(email) == []
        assert await storage.summaries(email, limit=5) == []
    await storage.append([draft()])
    for email in (ANN, BOB):
        assert await storage.positions(email) == [Position(ANN_AND_BOB, 1, 0, 0)]
        (summary,) = await storage.summaries(email, limit=5)
        assert summary.conversation == ANN_AND_BOB


def _batches(server: int) -> list[list[Draft]]:
    """Some of a client's own, some that it sends to every server."""
    conversations = (ANN_AND_BOB, CLUB, ANN_HERSELF)
    batches = []
    for number in range(25):
        batch = [
            draft(random.choice(conversations), ANN, f"{server} {number} {nth}")
            for nth in range(random.randint(1, 6))
        ]
        where = conversations[number % 3]
        shared = draft(where, ANN, f"shared {number}", client_id=f"shared {number}")
        batch.insert(random.randint(0, len(batch)), shared)
        batches.append(batch)
    return batches


async def test_two_servers_append_to_the_same_conversations_without_hole_or_double(
    storage: Storage, other: Storage
) -> None:
    appended = [
        (server, batch) for n, server in enumerate((storage, other)) for batch in _batches(n)
    ]
    results: list[list[Outcome]] = await asyncio.gather(
        *(server.append(batch) for server, batch in appended)
    )
    outcomes = [one for each in results for one in each]
    messages = {one.message.id: one.message for one in outcomes if isinstance(one, Stored)}
    repeats = [one.message for one in outcomes if isinstance(one, Duplicate)]
    assert len(messages) + len(repeats) == len(outcomes)
    assert len(repeats) == 25
    assert {one.client_id for one in repeats} == {f"shared {number}" for number in range(25)}
    assert all(messages[one.id] == one for one in repeats)
    for conversation in (ANN_AND_BOB, CLUB, ANN_HERSELF):
        found = await storage.history(conversation, limit=1000)
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        mine = [one for one in messages.values() if one.conversation == conversation]
        assert found == sorted(mine, key=lambda one: one.seq)
        assert await other.history(conversation, limit=1000) == found
        assert await other.last_seq(conversation) == await storage.last_seq(conversation)
        for batch in results:
            seqs = [
                one.message.seq
                for one in batch
                if isinstance(one, Stored) and one.message.conversation == conversation
            ]
            assert seqs == sorted(seqs)


# -- marks -----------------------------------------------------------------------------------------

Places = Mapping[tuple[Conversation, str], tuple[int, int]]
"""Where users stand in conversations: their delivered and read seq."""


def assert_told_once(told: Iterable[Advance], places: Places) -> None:
    """All that led from 0 to these places is told, and nothing twice."""
    seqs: dict[tuple[Conversation, str], tuple[list[int], list[int]]] = {
        key: ([], []) for key in places
    }
    for one in told:
        of_kind = seqs[one.conversation, one.user][one.kind is READ]
        of_kind += range(one.old + 1, one.seq + 1)
    for key, both in seqs.items():
        for of_kind, end in zip(both, places[key], strict=True):
            assert sorted(of_kind) == list(range(1, end + 1)), key


async def test_marks_that_two_servers_move_at_once_are_told_once_each(
    storage: Storage, other: Storage
) -> None:
    await storage.create_group(group("club"))
    for email in (BOB, CAT):
        await storage.join("club", email, 1)
    await storage.append([*drafts(60, CLUB, ANN), *drafts(60)])
    moving = []
    for last in range(2, 61, 2):
        for server in (storage, other):
            claims = [
                make(email, last - random.randint(0, 1), CLUB)
                for email in (BOB, CAT)
                for make in (read, delivered)
            ]
            claims.append(read(BOB, last))
            moving.append(server.advance(random.sample(claims, random.randint(2, len(claims)))))
    told = [one for each in await asyncio.gather(*moving) for one in each]
    final = [read(BOB, 60), read(BOB, 60, CLUB), read(CAT, 60, CLUB)]
    told += await storage.advance(final)
    assert_told_once(told, {(one.conversation, one.user): (60, 60) for one in final})


async def test_a_mark_that_another_server_moves_on_at_once_is_told_nevertheless(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """Of two marks one is lost to another server, which then moves the other mark further."""
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    await storage.append(drafts(5, CLUB, CAT))
    told: list[Advance] = []

    async def race(call: Call) -> Any:
        told.extend(await other.advance([delivered(ANN, 1, CLUB)]))
        result = await call()
        told.extend(await other.advance([delivered(BOB, 5, CLUB)]))
        return result

    with driver.interrupted("members.bulk_write", race) as interruption:
        told += await storage.advance([delivered(ANN, 3, CLUB), delivered(BOB, 3, CLUB)])
    assert interruption.happened
    assert_told_once(told, {(CLUB, ANN): (3, 0), (CLUB, BOB): (5, 0)})


# -- what another server takes away ----------------------------------------------------------------


async def test_a_pair_that_another_server_took_away_begins_anew(
    storage: Storage, other: Storage
) -> None:
    """Seen to fail with ``forget`` doing nothing."""
    await other.append(drafts(5))
    await storage.delete_conversation(ANN_AND_BOB)
    await other.forget()
    (outcome,) = await other.append([draft()])
    assert isinstance(outcome, Stored)
    assert outcome.message.seq == 1
    assert await storage.positions(BOB) == [Position(ANN_AND_BOB, 1, 0, 0)]
