from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from chatd.errors import ChatError, Unavailable
from chatd.journal import MessageJournal
from chatd.models import Draft, Duplicate, Message, Outcome, Stored
from tests.rooms import Observer, draft


class Storage:
    """Stores what it is given when it is let; fails with what stands in ``failures`` first."""

    def __init__(self) -> None:
        self.batches: list[list[Draft]] = []
        self.log: list[str] = []
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, batch: list[Draft]) -> list[Outcome]:
        self.log.append("append")
        if not self.open.is_set():
            await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        self.log += [f"stored {item.id}" for item in batch]
        return [stored(item, seq) for seq, item in enumerate(batch, 1)]


def stored(item: Draft, seq: int) -> Stored:
    return Stored(Message(item.id, item.conversation, seq, item.sender, item.text, item.sent_at))


class Room:
    """A running journal."""

    def __init__(self) -> None:
        self.storage, self.observer = Storage(), Observer()
        self.journal = MessageJournal(self.storage, self.observer, capacity_chars=100_000)
        self.told: list[str] = []
        self.task = asyncio.create_task(self.journal.run_forever())

    def submit(self, number: int, text: str | None = None) -> None:
        self.journal.submit(draft(number, text), self.done(number))

    def done(self, number: int) -> Callable[[Outcome | ChatError], None]:
        def done(outcome: Outcome | ChatError) -> None:
            if isinstance(outcome, ChatError):
                self.told.append(f"{outcome.code} {number}")
            else:
                assert isinstance(outcome, Stored)
                assert outcome.message.id == f"id{number}"
                assert f"stored id{number}" in self.storage.log, "told before it was stored"
                self.told.append(f"sent {number}")

        return done

    async def idle(self) -> None:
        """Return once everything submitted so far is answered."""

        async def nothing() -> None:
            pass

        await self.journal.run(nothing)


@pytest.fixture
async def room(io_loop: Any) -> Any:
    room = Room()
    yield room
    room.task.cancel()
    await asyncio.gather(room.task, return_exceptions=True)


def sent(*numbers: int) -> list[str]:
    return [f"sent {number}" for number in numbers]


async def test_everyone_is_told_in_order_and_only_of_what_is_stored(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    for number in range(5):
        room.submit(number)
    await asyncio.sleep(0.01)
    assert room.told == []
    room.storage.open.set()
    await room.idle()
    assert room.told == sent(*range(5))


async def test_drafts_gather_while_the_storage_is_busy(io_loop: Any, room: Room) -> None:
    room.storage.open.clear()
    room.submit(0)
    await asyncio.sleep(0)
    for number in range(1, 8):
        room.submit(number)
        await asyncio.sleep(0)
    assert len(room.journal) == 7
    room.storage.open.set()
    await room.idle()
    assert [len(batch) for batch in room.storage.batches] == [1, 7]
    assert room.observer.batches == [1, 7]
    assert len(room.journal) == 0


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), ValueError("a bug")])
async def test_a_storage_that_fails_refuses_the_batch_and_takes_the_next(
    io_loop: Any, room: Room, error: Exception
) -> None:
    room.storage.failures.append(error)
    room.submit(1)
    room.submit(2)
    await room.idle()
    room.submit(3)
    await room.idle()
    assert room.told == ["unavailable 1", "unavailable 2", "sent 3"]
    assert room.observer.failures == [("journal.append_failed", error)]


async def test_what_is_inside_an_error_is_not_told(io_loop: Any, room: Room) -> None:
    told: list[Outcome | ChatError] = []
    room.storage.failures.append(ValueError("the row's text was ..."))
    room.journal.submit(draft(), told.append)
    await room.idle()
    assert isinstance(told[0], Unavailable)
    assert "row" not in told[0].detail
    assert "again" in told[0].detail


async def test_a_done_that_raises_harms_nobody_else(io_loop: Any, room: Room) -> None:
    def bad(_: Outcome | ChatError) -> None:
        raise RuntimeError("no")

    room.submit(1)
    room.journal.submit(draft(2), bad)
    room.submit(3)
    await room.idle()
    room.submit(4)
    await room.idle()
    assert room.told == sent(1, 3, 4)
    assert [event for event, _ in room.observer.failures] == ["journal.done_failed"]


async def test_a_done_may_submit_the_next_draft(io_loop: Any, room: Room) -> None:
    room.journal.submit(draft(1), lambda _: room.submit(2))
    await asyncio.sleep(0.01)
    assert room.told == sent(2)


# -- operations --------------------------------------------------------------------------------


async def test_an_operation_stands_in_order_with_the_messages(io_loop: Any, room: Room) -> None:
    async def work() -> str:
        room.storage.log.append("joined")
        await asyncio.sleep(0)
        room.told.append("joined")
        return "result"

    room.submit(1)
    running = asyncio.create_task(room.journal.run(work))
    await asyncio.sleep(0)
    room.submit(2)
    await room.idle()
    assert await running == "result"
    assert room.told == ["sent 1", "joined", "sent 2"]
    assert room.storage.log == ["append", "stored id1", "joined", "append", "stored id2"]


async def test_what_an_operation_raises_goes_to_its_caller_only(io_loop: Any, room: Room) -> None:
    async def work() -> None:
        raise Unavailable("no")

    with pytest.raises(Unavailable, match="no"):
        await room.journal.run(work)
    room.submit(1)
    await room.idle()
    assert room.told == sent(1)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_caller_that_goes_away_stops_nothing(io_loop: Any, room: Room, fails: bool) -> None:
    async def work() -> None:
        caller.cancel()
        await asyncio.sleep(0)
        room.told.append("worked")
        if fails:
            raise Unavailable("no")

    caller = asyncio.create_task(room.journal.run(work))
    with pytest.raises(asyncio.CancelledError):
        await caller
    room.submit(1)
    await room.idle()
    assert room.told == ["worked", "sent 1"]


# -- how much it takes -------------------------------------------------------------------------


async def test_a_full_journal_makes_readers_wait_until_some_has_left(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    room.submit(0)
    await asyncio.sleep(0)
    room.submit(1, "x" * 60_000)
    assert not room.journal.full
    await room.journal.room()
    room.submit(2, "x" * 60_000)
    assert room.journal.full
    waiting = asyncio.create_task(room.journal.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    room.storage.open.set()
    await asyncio.wait_for(waiting, 5)
    assert not room.journal.full
    await room.idle()
    assert room.told == sent(0, 1, 2)


async def test_many_short_texts_fill_it_as_well(io_loop: Any, room: Room) -> None:
    room.storage.open.clear()
    for number in range(1000):
        room.submit(number, "x")
    assert room.journal.full
    room.storage.open.set()
    await room.idle()
    assert not room.journal.full
    room.submit(1, "x")
    assert not room.journal.full


@pytest.mark.parametrize(
    ("error", "times"), [(Unavailable("the disk is full"), 1), (ValueError("a bug"), 5)]
)
async def test_an_outage_is_not_told_of_with_every_batch(
    io_loop: Any, room: Room, error: Exception, times: int
) -> None:
    room.storage.failures += [error] * 5
    for number in range(5):
        room.submit(number)
        await room.idle()
    assert room.told == [f"unavailable {number}" for number in range(5)]
    assert room.observer.failures == [("journal.append_failed", error)] * times


async def test_a_failed_batch_makes_room_too(io_loop: Any, room: Room) -> None:
    room.storage.failures.append(Unavailable("no"))
    room.submit(1, "x" * 100_000)
    assert room.journal.full
    await asyncio.wait_for(room.journal.room(), 5)


async def test_batches_are_bounded_by_their_number_and_by_their_size(
    io_loop: Any, room: Room
) -> None:
    for number in range(2500):
        room.submit(number, "x")
    for number in range(2500, 2510):
        room.submit(number, "x" * 100_000)
    await room.idle()
    sizes = [len(batch) for batch in room.storage.batches]
    assert sum(sizes) == 2510
    assert max(sizes) == 1000
    assert all(sum(len(item.text) for item in batch) < 400_000 for batch in room.storage.batches)
    assert room.told == sent(*range(2510))


@pytest.mark.parametrize("work", ["big batch", "many batches", "many operations"])
async def test_the_loop_is_not_kept_from_other_work(io_loop: Any, room: Room, work: str) -> None:
    """Neither by a done that takes long, nor by a storage that never waits."""
    ticks = 0

    async def other_work() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    def slow(_: Outcome | ChatError) -> None:
        ending = asyncio.get_running_loop().time() + 0.001
        while asyncio.get_running_loop().time() < ending:
            pass

    async def operation() -> None:
        slow(stored(draft(), 1))

    operations = []
    for number in range(100):
        if work == "big batch":
            room.journal.submit(draft(number), slow)
        elif work == "many batches":
            room.journal.submit(draft(number, "x" * 300_000), slow)
        else:
            operations.append(asyncio.create_task(room.journal.run(operation)))
    task = asyncio.create_task(other_work())
    await asyncio.gather(*operations)
    await room.idle()
    task.cancel()
    assert ticks >= 8


# -- the end -----------------------------------------------------------------------------------


async def test_draining_answers_what_was_taken_and_takes_nothing_more(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    room.submit(1)
    await asyncio.sleep(0)
    room.submit(2)
    draining = asyncio.create_task(room.journal.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    room.submit(3)
    assert room.told == ["unavailable 3"]
    with pytest.raises(Unavailable):
        await room.idle()
    room.storage.open.set()
    await asyncio.wait_for(draining, 5)
    assert room.told[1:] == sent(1, 2)


async def test_what_is_told_by_now_can_be_waited_for_while_it_drains(
    io_loop: Any, room: Room
) -> None:
    """Seen to fail with a closed journal that says so at once."""
    room.storage.open.clear()
    room.submit(1)
    draining = asyncio.create_task(room.journal.drain())
    await asyncio.sleep(0)
    telling = asyncio.create_task(room.journal.told())
    await asyncio.sleep(0.01)
    assert not telling.done()
    room.storage.open.set()
    await asyncio.wait_for(telling, 5)
    assert room.told == ["sent 1"]
    await asyncio.wait_for(draining, 5)


async def test_draining_an_idle_journal_takes_no_time(io_loop: Any, room: Room) -> None:
    await asyncio.wait_for(room.journal.drain(), 5)
    await asyncio.wait_for(room.journal.drain(), 5)


# -- what the storage could not be sure of -----------------------------------------------------


class Doubtful:
    """Stores the first batch and says that it can't be reached; then it knows every repeat."""

    def __init__(self) -> None:
        self.first: list[Draft] = []

    async def append(self, batch: list[Draft]) -> list[Outcome]:
        if not self.first:
            self.first = batch
            raise Unavailable("the message store can't be reached")
        known = {item.client_id: stored(item, seq).message for seq, item in enumerate(self.first)}
        return [Duplicate(known[item.client_id]) for item in batch]


async def test_a_message_stored_in_doubt_is_new_when_it_is_sent_again_and_a_repeat_later(
    io_loop: Any,
) -> None:
    """Nobody has been told of it: as a repeat it would reach nobody who is on line."""
    journal = MessageJournal(Doubtful(), Observer())
    running = asyncio.create_task(journal.run_forever())
    outcomes: list[Outcome | ChatError] = []
    for number in (1, 2, 3):
        draft_again = msgspec.structs.replace(draft(number), client_id="note-1")
        journal.submit(draft_again, outcomes.append)
        while len(outcomes) < number:
            await asyncio.sleep(0)
    running.cancel()
    refused, new, repeat = outcomes
    assert isinstance(refused, Unavailable)
    assert isinstance(new, Stored)
    assert new.message.id == "id1"
    assert repeat == Duplicate(new.message)


# -- pauses -----------------------------------------------------------------------------------


async def test_a_pause_comes_behind_what_was_told_and_before_a_change(
    io_loop: Any, room: Room
) -> None:
    room.journal.on_pause(lambda: room.told.append("pause"))

    async def change() -> None:
        room.told.append("change")

    room.storage.open.clear()
    for number in (1, 2):
        room.submit(number)
    changed = asyncio.create_task(room.journal.run(change))
    await asyncio.sleep(0)
    room.submit(3)
    room.storage.open.set()
    await changed
    await room.idle()
    assert room.told == ["sent 1", "sent 2", "pause", "change", "sent 3", "pause"]


async def test_a_pause_comes_before_the_loop_has_its_turn_in_a_big_batch(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.journal._TURN_SECONDS", 0.0)
    room.journal.on_pause(lambda: room.told.append("pause"))
    for number in (1, 2):
        room.submit(number)
    await room.idle()
    assert room.told == ["sent 1", "pause", "sent 2", "pause", "pause"]


async def test_a_pause_that_fails_keeps_nobody_from_hearing(io_loop: Any, room: Room) -> None:
    def fail() -> None:
        raise RuntimeError("on purpose")

    room.journal.on_pause(fail)
    room.submit(1)
    await room.idle()
    room.submit(2)
    await room.idle()
    assert room.told == ["sent 1", "sent 2"]
    assert [event for event, _ in room.observer.failures] == ["journal.pause_failed"] * 2
