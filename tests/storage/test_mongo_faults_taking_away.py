"""MongoDB's adapter where calls are lost amid taking away and taking over, and others write.

As in `test_mongo_faults`: whatever broke off, repeating it puts it right.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import (
    Advance,
    Conversation,
    Draft,
    Group,
    Message,
    Place,
    Position,
    Record,
    RevokedToken,
    User,
    group_conversation,
    pair_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.mongo import removal
from chatd.storage.mongo.address import address_of
from tests.storage.faults import Call, Driver, Event, lost_answer, lost_call
from tests.storage.openings import opened
from tests.storage.samples import delivered, draft, read, stored, user
from tests.storage.test_mongo_faults import (
    DISTURBANCES,
    Disturbance,
    Scene,
    Write,
    assert_whole_when_repeated,
    sweep,
)

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]

NOBODY: Final = "erased-1a2b@erased.invalid"


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


@pytest.fixture
def db(mongo_client: Client, mongo_url: str) -> Db:
    return mongo_client[address_of(mongo_url).database]


@pytest.fixture(params=DISTURBANCES)
def disturbance(request: pytest.FixtureRequest) -> Disturbance:
    return DISTURBANCES[request.param]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages are as many pieces as else thousands are."""
    monkeypatch.setattr(removal, "_PIECE", 2)


# -- a pair with another key -----------------------------------------------------------------------


def _said(scene: Scene) -> list[Draft]:
    return [
        draft(scene.pair, scene.ann if number % 2 else scene.bob, f"text {number}", client_id=name)
        for number, name in enumerate(("zero", "one", "two", "three", "four"))
    ]


async def _talk_in_the_pair(storage: Storage, scene: Scene, said: Sequence[Draft]) -> None:
    await storage.append(said)
    await storage.advance([read(scene.bob, 2, scene.pair), delivered(scene.bob, 3, scene.pair)])


def _renamed(scene: Scene) -> Conversation:
    return pair_conversation(NOBODY, scene.bob)


async def _assert_renamed(server: Storage, scene: Scene, said: list[Draft]) -> None:
    """Everything is under the new key, once and in order; ``said`` in front of the others'."""
    new = _renamed(scene)
    found = await server.history(new, limit=100)
    assert [one.seq for one in found] == list(range(1, len(found) + 1))
    assert [one.id for one in found[: len(said)]] == [one.id for one in said]
    for message, one in zip(found, said, strict=False):
        assert message.text == ("" if one.sender == scene.ann else one.text)
        assert message.sender == (NOBODY if one.sender == scene.ann else scene.bob)
        assert message.client_id == (None if one.sender == scene.ann else one.client_id)
    assert [one.text for one in found[len(said) :]] in ([], ["meanwhile"])
    assert await server.history(scene.pair, limit=100) == []
    assert await server.places(scene.pair, limit=100) == []
    assert await server.positions(scene.ann) == []
    places = await server.places(new, limit=100)
    assert {one.user: one.delivered_seq for one in places} == {NOBODY: 5, scene.bob: 3}
    conversations = [one.conversation for one in await server.positions(scene.bob)]
    assert sorted(conversations) == sorted([scene.club, new])


@pytest.mark.parametrize("another", ["knows the end", "does not know the end", "renames it too"])
async def test_a_rename_that_breaks_off_anywhere_is_finished_when_it_is_repeated(
    small_pieces: None,
    storage: Storage,
    other: Storage,
    driver: Driver,
    disturbance: Disturbance,
    another: str,
) -> None:
    """And another server reads, writes and marks at any time; it may know where the pair ended.

    Seen to fail with marks that are deleted before they are copied; with ones that are deleted
    though they moved meanwhile; with ``"$inc": {"seq": 0}``; and without the ``max(0, …)`` of
    `_Line.summary`.
    """
    batches: dict[Scene, list[Draft]] = {}
    told: dict[Scene, list[Advance]] = {}

    async def prepare(scene: Scene) -> Callable[[], Awaitable[bool]]:
        await storage.create_group(Group(scene.group, None, scene.bob, 1))
        batches[scene], told[scene] = _said(scene), []
        await _talk_in_the_pair(storage, scene, batches[scene][:-1])
        await (other if another == "knows the end" else storage).append(batches[scene][-1:])
        await storage.advance([read(scene.ann, 5, scene.pair)])

        async def call() -> bool:
            await storage.reassign(scene.pair, scene.ann, NOBODY, blank=True)
            return True

        return call

    async def others(scene: Scene) -> None:
        lines = await other.summaries(scene.bob, limit=5)
        assert {scene.pair, _renamed(scene)} & {one.conversation for one in lines}
        lines += await other.summaries(NOBODY, limit=1000)
        assert all(one.unread >= 0 for one in lines)
        if another == "renames it too":
            await other.reassign(scene.pair, scene.ann, NOBODY, blank=True)
            return
        told[scene] += await other.advance([read(scene.bob, 3, scene.pair)])
        await other.append([draft(scene.pair, scene.bob, "meanwhile")])

    async def check(scene: Scene, done: bool | None) -> None:
        if not done:
            await storage.reassign(scene.pair, scene.ann, NOBODY, blank=True)
        for server in (storage, other):
            await _assert_renamed(server, scene, batches[scene])
        (bob,) = [
            one for one in await other.positions(scene.bob) if one.conversation == _renamed(scene)
        ]
        assert bob.read_seq == (3 if told[scene] else 2)
        await other.reassign(scene.pair, scene.ann, NOBODY, blank=True)
        await _assert_renamed(storage, scene, batches[scene])
        # Whoever has the address next begins anew, on the server that has renamed the pair.
        (outcome,) = await storage.append([draft(scene.pair)])
        assert stored(outcome).seq == 1
        assert Position(scene.pair, 1, 0, 0) in await storage.positions(scene.bob)

    def event(scene: Scene) -> Event:
        return disturbance.amid(lambda: others(scene))

    calls = await sweep(driver, prepare, event, check)
    assert calls.count("messages.update_many") >= 6


CALLS_ON_A_PAIR: Final[Mapping[str, Callable[[Storage, Scene], Awaitable[object]]]] = {
    "reassign": lambda server, scene: server.reassign(scene.pair, scene.ann, NOBODY, blank=False),
    "delete_conversation": lambda server, scene: server.delete_conversation(scene.pair),
}


@pytest.mark.parametrize("name", CALLS_ON_A_PAIR)
@pytest.mark.parametrize("event", [lost_call, lost_answer])
async def test_who_goes_by_the_positions_of_a_user_takes_all_away(
    small_pieces: None, storage: Storage, driver: Driver, db: Db, name: str, event: Event
) -> None:
    """What broke off is found by that, and called again; the user goes when all is gone.

    Seen to fail with ``range(first, min(first + _PIECE, last + 1))``; with marks that are deleted
    in front of the last message; and with ``delete_unbegun`` left out.
    """

    async def take_away(scene: Scene) -> None:
        for position in await storage.positions(scene.ann):
            assert position.conversation == scene.pair
            await CALLS_ON_A_PAIR[name](storage, scene)
        await storage.delete_user(scene.ann)

    async def prepare(scene: Scene) -> Callable[[], Awaitable[bool]]:
        await storage.create_user(user(scene.ann))
        await _talk_in_the_pair(storage, scene, _said(scene))

        async def call() -> bool:
            await take_away(scene)
            return True

        return call

    async def check(scene: Scene, done: bool | None) -> None:
        if not done:
            await take_away(scene)
        assert not db.users.count_documents({"_id": scene.ann})
        assert not db.marks.count_documents({"_id.conversation": scene.pair})
        assert not db.messages.count_documents({"conversation": scene.pair})
        kept = await storage.history(_renamed(scene), limit=9)
        places = await storage.places(_renamed(scene), limit=9)
        if name == "reassign":
            assert [one.seq for one in kept] == [1, 2, 3, 4, 5]
            assert {one.user: one.read_seq for one in places} == {NOBODY: 0, scene.bob: 2}
        else:
            assert (kept, places) == ([], [])

    calls = await sweep(driver, prepare, lambda _scene: event, check)
    assert len(calls) > 10


@pytest.mark.parametrize("name", CALLS_ON_A_PAIR)
@pytest.mark.parametrize("amid", ["messages.aggregate", "messages.insert_many"])
@pytest.mark.parametrize("when", ["before", "behind"])
async def test_what_this_server_has_under_way_with_a_pair_knows_no_old_end_afterwards(
    storage: Storage, other: Storage, driver: Driver, name: str, amid: str, when: str
) -> None:
    """An append and a mark stand in the middle of what they do, and the pair is taken away.

    Seen to fail with either ``turn`` left out of `MongoStorage._forgetting`.
    """
    scene = Scene(1)
    await _talk_in_the_pair(other, scene, _said(scene))
    taking_away: list[asyncio.Task[object]] = []

    async def take_away(call: Call) -> Any:
        result = await call() if when == "behind" else None
        taking_away.append(asyncio.ensure_future(CALLS_ON_A_PAIR[name](storage, scene)))
        # It either waits for what is under way, or is done by then.
        await asyncio.wait(taking_away, timeout=0.5)
        return result if when == "behind" else await call()

    with driver.interrupted(amid, take_away) as interruption:
        if amid == "messages.insert_many":
            await storage.append([draft(scene.pair, scene.bob, "meanwhile")])
        else:
            await storage.advance([read(scene.ann, 5, scene.pair)])
    assert interruption.happened
    await asyncio.gather(*taking_away)
    assert await storage.history(scene.pair, limit=9) == []
    (outcome,) = await storage.append([draft(scene.pair)])
    assert stored(outcome).seq == 1
    assert Position(scene.pair, 1, 0, 0) in await storage.positions(scene.bob)


# -- what else is taken away -----------------------------------------------------------------------


async def _append_meanwhile(server: Storage, scene: Scene) -> None:
    await server.append([draft(scene.club, scene.bob, "meanwhile", sent_at=99)])


async def _talk(storage: Storage, scene: Scene) -> None:
    """In the group behind its first, and in the pair."""
    await storage.append(
        [draft(scene.club, scene.ann, client_id=str(at), sent_at=at) for at in (2, 3, 4)]
    )
    await _talk_in_the_pair(storage, scene, _said(scene))


async def _is_pruned(server: Storage, scene: Scene) -> None:
    found = await server.history(scene.club, limit=100)
    assert await server.last_seq(scene.club) in {4, 5}
    assert [one.seq for one in found] in ([4], [5], [4, 5])
    for one in found:
        assert (one.text == "") == (one.seq == 4)
        assert one.client_id is None
    lines = {one.conversation: one for one in await server.summaries(scene.bob, limit=9)}
    assert lines[scene.club].unread == len([one for one in found if one.sender != scene.bob])


async def _is_reassigned(server: Storage, scene: Scene) -> None:
    found = await server.history(scene.club, limit=100)
    assert [one.seq for one in found] == list(range(1, len(found) + 1))
    assert {one.sender for one in found[:4]} == {NOBODY}
    assert {one.client_id for one in found} == {None}
    assert await server.written_by(scene.ann, scene.club, limit=100) == []
    club = await server.group(scene.group)
    assert club is not None
    assert club.created_by == NOBODY


async def _never_was(server: Storage, scene: Scene) -> None:
    assert await server.history(scene.pair, limit=100) == []
    assert await server.places(scene.pair, limit=100) == []
    for email in (scene.ann, scene.bob):
        assert scene.pair not in {one.conversation for one in await server.positions(email)}


async def _append_to_the_pair(server: Storage, scene: Scene) -> None:
    await server.append([draft(scene.pair, scene.bob, "meanwhile")])


async def _has_no_group(server: Storage, scene: Scene) -> None:
    assert await server.group(scene.group) is None
    assert await server.members(scene.group, limit=100) == []
    for email in (scene.ann, scene.bob, scene.cat):
        assert await server.group_names_of(email) == []
        assert await server.positions(email) == []
    assert await server.last_seq(scene.club) == 1


async def _has_joined_what_is_there(server: Storage, scene: Scene) -> None:
    """A group that was deleted has no members; in one that is there the new one is counted."""
    group = await server.group(scene.group)
    emails = [one.email for one in await server.members(scene.group, limit=100)]
    assert (scene.cat in emails) == (group is not None)
    assert len(emails) == (0 if group is None else group.members)


async def _has_no_user(server: Storage, scene: Scene) -> None:
    assert await server.user_by_email(scene.ann) is None


def _records(scene: Scene) -> list[Record]:
    """In a store where the group and one of its messages are already."""
    cats = group_conversation(f"cats-{scene.group}")
    return [
        User(f"id of {scene.cat}", scene.cat, "hash", created_at=5),
        Group(f"cats-{scene.group}", "Cats", scene.cat, 7, members=99, messages=99),
        Group(scene.group, None, scene.bob, 7),
        *(Message(f"{seq} of {cats}", cats, seq, scene.cat, "text", 7) for seq in (5, 6, 7)),
        Message(f"2 of {scene.club}", scene.club, 2, scene.bob, "text", 8, client_id="2"),
        Message(f"1 of {scene.pair}", scene.pair, 1, scene.ann, "text", 8, None, 9, 10),
        *(Place(cats, email, 1, 6, 5) for email in (scene.ann, scene.cat)),
        Place(scene.club, scene.cat, 1, 2, 2),
        *(Place(scene.pair, email, 1, 1, 1) for email in (scene.ann, scene.bob)),
        RevokedToken(f"token of {scene.cat}", 2**40),
    ]


async def _is_taken_over(server: Storage, scene: Scene) -> None:
    cats, club = f"cats-{scene.group}", scene.group
    records = _records(scene)
    assert await server.user_by_email(scene.cat) == records[0]
    assert await server.group(cats) == Group(cats, "Cats", scene.cat, 7, members=2, messages=7)
    assert await server.group(club) == Group(club, None, scene.bob, 7, members=3, messages=2)
    for conversation in (group_conversation(cats), scene.club, scene.pair):
        history = await server.history(conversation, limit=100)
        places = await server.places(conversation, limit=100)
        for record in records:
            if isinstance(record, Message) and record.conversation == conversation:
                assert record in history
            if isinstance(record, Place) and record.conversation == conversation:
                assert record in places
    assert records[-1] in await server.revoked_tokens(0)


WRITES: Final[Mapping[str, Write]] = {
    "prune": Write(
        lambda server, scene: server.prune(scene.club, 50, 100),
        _is_pruned,
        _append_meanwhile,
        _talk,
    ),
    "reassign": Write(
        lambda server, scene: server.reassign(scene.club, scene.ann, NOBODY, blank=False),
        _is_reassigned,
        _append_meanwhile,
        _talk,
    ),
    "delete_conversation": Write(
        lambda server, scene: server.delete_conversation(scene.pair),
        _never_was,
        _append_to_the_pair,
        _talk,
    ),
    "delete_group": Write(
        lambda server, scene: server.delete_group(scene.group),
        _has_no_group,
        lambda server, scene: server.join(scene.group, scene.cat, 5),
    ),
    "join": Write(
        lambda server, scene: server.join(scene.group, scene.cat, 5),
        _has_joined_what_is_there,
        lambda server, scene: server.delete_group(scene.group),
    ),
    "delete_user": Write(lambda server, scene: server.delete_user(scene.ann), _has_no_user),
    "load": Write(lambda server, scene: server.load(_records(scene)), _is_taken_over),
}


async def test_a_group_that_is_taken_over_again_keeps_its_counts(storage: Storage) -> None:
    """Seen to fail with ``{"$set": {**document, **new}}``."""
    scene = Scene(1)
    await storage.load(_records(scene))
    group = await storage.group(f"cats-{scene.group}")
    assert group is not None
    await storage.load([Group(group.name, None, scene.bob, 8)])
    changed = Group(group.name, None, scene.bob, 8, members=2, messages=7)
    assert await storage.group(group.name) == changed


LEAST_CALLS: Final[Mapping[str, int]] = {"delete_user": 1}
"""How many calls of the driver each write makes at the least; 3 where it is not told."""


@pytest.mark.parametrize("name", WRITES)
async def test_what_is_taken_away_or_over_is_whole_when_it_is_repeated(
    small_pieces: None,
    storage: Storage,
    other: Storage,
    driver: Driver,
    disturbance: Disturbance,
    name: str,
) -> None:
    """Seen to fail with a prune that deletes the last message too; with members of a group that
    are looked for but once; with `groups.join` that does not look back; with a load that does
    not count; and with receipts that are not loaded.
    """
    calls = await assert_whole_when_repeated(WRITES[name], storage, other, driver, disturbance)
    assert len(calls) >= LEAST_CALLS.get(name, 3)


# -- a making that broke off -----------------------------------------------------------------------


@pytest.mark.parametrize("nth", range(2, 8))
async def test_a_group_whose_making_broke_off_is_deleted_for_good(
    storage: Storage, other: Storage, driver: Driver, nth: int
) -> None:
    """At each of its calls another server deletes it: nobody is left in it.

    Seen to fail with `groups.join` that leaves the new member in.
    """
    scene = Scene(nth)
    name = scene.group

    async def delete_and_go_on(call: Callable[[], Awaitable[object]]) -> object:
        await other.delete_group(name)
        return await call()

    with driver.interrupted(nth, delete_and_go_on) as interruption:
        await storage.create_group(Group(name, None, scene.ann, 1))
    assert interruption.happened
    if await other.group(name) is None:
        assert await other.group_names_of(scene.ann) == []
        assert await other.members(name, limit=5) == []
    else:
        assert [one.email for one in await other.members(name, limit=5)] == [scene.ann]


async def test_a_group_that_nobody_founded_is_not_founded_by_an_author(
    storage: Storage, other: Storage, driver: Driver
) -> None:
    """Its making broke off, its maker was erased: who makes it again gets no ghost for a member.

    Seen to fail with ``"founded": True`` of `reassign_group` left out.
    """
    scene = Scene(1)

    with driver.interrupted("members.insert_one", lost_call), pytest.raises(Unavailable):
        await storage.create_group(Group(scene.group, None, scene.ann, 1))
    await storage.reassign(scene.club, scene.ann, NOBODY, blank=False)
    assert not await other.create_group(Group(scene.group, None, scene.bob, 1))
    assert await other.members(scene.group, limit=5) == []
