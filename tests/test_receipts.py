from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chatd.errors import Unavailable
from chatd.models import Advance, Conversation, Mark, ReceiptKind
from chatd.receipts import Receipts
from tests.chat import eventually
from tests.rooms import ANN, BOB, EVE, GROUP, PAIR, Observer

READ, DELIVERED = ReceiptKind.READ, ReceiptKind.DELIVERED


class Storage:
    """Moves every mark it is given, when it is let and unless a failure is next in turn."""

    def __init__(self) -> None:
        self.calls: list[list[Mark]] = []
        self.failures: list[Exception | None] = []
        self.open = asyncio.Event()
        self.open.set()

    async def advance(self, marks: Sequence[Mark]) -> list[Advance]:
        self.calls.append(list(marks))
        await self.open.wait()
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        return [
            Advance(m.conversation, m.user, m.kind, 0, m.seq, m.at, frozenset({ANN})) for m in marks
        ]


class Room:
    """Receipts over a storage, what they told, and what they reported."""

    def __init__(self) -> None:
        self.storage, self.observer = Storage(), Observer()
        self.told: list[Advance] = []
        self.receipts = Receipts(self.storage, self.observer, self.told.append)

    @property
    def told_seqs(self) -> list[int]:
        return [advance.seq for advance in self.told]


@pytest.fixture
async def room(io_loop: Any) -> Room:
    return Room()


@pytest.fixture
async def running(io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The room with its coroutine running."""
    monkeypatch.setattr("chatd.receipts._RETRY_SECONDS", 0.01)
    task = asyncio.create_task(room.receipts.run_forever())
    yield room
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def mark(
    seq: int,
    since: int = 1,
    *,
    conversation: Conversation = PAIR,
    user: str = BOB,
    kind: ReceiptKind = DELIVERED,
) -> Mark:
    return Mark(conversation, user, kind, seq, at=seq * 10, since=since)


async def test_of_the_claims_for_one_run_the_furthest_is_stored(io_loop: Any, room: Room) -> None:
    for seq in (1, 3, 2):
        room.receipts.claim(mark(seq))
    assert await room.receipts.flush()
    assert room.storage.calls == [[mark(3)]]
    assert room.told_seqs == [3]
    assert room.observer.marks == [1]


async def test_claims_that_differ_in_anything_else_are_kept_apart_and_in_order(
    io_loop: Any, room: Room
) -> None:
    claims = [
        mark(3),
        mark(9, since=7),
        mark(3, kind=READ),
        mark(3, user=EVE),
        mark(3, conversation=GROUP),
    ]
    for claim in claims:
        room.receipts.claim(claim)
    await room.receipts.flush()
    assert room.storage.calls == [claims]


async def test_nothing_claimed_is_nothing_stored(io_loop: Any, room: Room) -> None:
    assert await room.receipts.flush()
    assert room.storage.calls == []


async def test_each_move_is_told_once(io_loop: Any, room: Room) -> None:
    room.receipts.claim(mark(1))
    await room.receipts.flush()
    await room.receipts.flush()
    room.receipts.claim(mark(2))
    await room.receipts.flush()
    assert room.told_seqs == [1, 2]


async def test_nobody_is_told_before_it_is_stored(io_loop: Any, room: Room) -> None:
    room.storage.open.clear()
    room.receipts.claim(mark(1))
    flushing = asyncio.create_task(room.receipts.flush())
    await asyncio.sleep(0.01)
    assert room.told == []
    room.storage.open.set()
    assert await flushing
    assert room.told_seqs == [1]


async def test_a_flush_waits_for_what_another_is_storing_and_then_stores_the_rest(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    room.receipts.claim(mark(1))
    first = asyncio.create_task(room.receipts.flush())
    await asyncio.sleep(0)
    room.receipts.claim(mark(2))
    second = asyncio.create_task(room.receipts.flush())
    await asyncio.sleep(0.01)
    assert not second.done()
    assert len(room.storage.calls) == 1
    room.storage.open.set()
    assert all(await asyncio.gather(first, second))
    assert room.storage.calls == [[mark(1)], [mark(2)]]
    assert room.told_seqs == [1, 2]


# -- the storage is out ------------------------------------------------------------------------


async def test_claims_outlive_a_failure(io_loop: Any, room: Room) -> None:
    error = Unavailable("no")
    room.storage.failures.append(error)
    room.storage.open.clear()
    room.receipts.claim(mark(5))
    room.receipts.claim(mark(2, user=EVE))
    flushing = asyncio.create_task(room.receipts.flush())
    await asyncio.sleep(0)
    for later in (mark(4), mark(9, user=EVE), mark(1, conversation=GROUP)):
        room.receipts.claim(later)
    room.storage.open.set()
    assert not await flushing
    assert room.told == []
    assert room.observer.failures == [("receipts.advance_failed", error)]
    assert await room.receipts.flush()
    assert room.storage.calls[1] == [mark(5), mark(9, user=EVE), mark(1, conversation=GROUP)]
    assert room.told_seqs == [5, 9, 1]


async def test_claims_outlive_a_flush_that_is_cancelled(io_loop: Any, room: Room) -> None:
    """The server stops while its receipts are being stored, and then stores what is left."""
    room.storage.open.clear()
    room.receipts.claim(mark(5))
    flushing = asyncio.create_task(room.receipts.flush())
    await asyncio.sleep(0)
    room.receipts.claim(mark(6, user=EVE))
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    room.storage.open.set()
    assert await room.receipts.flush()
    assert room.storage.calls[1] == [mark(5), mark(6, user=EVE)]
    assert room.told_seqs == [5, 6]


async def test_one_who_can_not_be_told_keeps_nobody_else_from_hearing(
    io_loop: Any, room: Room
) -> None:
    error = RuntimeError("no")

    def tell(advance: Advance) -> None:
        if advance.user == BOB:
            raise error
        room.told.append(advance)

    receipts = Receipts(room.storage, room.observer, tell)
    receipts.claim(mark(1))
    receipts.claim(mark(2, user=EVE))
    assert await receipts.flush()
    assert room.told_seqs == [2]
    assert room.observer.failures == [("receipts.tell_failed", error)]


# -- the coroutine -----------------------------------------------------------------------------


async def test_claims_gather_and_are_stored_by_themselves(io_loop: Any, running: Room) -> None:
    for seq in range(1, 6):
        running.receipts.claim(mark(seq, since=seq))
        await asyncio.sleep(0)
    await eventually(lambda: len(running.told) == 5)
    assert len(running.storage.calls) == 1
    running.receipts.claim(mark(9))
    await eventually(lambda: running.told_seqs[5:] == [9])


async def test_a_failure_is_tried_again_until_it_works(io_loop: Any, running: Room) -> None:
    running.storage.failures += [Unavailable("no"), ValueError("no")]
    running.receipts.claim(mark(1))
    await eventually(lambda: running.told_seqs == [1])
    assert running.storage.calls == [[mark(1)]] * 3


# -- very many ---------------------------------------------------------------------------------


def claim_many(room: Room) -> list[Mark]:
    claims = [mark(1, user=f"user-{number}@example.org") for number in range(250)]
    for claim in claims:
        room.receipts.claim(claim)
    return claims


async def test_many_are_stored_in_parts_so_that_messages_get_in_between(
    io_loop: Any, room: Room
) -> None:
    claims = claim_many(room)
    assert await room.receipts.flush()
    assert [claim for call in room.storage.calls for claim in call] == claims
    assert [len(call) for call in room.storage.calls] == [100, 100, 50]
    assert len(room.told) == 250


async def test_where_a_part_fails_that_and_what_is_behind_it_is_claimed_again(
    io_loop: Any, room: Room
) -> None:
    claims = claim_many(room)
    room.storage.failures += [None, Unavailable("on purpose")]
    assert not await room.receipts.flush()
    assert len(room.storage.calls) == 2
    assert await room.receipts.flush()
    stored = [claim for call in (room.storage.calls[:1] + room.storage.calls[2:]) for claim in call]
    assert set(stored) == set(claims)
    assert len(stored) == len(claims)
    assert len(room.told) == 250


async def test_whoever_is_cancelled_between_two_parts_loses_no_claim(
    io_loop: Any, room: Room
) -> None:
    claims = claim_many(room)
    room.storage.open.clear()
    flushing = asyncio.create_task(room.receipts.flush())
    await eventually(lambda: len(room.storage.calls) == 1)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    room.storage.open.set()
    assert await room.receipts.flush()
    stored = [claim for call in room.storage.calls[1:] for claim in call]
    assert set(stored) == set(claims)
    assert len(stored) == len(claims)
