"""Messages of several servers are told in the order of their numbers, whatever comes late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chatd.cluster.sequencer import Sequencer
from chatd.errors import Unavailable
from chatd.heads import Heads
from chatd.models import Conversation, Draft, Message, group_conversation, pair_conversation
from chatd.storage.memory import MemoryStorage
from tests.chat import eventually

ANN, BOB = "ann@example.org", "bob@example.org"
PAIR, GROUP = pair_conversation(ANN, BOB), group_conversation("club")


class Room:
    """A conversation in the store, and what was told of it."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.heads = Heads()
        self.told: list[int] = []
        self.began: list[int] = []
        self.failed: list[BaseException] = []
        self.sequencer = Sequencer(
            self.heads,
            self.storage,
            tell=lambda message: self.tell(message.conversation, message.seq),
            told=lambda: None,
            beginning=self.beginning,
            own=self.own,
            failed=self.failed.append,
        )
        self.owns: list[Callable[[], None]] = []
        """What happens while this server's own are waited for, each time."""

    async def own(self) -> None:
        if self.owns:
            self.owns.pop(0)()

    async def beginning(self, conversation: Conversation, before: int) -> int:
        self.began.append(before)
        return max(0, before - 3)

    async def store(self, count: int, conversation: Conversation = PAIR) -> None:
        await self.storage.start()
        await self.storage.append(
            [Draft(f"id {seq}", conversation, ANN, "text", 1) for seq in range(1, count + 1)]
        )

    def tell(self, conversation: Conversation, seq: int) -> None:
        self.heads.tell(conversation, seq)
        self.told.append(seq)

    def take(self, *seqs: int, conversation: Conversation = PAIR) -> None:
        for seq in seqs:
            self.sequencer.take(conversation, seq, partial(self.tell, conversation, seq))


class Storage(MemoryStorage):
    """Out, when a test wants it."""

    out = False
    asked = 0

    async def history(self, *args: Any, **kwargs: Any) -> list[Message]:
        self.asked += 1
        if self.out:
            raise Unavailable("put in by hand")
        return await super().history(*args, **kwargs)


@pytest.fixture
async def room(io_loop: object) -> Room:
    return Room()


async def test_what_comes_in_order_is_told_at_once(io_loop: Any, room: Room) -> None:
    room.take(1, 2, 3)
    assert room.told == [1, 2, 3]


async def test_what_is_missing_is_found_before_what_is_behind_it(io_loop: Any, room: Room) -> None:
    """Seen to fail with ``take`` telling at once whatever comes."""
    await room.store(6)
    room.take(1, 4, 5)
    assert room.told == [1]
    await eventually(lambda: room.told == [1, 2, 3, 4, 5])
    room.take(6)
    assert room.told == [1, 2, 3, 4, 5, 6]


async def test_what_was_only_late_is_not_asked_for(io_loop: Any, room: Room) -> None:
    await room.store(3)
    room.take(1, 3)
    room.take(2)
    await eventually(lambda: room.told == [1, 2, 3])
    assert room.storage.asked == 0


async def test_what_comes_twice_is_told_twice_and_clients_drop_it(io_loop: Any, room: Room) -> None:
    """A sender's own must hear what became of it, though the store gave it before."""
    await room.store(3)
    room.sequencer.reach(PAIR, 3)
    room.heads.seen(PAIR, 0)
    await eventually(lambda: room.told == [1, 2, 3])
    room.take(3)
    assert room.told == [1, 2, 3, 3]


async def test_everything_up_to_where_the_store_goes_is_told(io_loop: Any, room: Room) -> None:
    await room.store(450)
    room.take(1)
    room.sequencer.reach(PAIR, 300)
    room.sequencer.reach(PAIR, 450)
    await eventually(lambda: room.told == list(range(1, 451)))
    room.sequencer.reach(PAIR, 450)
    await asyncio.sleep(0.05)
    assert len(room.told) == 450


async def test_a_pair_that_nothing_is_known_of_begins_where_its_people_stand(
    io_loop: Any, room: Room
) -> None:
    await room.store(9)
    room.take(9)
    assert room.told == []
    await eventually(lambda: room.told == [6, 7, 8, 9])
    assert room.began == [8]


async def test_a_group_that_nothing_is_known_of_begins_where_it_is(
    io_loop: Any, room: Room
) -> None:
    await room.store(9, GROUP)
    room.take(9, conversation=GROUP)
    assert room.told == [9]


async def test_what_was_removed_is_not_waited_for(io_loop: Any, room: Room) -> None:
    await room.store(9)
    room.take(1)
    await room.storage.prune(PAIR, 2, 7)
    room.take(9)
    await eventually(lambda: room.told == [1, 8, 9])


async def test_an_outage_is_waited_out(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.cluster.sequencer._PAUSE_SECONDS", 0.01)
    await room.store(4)
    room.storage.out = True
    room.take(1, 4)
    await eventually(lambda: room.storage.asked > 2)
    assert room.told == [1]
    room.storage.out = False
    await eventually(lambda: room.told == [1, 2, 3, 4])


async def test_a_long_outage_keeps_nobody_waiting(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is then a gap to clients."""
    monkeypatch.setattr("chatd.cluster.sequencer._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("chatd.cluster.sequencer._PATIENCE_SECONDS", 0.05)
    await room.store(4)
    room.storage.out = True
    room.take(1, 4)
    await eventually(lambda: room.told == [1, 4])


async def test_what_is_stored_here_meanwhile_is_no_copy_to_who_wrote_it(
    io_loop: Any, room: Room
) -> None:
    """Seen to fail with an end of what is asked for that is looked at when ``own`` has returned."""
    await room.store(6)
    room.heads.seen(PAIR, 0)

    def told_by_its_writer() -> None:
        room.heads.tell(PAIR, 5)
        room.told.append(-5)

    # The fifth is in the store before it was handed over, and others look how far that goes.
    room.owns.append(lambda: room.sequencer.reach(PAIR, 6))
    room.owns.append(lambda: room.sequencer.take(PAIR, 5, told_by_its_writer))
    room.sequencer.reach(PAIR, 3)
    await eventually(lambda: len(room.told) == 6)
    assert room.told == [1, 2, 3, 4, -5, 6]


@pytest.mark.parametrize("out", [False, True])
async def test_a_tell_that_raises_keeps_nobody_else_waiting(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch, out: bool
) -> None:
    """Seen to fail with ``tell`` called outside ``_call`` in ``_drain``; and in ``_fill``."""
    monkeypatch.setattr("chatd.cluster.sequencer._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("chatd.cluster.sequencer._PATIENCE_SECONDS", 0.05)

    def fail() -> None:
        room.heads.tell(PAIR, 4)
        raise RuntimeError("put in by hand")

    await room.store(5)
    room.storage.out = out
    room.take(1)
    room.sequencer.take(PAIR, 4, fail)
    room.take(5)
    await eventually(lambda: room.told[-1] == 5)
    assert room.told == [1, 5] if out else [1, 2, 3, 5]
    assert [str(error) for error in room.failed] == ["put in by hand"]


async def test_what_is_about_messages_is_told_behind_those_that_wait(
    io_loop: Any, room: Room
) -> None:
    """Seen to fail with ``behind`` telling at once."""
    await room.store(4)
    room.take(1, 4)
    room.sequencer.behind(PAIR, lambda: room.told.append(-4))
    room.sequencer.behind(GROUP, lambda: room.told.append(0))
    assert room.told == [1, 0]
    await room.sequencer.settled()
    room.sequencer.behind(PAIR, lambda: room.told.append(-5))
    assert room.told == [1, 0, 2, 3, 4, -4, -5]


async def test_what_waits_can_be_waited_for(io_loop: Any, room: Room) -> None:
    """Seen to fail with ``settled`` returning at once."""
    await room.sequencer.settled()
    await room.store(4)
    room.take(1, 4)
    await room.sequencer.settled()
    assert room.told == [1, 2, 3, 4]


async def test_closing_gives_up(io_loop: Any, room: Room) -> None:
    await room.store(4)
    room.storage.out = True
    room.take(1, 4)
    await room.sequencer.close()
