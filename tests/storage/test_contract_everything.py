"""What every adapter promises of going through all there is, and of taking it over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
from tornado.ioloop import IOLoop

from chatd.models import (
    Conversation,
    Duplicate,
    Group,
    Member,
    Message,
    Place,
    Position,
    Record,
    RevokedToken,
    group_conversation,
)
from chatd.storage.base import Storage
from tests.storage.conftest import Adapter
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    delivered,
    draft,
    drafts,
    group,
    read,
    stored,
    user,
    walk,
)

# -- going through ---------------------------------------------------------------------------------


async def test_conversations_are_those_of_groups_and_those_with_messages(storage: Storage) -> None:
    assert await storage.conversations(limit=5) == []
    await storage.create_group(group("club"))
    await storage.create_group(group("empty"))
    await storage.append([draft(CLUB), draft(ANN_AND_BOB), draft(ANN_HERSELF)])
    expected = [CLUB, group_conversation("empty"), ANN_HERSELF, ANN_AND_BOB]
    assert await storage.conversations(limit=9) == expected
    assert await storage.conversations(prefix="u:", limit=9) == expected[2:]
    assert await storage.conversations(prefix="g:", limit=9) == expected[:2]
    assert await storage.conversations(prefix="g:", after=CLUB, limit=9) == expected[1:2]
    assert await storage.conversations(limit=2) == expected[:2]

    async def page(last: Conversation | None) -> list[Conversation]:
        return await storage.conversations(after=last or "", limit=3)

    assert await walk(page, 3) == expected


async def test_places_are_of_members_and_of_both_sides(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 2)
    await storage.append([draft(CLUB), draft(ANN_AND_BOB, sent_at=4), draft(ANN_HERSELF)])
    await storage.advance([delivered(BOB, 1, CLUB), read(BOB, 1)])
    assert await storage.places(CLUB, limit=5) == [
        Place(CLUB, ANN, 1, 0, 0),
        Place(CLUB, BOB, 2, 1, 0),
    ]
    assert await storage.places(ANN_AND_BOB, limit=5) == [
        Place(ANN_AND_BOB, ANN, 4, 0, 0),
        Place(ANN_AND_BOB, BOB, 4, 1, 1),
    ]
    assert [one.user for one in await storage.places(ANN_HERSELF, limit=5)] == [ANN]
    assert [one.user for one in await storage.places(CLUB, after=ANN, limit=5)] == [BOB]
    assert [one.user for one in await storage.places(CLUB, limit=1)] == [ANN]
    assert await storage.places(group_conversation("none"), limit=5) == []


async def test_a_new_store_is_sound(storage: Storage) -> None:
    await storage.create_group(group("club"))
    await storage.append([draft(CLUB), draft()])
    assert await storage.check() == []


# -- taking over -----------------------------------------------------------------------------------


@pytest.fixture
async def another(io_loop: IOLoop, adapter: Adapter) -> AsyncIterator[Storage]:
    storage = adapter.open("another")
    await storage.start()
    yield storage
    await storage.close()


async def fill(storage: Storage) -> None:
    """A bit of everything."""
    for email in (ANN, BOB, CAT):
        await storage.create_user(user(email))
    await storage.touch_last_seen({ANN: 7})
    await storage.set_password(BOB, "another", 3)
    await storage.create_group(Group("club", "The Club", ANN, 2))
    await storage.create_group(group("empty"))
    await storage.join("club", BOB, 3)
    await storage.append(
        [draft(CLUB, (ANN, BOB, CAT)[number % 3], sent_at=number) for number in range(30)]
    )
    await storage.append([draft(client_id="c"), draft(sender=BOB), draft(sender=BOB)])
    await storage.append([draft(ANN_HERSELF)])
    await storage.advance([read(ANN, 9, CLUB), delivered(BOB, 20, CLUB), read(BOB, 1)])
    await storage.prune(CLUB, 5, 100)
    await storage.leave("club", ANN)
    await storage.revoke_token("token", 50)


async def records(storage: Storage) -> list[Record]:
    """Everything, in an order that `load` takes."""
    found: list[Record] = [
        *await storage.list_users(limit=99),
        *await storage.list_groups(limit=99),
    ]
    for conversation in await storage.conversations(limit=99):
        found += await storage.history(conversation, after_seq=0, limit=99)
        found += await storage.places(conversation, limit=99)
    return [*found, *await storage.revoked_tokens(0)]


SEEN: Final[list[Callable[[Storage], Awaitable[object]]]] = [
    lambda store: store.positions(ANN),
    lambda store: store.positions(BOB),
    lambda store: store.summaries(ANN, limit=9),
    lambda store: store.summaries(BOB, limit=9),
    lambda store: store.members("club", limit=9),
    lambda store: store.group_names_of(BOB),
    lambda store: store.group("club"),
    lambda store: store.last_seq(CLUB),
    lambda store: store.written_by(ANN, CLUB, limit=9),
    lambda store: store.user_by_email(BOB),
]


async def test_a_store_that_took_everything_over_is_the_same(
    storage: Storage, another: Storage
) -> None:
    await fill(storage)
    everything = await records(storage)
    await another.load(everything)
    assert await records(another) == everything
    for see in SEEN:
        assert await see(another) == await see(storage)


async def test_what_was_taken_over_goes_on(storage: Storage, another: Storage) -> None:
    await fill(storage)
    for record in await records(storage):
        await another.load([record])
    (again,) = await another.append([draft(client_id="c")])
    assert isinstance(again, Duplicate)
    (outcome,) = await another.append([draft(CLUB, BOB)])
    assert stored(outcome).seq == 31
    (outcome,) = await another.append([draft(sender=BOB)])
    assert stored(outcome).seq == 4
    assert await another.join("club", CAT, 60)
    assert await another.members("club", limit=9) == [
        Member("club", BOB, 3, 20, 0),
        Member("club", CAT, 60, 31, 31),
    ]
    moved = await another.advance([read(BOB, 25, CLUB)])
    assert [(one.old, one.seq) for one in moved] == [(20, 25), (0, 25)]
    (summary,) = [one for one in await another.summaries(BOB, limit=9) if one.conversation == CLUB]
    later = await another.history(CLUB, after_seq=25, limit=99)
    assert summary.unread == sum(one.sender != BOB for one in later)
    club = await another.group("club")
    assert club is not None
    assert (club.members, club.messages) == (2, 31)


async def test_taking_over_again_changes_nothing(storage: Storage, another: Storage) -> None:
    await fill(storage)
    everything = await records(storage)
    await another.load(everything[: len(everything) // 2])
    await another.load(everything)
    await another.load(everything)
    assert await records(another) == everything
    assert await another.positions(BOB) == await storage.positions(BOB)
    assert await another.summaries(BOB, limit=9) == await storage.summaries(BOB, limit=9)


async def test_a_newer_record_takes_the_place_of_the_old_one(storage: Storage) -> None:
    before = user(ANN)
    await storage.load([before, Group("club", None, ANN, 1), RevokedToken("token", 5)])
    text = Message("1", CLUB, 1, ANN, "text", 3)
    await storage.load([text, Place(CLUB, ANN, 1, 0, 0)])
    changed = user(ANN, created_at=9)
    later = Message("1", CLUB, 1, ANN, "text", 3, delivered_at=7)
    await storage.load([changed, Group("club", "Club", BOB, 1), RevokedToken("token", 8)])
    await storage.load([later, Place(CLUB, ANN, 1, 1, 1)])
    assert await storage.user_by_email(ANN) == changed
    assert await storage.user_by_id(changed.id) == changed
    assert await storage.user_by_id(before.id) is None
    assert await storage.group("club") == Group("club", "Club", BOB, 1, 1, 1)
    assert await storage.history(CLUB, limit=9) == [later]
    assert await storage.positions(ANN) == [Position(CLUB, 1, 1, 1)]
    assert await storage.revoked_tokens(0) == [RevokedToken("token", 8)]


async def test_nothing_is_taken_over_from_nothing(storage: Storage) -> None:
    await storage.load([])
    assert await records(storage) == []


async def test_many_records_at_once(storage: Storage, another: Storage) -> None:
    await storage.append(drafts(1500))
    found = await storage.history(ANN_AND_BOB, limit=2000)
    await another.load(found)
    await another.load(await storage.places(ANN_AND_BOB, limit=5))
    assert await another.history(ANN_AND_BOB, limit=2000) == found
    assert await another.summaries(BOB, limit=5) == await storage.summaries(BOB, limit=5)
