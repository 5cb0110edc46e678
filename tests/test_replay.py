from __future__ import annotations

import asyncio
from asyncio import Semaphore
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chatd.connection import EVERYTHING, ONE_TO_ONE, Connection, Scope, Span, one_group
from chatd.errors import CloseCode
from chatd.frames import encode, message_frame
from chatd.heads import Heads
from chatd.models import (
    Conversation,
    Draft,
    Group,
    Mark,
    Message,
    Position,
    ReceiptKind,
    Stored,
    group_conversation,
    group_of,
    pair_conversation,
)
from chatd.replay import Replayer
from chatd.storage.memory import MemoryStorage
from tests.rooms import ANN, BOB, EVE, GROUP, PAIR, Lab, Peer

OTHER_PAIR = pair_conversation(ANN, EVE)


class Storage(MemoryStorage):
    """A memory store in which something can happen between two reads."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []
        self.on_positions: Callable[[], Awaitable[object]] | None = None
        self.on_page: Callable[[], Awaitable[object]] | None = None

    async def positions(self, user: str) -> list[Position]:
        found = await super().positions(user)
        if self.on_positions is not None:
            await self.on_positions()
        return found

    async def history(self, *args: Any, **kwargs: Any) -> list[Message]:
        page = await super().history(*args, **kwargs)
        self.pages.append(len(page))
        if self.on_page is not None:
            await self.on_page()
        return page


class Room:
    """A storage with messages for Ann, and a replayer."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.storage = Storage()
        self.claims: list[Mark] = []
        self.heads = Heads()

    async def say(
        self, count: int = 1, conversation: Conversation = PAIR, sender: str = BOB
    ) -> list[Message]:
        """Have messages stored, as many as that."""
        last = await self.storage.last_seq(conversation)
        outcomes = await self.storage.append(
            [
                Draft(f"{conversation} {seq}", conversation, sender, f"text {seq}", 1000 + seq)
                for seq in range(last + 1, last + count + 1)
            ]
        )
        return [outcome.message for outcome in outcomes if isinstance(outcome, Stored)]

    async def mark(self, seq: int, conversation: Conversation = PAIR) -> None:
        """Ann has everything up to ``seq``."""
        await self.storage.advance([Mark(conversation, ANN, ReceiptKind.DELIVERED, seq, 2000)])

    def deliver(self, connection: Connection, *messages: Message) -> None:
        for message in messages:
            connection.deliver(message.conversation, message.seq, encode(message_frame(message)))

    def seen(self, _: Connection, conversation: Conversation, seq: int) -> None:
        self.heads.seen(conversation, seq)

    async def replay(
        self,
        connection: Connection,
        cursors: dict[Conversation, int] | None = None,
        *,
        limit: int = 0,
    ) -> int:
        replayer = Replayer(
            self.storage,
            self.claims.append,
            self.seen,
            limit=limit,
            turns=Semaphore(8),
        )
        count = await replayer.replay(connection, cursors)
        self.lab.clock.turn()
        return count


@pytest.fixture
async def room(io_loop: Any) -> Room:
    room = Room()
    await room.storage.start()
    await room.storage.create_group(Group("python", None, ANN, 1))
    return room


def new(
    room: Room, scope: Scope = EVERYTHING, *, explicit: bool = False
) -> tuple[Connection, Peer]:
    return room.lab.connect(ANN, scope, live=False, explicit=explicit)


def seen(peer: Peer) -> list[Any]:
    """What came since the last look: each seq, each gap's ends, or else the frame's type."""
    shown: list[Any] = []
    for frame in peer.take():
        if isinstance(frame, bytes):
            continue
        if frame["type"] == "gap":
            shown.append((frame["from_seq"], frame["to_seq"]))
        else:
            shown.append(frame["seq"] if frame["type"] == "message" else frame["type"])
    return shown


async def test_what_is_undelivered_comes_in_order_and_then_ready(io_loop: Any, room: Room) -> None:
    await room.say(5)
    await room.mark(2)
    connection, peer = new(room)
    assert await room.replay(connection) == 3
    assert seen(peer) == [3, 4, 5, "ready"]
    connection.pong(b"\0\1")
    assert room.lab.confirmed == [Span(PAIR, 3, 5)]


async def test_every_conversation_is_replayed(io_loop: Any, room: Room) -> None:
    await room.say(2)
    await room.say(1, GROUP)
    await room.say(3, OTHER_PAIR, EVE)
    connection, peer = new(room)
    assert await room.replay(connection) == 6
    frames = [frame for frame in peer.take() if isinstance(frame, dict)]
    assert [(frame.get("group") or frame.get("from"), frame.get("seq")) for frame in frames] == [
        ("python", 1),
        (BOB, 1),
        (BOB, 2),
        (EVE, 1),
        (EVE, 2),
        (EVE, 3),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("scope", "seqs"),
    [(ONE_TO_ONE, [1, 2]), (one_group("python"), [1]), (one_group("other"), [])],
)
async def test_a_narrower_connection_gets_what_it_covers(
    io_loop: Any, room: Room, scope: Scope, seqs: list[int]
) -> None:
    await room.say(2)
    await room.say(1, GROUP)
    connection, peer = new(room, scope)
    assert await room.replay(connection) == len(seqs)
    assert seen(peer) == [*seqs, "ready"]


async def test_nothing_to_replay_is_ready_at_once(io_loop: Any, room: Room) -> None:
    await room.say(2)
    await room.mark(2)
    connection, peer = new(room)
    assert await room.replay(connection) == 0
    assert seen(peer) == ["ready"]
    assert room.storage.pages == []


async def test_much_comes_page_by_page(io_loop: Any, room: Room) -> None:
    await room.say(250)
    connection, peer = new(room)
    assert await room.replay(connection) == 250
    assert seen(peer) == [*range(1, 251), "ready"]
    assert room.storage.pages == [100, 100, 50]


async def test_a_slow_peer_is_let_read_in_between(io_loop: Any, room: Room) -> None:
    room.lab.flusher.outbox_limit = 4000
    await room.say(100)
    connection, peer = new(room)
    assert await room.replay(connection) == 100
    assert peer.closed is None
    assert len(peer.writes) > 5
    assert max(len(data) for data in peer.writes) < 2000
    assert seen(peer) == [*range(1, 101), "ready"]


# -- the limit ---------------------------------------------------------------------------------


async def test_beyond_the_limit_there_is_a_gap_that_is_never_claimed(
    io_loop: Any, room: Room
) -> None:
    await room.say(250)
    await room.mark(10)
    connection, peer = new(room)
    assert await room.replay(connection, limit=120) == 120
    room.deliver(connection, *await room.say(2))
    room.lab.clock.turn()
    assert seen(peer) == [*range(11, 131), (131, 250), "ready", 251, 252]
    connection.pong(b"\0\1")
    room.lab.clock.turn()
    connection.pong(b"\0\2")
    assert room.lab.confirmed == [Span(PAIR, 11, 130), Span(PAIR, 251, 252)]


@pytest.mark.parametrize("conversation", [PAIR, GROUP])
async def test_a_gap_names_its_conversation(
    io_loop: Any, room: Room, conversation: Conversation
) -> None:
    await room.say(3, conversation)
    connection, peer = new(room)
    await room.replay(connection, limit=1)
    (gap,) = [frame for frame in peer.take() if isinstance(frame, dict) and frame["type"] == "gap"]
    whose = {"group": "python"} if group_of(conversation) else {"user": BOB}
    assert gap == {"type": "gap", "from_seq": 2, "to_seq": 3, **whose}


async def test_exactly_the_limit_leaves_no_gap(io_loop: Any, room: Room) -> None:
    await room.say(3)
    connection, peer = new(room)
    await room.replay(connection, limit=3)
    assert seen(peer) == [1, 2, 3, "ready"]


# -- cursors -----------------------------------------------------------------------------------


async def test_a_cursor_behind_the_mark_brings_what_lies_between(io_loop: Any, room: Room) -> None:
    await room.say(5)
    await room.mark(4)
    connection, peer = new(room)
    await room.replay(connection, {PAIR: 2})
    assert seen(peer) == [3, 4, 5, "ready"]
    assert room.claims == []


async def test_a_cursor_ahead_of_the_mark_is_a_receipt(io_loop: Any, room: Room) -> None:
    await room.say(5)
    await room.mark(1)
    connection, peer = new(room)
    await room.replay(connection, {PAIR: 3})
    assert seen(peer) == [4, 5, "ready"]
    (claim,) = room.claims
    assert (claim.user, claim.kind, claim.seq, claim.since) == (ANN, ReceiptKind.DELIVERED, 3, 1)


async def test_a_cursor_of_an_explicit_connection_is_no_receipt(io_loop: Any, room: Room) -> None:
    await room.say(5)
    connection, peer = new(room, explicit=True)
    await room.replay(connection, {PAIR: 3})
    assert seen(peer) == [4, 5, "ready"]
    assert room.claims == []


async def test_a_cursor_beyond_the_end_counts_as_none(io_loop: Any, room: Room) -> None:
    await room.say(5)
    await room.mark(3)
    connection, peer = new(room)
    await room.replay(connection, {PAIR: 6})
    assert seen(peer) == [4, 5, "ready"]
    assert room.claims == []


async def test_a_cursor_at_the_end_brings_nothing(io_loop: Any, room: Room) -> None:
    await room.say(5)
    connection, peer = new(room)
    assert await room.replay(connection, {PAIR: 5}) == 0
    assert seen(peer) == ["ready"]


async def test_a_cursor_in_a_conversation_of_others_is_passed_over(
    io_loop: Any, room: Room
) -> None:
    others = [pair_conversation(BOB, EVE), group_conversation("secret")]
    await room.say(1, others[0])
    connection, peer = new(room)
    await room.replay(connection, dict.fromkeys(others, 0))
    assert seen(peer) == ["ready"]


# -- what comes meanwhile ----------------------------------------------------------------------


async def test_what_comes_meanwhile_comes_behind_and_once(io_loop: Any, room: Room) -> None:
    await room.say(2)
    connection, peer = new(room)
    room.deliver(connection, *await room.say(1))

    async def more() -> None:
        room.deliver(connection, *await room.say(1))

    room.storage.on_positions = room.storage.on_page = more
    assert await room.replay(connection) == 3
    assert seen(peer) == [1, 2, 3, 4, 5, "ready"]
    connection.pong(b"\0\1")
    assert room.lab.confirmed == [Span(PAIR, 1, 5)]


async def test_what_another_device_has_confirmed_meanwhile_is_still_delivered_here(
    io_loop: Any, room: Room
) -> None:
    await room.say(2)
    await room.mark(2)
    connection, peer = new(room)
    room.deliver(connection, *await room.say(2))
    await room.mark(4)
    room.deliver(connection, *await room.say(1))
    await room.mark(5)
    assert await room.replay(connection) == 3
    assert seen(peer) == [3, 4, 5, "ready"]


async def test_what_is_told_late_does_not_come_twice(io_loop: Any, room: Room) -> None:
    """The storage has it, the replay brings it, and only then does the journal tell of it."""
    untold = await room.say(3)
    connection, peer = new(room)
    await room.replay(connection)
    room.deliver(connection, *untold, *await room.say(1))
    room.lab.clock.turn()
    assert seen(peer) == [1, 2, 3, "ready", 4]
    connection.pong(b"\0\1")
    room.lab.clock.turn()
    connection.pong(b"\0\2")
    assert room.lab.confirmed[-1] == Span(PAIR, 1, 4)


async def test_who_joins_a_group_meanwhile_gets_what_follows(io_loop: Any, room: Room) -> None:
    await room.storage.create_group(Group("new", None, BOB, 1))
    group = group_conversation("new")
    await room.say(2, group)
    connection, peer = new(room)

    async def join() -> None:
        await room.storage.join("new", ANN, 5)
        room.deliver(connection, *await room.say(1, group))

    room.storage.on_positions = join
    await room.replay(connection)
    assert seen(peer) == [3, "ready"]


async def test_no_replay_asked_for_is_live_at_once(io_loop: Any, room: Room) -> None:
    connection, peer = new(room)
    room.deliver(connection, *await room.say(2))
    Replayer(room.storage, room.claims.append, room.seen, limit=0, turns=Semaphore(8)).go_live(
        connection
    )
    room.lab.clock.turn()
    assert seen(peer) == [1, 2, "ready"]


# -- the connection goes away ------------------------------------------------------------------


async def test_a_connection_that_ends_gets_no_further_page(io_loop: Any, room: Room) -> None:
    await room.say(500)
    await room.say(500, OTHER_PAIR, EVE)
    connection, peer = new(room)

    async def end() -> None:
        connection.end(CloseCode.NORMAL, "enough", reconnect=False)

    room.storage.on_page = end
    await room.replay(connection)
    assert room.storage.pages == [100]
    assert seen(peer) == ["bye"]


async def test_few_read_from_the_storage_at_the_same_time(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand who come back together must not keep the loop from those who are there."""
    turns, reading, most = Semaphore(2), 0, 0
    history = room.storage.history

    async def watched(*arguments: Any, **options: Any) -> list[Message]:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        reading -= 1
        return await history(*arguments, **options)

    monkeypatch.setattr(room.storage, "history", watched)
    await room.say(150)
    connections = [new(room)[0] for _ in range(6)]
    room.lab.flusher.outbox_limit = 4000
    replayer = Replayer(room.storage, room.claims.append, room.seen, limit=0, turns=turns)
    counts = await asyncio.gather(*(replayer.replay(one) for one in connections))
    assert counts == [150] * 6
    assert most == 2
    assert not turns.locked()
