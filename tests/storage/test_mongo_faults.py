"""MongoDB's adapter where calls are lost: whatever broke off, repeating it puts it right.

An error is put in at each call of the driver in turn, once before the server gets it and once
when it has done it; and another server comes in between. Then a real mongod is made to fail.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Final, NamedTuple, TypeVar

import msgspec
import pytest
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import (
    Advance,
    ClientIdConflict,
    Conversation,
    Draft,
    Duplicate,
    Mark,
    Message,
    Outcome,
    Position,
    Stored,
    User,
    group_conversation,
    pair_conversation,
)
from chatd.storage.base import Storage
from tests.storage.faults import Driver, Event, after, lost_answer, lost_call, made
from tests.storage.openings import opened
from tests.storage.samples import (
    DELIVERED,
    READ,
    draft,
    group,
    user,
)
from tests.storage.test_mongo_servers import Places, assert_told_once

T = TypeVar("T")


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


class Disturbance(NamedTuple):
    """What happens at one call of the driver; ``others_write`` something before it."""

    event: Event
    others_write: bool

    def amid(self, others: Callable[[], Awaitable[object]]) -> Event:
        return after(others, self.event) if self.others_write else self.event


LOST_CALL: Final = Disturbance(lost_call, others_write=False)
LOST_ANSWER: Final = Disturbance(lost_answer, others_write=False)

DISTURBANCES: Final[Mapping[str, Disturbance]] = {
    "lost call": LOST_CALL,
    "lost answer": LOST_ANSWER,
    "others write": Disturbance(made, others_write=True),
    "others write, lost call": Disturbance(lost_call, others_write=True),
    "others write, lost answer": Disturbance(lost_answer, others_write=True),
}


@pytest.fixture(params=DISTURBANCES)
def disturbance(request: pytest.FixtureRequest) -> Disturbance:
    return DISTURBANCES[request.param]


class Scene:
    """Users and conversations of one run's own, so that many runs share a database."""

    def __init__(self, run: int) -> None:
        self.ann = f"ann-{run}@example.org"
        self.bob = f"bob-{run}@example.org"
        self.cat = f"cat-{run}@example.org"
        self.pair = pair_conversation(self.ann, self.bob)
        self.herself = pair_conversation(self.ann, self.ann)
        self.group = f"club-{run}"
        self.club = group_conversation(self.group)

    async def set_up(self, storage: Storage) -> None:
        await storage.create_user(user(self.ann))
        await storage.create_group(group(self.group, created_by=self.ann))
        await storage.join(self.group, self.bob, 1)
        await storage.append([draft(self.club, self.ann, "old", client_id="old")])
        await storage.group(self.group)  # counts what is behind

    async def messages(self, server: Storage) -> dict[Conversation, list[Message]]:
        return {
            one: await server.history(one, limit=100)
            for one in (self.pair, self.herself, self.club)
        }


async def sweep(
    driver: Driver,
    prepare: Callable[[Scene], Awaitable[Callable[[], Awaitable[T]]]],
    event: Callable[[Scene], Event],
    check: Callable[[Scene, T | None], Awaitable[None]],
) -> list[str]:
    """Let ``event`` happen at the first call of the driver, in another scene at the second, …

    ``prepare`` returns what is then called; ``check`` gets what that returned, or None where it
    was `Unavailable`. Returns the driver's calls where nothing happened to them.
    """
    for nth in itertools.count(1):
        scene = Scene(nth)
        call, result = await prepare(scene), None
        with driver.interrupted(nth, event(scene)) as interruption:
            try:
                result = await call()
            except Unavailable:
                assert interruption.happened
            calls = list(driver.calls)
        try:
            await check(scene, result)
        except AssertionError as error:
            error.add_note(f"it happened at call {nth} of {calls}")
            raise
        if not interruption.happened:
            return calls
    raise AssertionError("there is always one more number")


# -- append ----------------------------------------------------------------------------------------


def _batch(scene: Scene) -> list[Draft]:
    """First messages of pairs, messages of a group, repeats of both kinds, and conflicts."""
    ann, bob, club = scene.ann, scene.bob, scene.club
    return [
        draft(scene.pair, ann, "one", client_id="1"),
        draft(club, ann, "two", client_id="2"),
        draft(club, bob, "three"),
        draft(scene.pair, bob, "four"),
        draft(scene.pair, ann, "one", client_id="1"),
        draft(club, ann, "old", client_id="old"),
        draft(club, ann, "not two", client_id="2"),
        draft(scene.herself, ann, "five", client_id="5"),
        draft(scene.pair, ann, "not old", client_id="old"),
        draft(scene.herself, ann, "six"),
        draft(club, bob, "seven", client_id="7"),
        draft(club, bob, "seven", client_id="7"),
        draft(club, ann, "eight", client_id="8"),
    ]


def _others_batch(scene: Scene) -> list[Draft]:
    """What a second server gets: something new, something that the first gets too, a conflict."""
    return [
        draft(scene.pair, scene.bob, "from the other"),
        draft(scene.club, scene.bob, "seven, or not", client_id="7"),
        draft(scene.pair, scene.ann, "one", client_id="1"),
        draft(scene.club, scene.bob, "from the other, too"),
    ]


def _expected(one: Draft, messages: Iterable[Message]) -> Outcome:
    """What becomes of a draft where these are stored in the end."""
    (held,) = [
        message
        for message in messages
        if (
            message.id == one.id
            if one.client_id is None
            else (message.sender, message.client_id) == (one.sender, one.client_id)
        )
    ]
    if held.id == one.id:
        return Stored(held)
    if (held.text, held.conversation) == (one.text, one.conversation):
        return Duplicate(held)
    return ClientIdConflict()


async def _as_a_client_repeats(server: Storage, batch: Sequence[Draft]) -> list[Draft]:
    """Drafts with new ids: all that have a client id, of the others what is not stored."""
    return [
        msgspec.structs.replace(one, id=str(uuid.uuid4()))
        for one in batch
        if one.client_id is not None or await server.message(one.id) is None
    ]


async def _assert_in_order(scene: Scene, server: Storage, sent: Sequence[Draft]) -> None:
    """No hole, no double, and the order of the batch; marks and counts that go with it."""
    histories = await scene.messages(server)
    for conversation, found in histories.items():
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        assert await server.last_seq(conversation) == len(found)
        texts = [one.text for one in found]
        assert len(set(texts)) == len(texts)
        ids = {one.id for one in sent}
        stored_texts = [one.text for one in found if one.id in ids]
        assert stored_texts == [text for text in _texts(sent) if text in stored_texts]
    for conversation, users in (
        (scene.pair, (scene.ann, scene.bob)),
        (scene.herself, (scene.ann,)),
    ):
        for one in users:
            position = Position(conversation, len(histories[conversation]), 0, 0)
            assert position in await server.positions(one)
    found_group = await server.group(scene.group)
    assert found_group is not None
    assert found_group.messages == len(histories[scene.club])


def _texts(sent: Sequence[Draft]) -> list[str]:
    return list(dict.fromkeys(one.text for one in sent))


@pytest.mark.parametrize("repeated_by", ["the same", "the other"])
async def test_an_append_that_breaks_off_anywhere_and_is_repeated_is_stored_once_in_order(
    storage: Storage,
    other: Storage,
    driver: Driver,
    disturbance: Disturbance,
    repeated_by: str,
) -> None:
    batches: dict[Scene, list[Draft]] = {}

    async def prepare(scene: Scene) -> Callable[[], Awaitable[list[Outcome]]]:
        await scene.set_up(storage)
        batches[scene] = _batch(scene)

        async def append_and_count() -> list[Outcome]:
            outcomes = await storage.append(batches[scene])
            await storage.group(scene.group)
            return outcomes

        return append_and_count

    async def check(scene: Scene, outcomes: list[Outcome] | None) -> None:
        batch = batches[scene]
        again = await _as_a_client_repeats(other, batch)
        server = storage if repeated_by == "the same" else other
        outcomes_again = await server.append(again)
        messages = [one for found in (await scene.messages(other)).values() for one in found]
        assert outcomes_again == [_expected(one, messages) for one in again]
        if outcomes is not None:
            assert outcomes == [_expected(one, messages) for one in batch]
            assert not any(isinstance(one, Stored) for one in outcomes_again)
        assert await scene.messages(storage) == await scene.messages(other)
        await asyncio.gather(storage.group(scene.group), other.group(scene.group))
        for each in (storage, other):
            await _assert_in_order(scene, each, [*batch, *again])

    def event(scene: Scene) -> Event:
        return disturbance.amid(lambda: other.append(_others_batch(scene)))

    calls = await sweep(driver, prepare, event, check)
    assert {"messages.aggregate", "marks.insert_many", "groups.bulk_write"} <= set(calls)
    assert calls.count("messages.insert_many") > 2


# -- advance ---------------------------------------------------------------------------------------


def _claims(scene: Scene, at: int) -> list[Mark]:
    """Those of pairs and groups, two of one user, one untrue as yet, one beyond the end."""
    return [
        Mark(scene.pair, scene.bob, DELIVERED, 2, at),
        Mark(scene.pair, scene.bob, READ, 3, at),
        Mark(scene.pair, scene.ann, READ, 5, at),
        Mark(scene.club, scene.bob, READ, 2, at),
        Mark(scene.pair, scene.bob, READ, 6, at, since=6),
        Mark(scene.club, scene.ann, DELIVERED, 4, at),
        Mark(scene.pair, scene.ann, READ, 7, at),
        Mark(scene.club, scene.cat, READ, 1, at),
    ]


def _others_claims(scene: Scene) -> list[Mark]:
    return [
        Mark(scene.pair, scene.bob, DELIVERED, 4, 30),
        Mark(scene.pair, scene.ann, READ, 2, 30),
        Mark(scene.club, scene.bob, READ, 1, 30),
        Mark(scene.club, scene.ann, READ, 1, 30),
    ]


@pytest.mark.parametrize("claimed_again_by", ["the same", "the other"])
async def test_marks_whose_move_breaks_off_anywhere_are_right_and_told_when_claimed_again(
    storage: Storage,
    other: Storage,
    driver: Driver,
    disturbance: Disturbance,
    claimed_again_by: str,
) -> None:
    """Who moved them and could not tell tells with the next batch."""
    servers = (storage, other) if claimed_again_by == "the same" else (other, storage)
    told: dict[Scene, list[Advance]] = {}

    async def prepare(scene: Scene) -> Callable[[], Awaitable[list[Advance]]]:
        await scene.set_up(storage)
        ann, bob = scene.ann, scene.bob
        await storage.append([draft(scene.pair, one) for one in (ann, bob, ann, bob, ann, ann)])
        await storage.append([draft(scene.club, one) for one in (bob, ann, scene.cat)])
        await storage.group(scene.group)  # counts what is behind
        told[scene] = []
        return lambda: storage.advance(_claims(scene, 50))

    async def others(scene: Scene) -> None:
        told[scene] += await other.advance(_others_claims(scene))

    async def check(scene: Scene, advances: list[Advance] | None) -> None:
        others_wrote = bool(told[scene])
        told[scene] += advances or []
        for server in servers:
            told[scene] += await server.advance(_claims(scene, 70))
        delivered = 4 if others_wrote else 3
        places = {
            (scene.pair, scene.ann): (5, 5),
            (scene.pair, scene.bob): (delivered, 3),
            (scene.club, scene.ann): (4, 1 if others_wrote else 0),
            (scene.club, scene.bob): (2, 2),
        }
        assert_told_once(told[scene], places)
        for server in (storage, other):
            assert await _places(server, scene) == places
            for message in await server.history(scene.pair, limit=10):
                covered = _covered(message, places, scene)
                assert [at is not None for at in (message.delivered_at, message.read_at)] == covered
                assert {message.delivered_at, message.read_at} <= {None, 30, 50, 70}
            for message in await server.history(scene.club, limit=10):
                assert message.delivered_at is message.read_at is None

    def event(scene: Scene) -> Event:
        return disturbance.amid(lambda: others(scene))

    calls = await sweep(driver, prepare, event, check)
    assert {"messages.bulk_write", "marks.bulk_write", "members.bulk_write"} <= set(calls)


async def _places(server: Storage, scene: Scene) -> Places:
    return {
        (one.conversation, email): (one.delivered_seq, one.read_seq)
        for email in (scene.ann, scene.bob)
        for one in await server.positions(email)
    }


def _covered(message: Message, places: Places, scene: Scene) -> list[bool]:
    """Whether the recipient has the message, and has read it."""
    recipient = scene.bob if message.sender == scene.ann else scene.ann
    return [message.seq <= end for end in places[message.conversation, recipient]]


# -- the other writes ------------------------------------------------------------------------------


async def nothing(_server: Storage, _scene: Scene) -> None:
    """Others write nothing that concerns this."""


class Write(NamedTuple):
    """A write, and what is so when it is done; what others write meanwhile, and what is before."""

    call: Callable[[Storage, Scene], Awaitable[object]]
    check: Callable[[Storage, Scene], Awaitable[object]]
    others: Callable[[Storage, Scene], Awaitable[object]] = nothing
    prepare: Callable[[Storage, Scene], Awaitable[object]] = nothing


async def assert_whole_when_repeated(
    write: Write, storage: Storage, other: Storage, driver: Driver, disturbance: Disturbance
) -> list[str]:
    """Disturb the write at each of its calls of the driver, and repeat it; those calls."""

    async def prepare(scene: Scene) -> Callable[[], Awaitable[bool]]:
        await scene.set_up(storage)
        await write.prepare(storage, scene)

        async def call() -> bool:
            await write.call(storage, scene)
            return True

        return call

    async def check(scene: Scene, done: bool | None) -> None:
        if not done:
            await write.call(storage, scene)
        for server in (storage, other):
            await write.check(server, scene)
        await write.call(other, scene)
        await write.check(storage, scene)

    def event(scene: Scene) -> Event:
        return disturbance.amid(lambda: write.others(other, scene))

    return await sweep(driver, prepare, event, check)


def _new_user(scene: Scene) -> User:
    return User(f"id of {scene.cat}", scene.cat, "hash", created_at=5)


async def _is_stored(server: Storage, scene: Scene) -> None:
    assert await server.user_by_email(scene.cat) == _new_user(scene)
    assert await server.user_by_id(f"id of {scene.cat}") == _new_user(scene)


async def _has_a_new_password(server: Storage, scene: Scene) -> None:
    found = await server.user_by_email(scene.ann)
    assert found is not None
    assert (found.password_hash, found.generation) == ("new hash", 4)


async def _was_seen(server: Storage, scene: Scene) -> None:
    found = await server.user_by_email(scene.ann)
    assert found is not None
    assert found.last_seen_at == 9


async def _is_revoked(server: Storage, scene: Scene) -> None:
    assert scene.ann in {one.id for one in await server.revoked_tokens(8)}
    assert scene.ann not in {one.id for one in await server.revoked_tokens(9)}


async def _members(server: Storage, name: str) -> list[str]:
    """The members, whose count is right."""
    found = await server.group(name)
    assert found is not None
    emails = [one.email for one in await server.members(name, limit=10)]
    assert found.members == len(emails)
    return emails


async def _has_its_founder(server: Storage, scene: Scene) -> None:
    name = f"new-{scene.group}"
    found = await server.group(name)
    assert found is not None
    assert await _members(server, name) == [found.created_by]
    assert name in await server.group_names_of(found.created_by)


async def _has_joined(server: Storage, scene: Scene) -> None:
    assert scene.cat in await _members(server, scene.group)
    member = await server.member(scene.group, scene.cat)
    assert member is not None
    assert (member.joined_at, member.delivered_seq, member.read_seq) == (5, 1, 1)


async def _has_left(server: Storage, scene: Scene) -> None:
    assert scene.bob not in await _members(server, scene.group)
    assert await server.positions(scene.bob) == []


WRITES: Final[Mapping[str, Write]] = {
    "create_user": Write(
        lambda server, scene: server.create_user(_new_user(scene)),
        _is_stored,
        lambda server, scene: server.create_user(_new_user(scene)),
    ),
    "set_password": Write(
        lambda server, scene: server.set_password(scene.ann, "new hash", 4),
        _has_a_new_password,
    ),
    "touch_last_seen": Write(
        lambda server, scene: server.touch_last_seen({scene.ann: 9, scene.bob: 9}),
        _was_seen,
        lambda server, scene: server.touch_last_seen({scene.ann: 4}),
    ),
    "revoke_token": Write(
        lambda server, scene: server.revoke_token(scene.ann, 9),
        _is_revoked,
        lambda server, scene: server.revoke_token(scene.ann, 4),
    ),
    "create_group": Write(
        lambda server, scene: server.create_group(
            group(f"new-{scene.group}", created_by=scene.ann)
        ),
        _has_its_founder,
        lambda server, scene: server.create_group(
            group(f"new-{scene.group}", created_by=scene.bob)
        ),
    ),
    "join": Write(
        lambda server, scene: server.join(scene.group, scene.cat, 5),
        _has_joined,
        lambda server, scene: server.leave(scene.group, scene.bob),
    ),
    "leave": Write(
        lambda server, scene: server.leave(scene.group, scene.bob),
        _has_left,
        lambda server, scene: server.join(scene.group, scene.cat, 5),
    ),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_breaks_off_anywhere_is_whole_when_it_is_repeated(
    storage: Storage,
    other: Storage,
    driver: Driver,
    disturbance: Disturbance,
    name: str,
) -> None:
    calls = await assert_whole_when_repeated(WRITES[name], storage, other, driver, disturbance)
    assert len(calls) >= (4 if name in {"create_group", "join", "leave"} else 1)
