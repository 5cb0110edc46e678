from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from chatd.connection import EVERYTHING, ONE_TO_ONE, Connection, Scope, one_group
from chatd.errors import Unavailable
from chatd.neighbours import Alone
from chatd.presence import PresenceBoard
from chatd.registry import ConnectionRegistry
from chatd.roster import Roster
from tests.chat import eventually
from tests.rooms import ANN, BOB, EVE, Lab, Peer


class LastSeen:
    """Keeps what it is told, when it is let and where it is not out."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.calls = 0
        self.out = False
        self.open = asyncio.Event()
        self.open.set()

    async def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        self.calls += 1
        await self.open.wait()
        if self.out:
            raise Unavailable("no")
        self.seen.update(seen)


class Room:
    """A presence board, and people who come and go."""

    def __init__(self, limit: int = 0) -> None:
        self.lab = Lab()
        self.registry = ConnectionRegistry()
        self.storage = LastSeen()
        self.board = PresenceBoard(
            self.registry, Roster(self.registry, Alone()), self.storage, limit=limit
        )

    def come(self, user: str, scope: Scope = EVERYTHING) -> tuple[Connection, Peer]:
        connection, peer = self.lab.connect(user, scope)
        self.registry.add(connection)
        self.board.welcome(connection)
        return connection, peer

    def go(self, connection: Connection) -> None:
        self.registry.remove(connection)

    def tell(self) -> None:
        self.board.tell()
        self.lab.clock.turn()

    def heard(self, peer: Peer) -> list[tuple[list[str], list[str]]]:
        """Who came and who went, in each frame since the last time."""
        self.lab.clock.turn()
        return [(frame["online"], frame["offline"]) for frame in peer.take()]


@pytest.fixture
async def room(io_loop: Any) -> Room:
    return Room()


def believed(frames: list[tuple[list[str], list[str]]]) -> set[str]:
    """Whom a client takes to be on line after these frames."""
    online: set[str] = set()
    for came, went in frames:
        online = (online | set(came)) - set(went)
    return online


async def test_who_connects_is_told_who_is_on_line_and_the_others_hear_of_it(
    io_loop: Any, room: Room
) -> None:
    _, ann = room.come(ANN)
    room.tell()
    _, bob = room.come(BOB)
    assert room.heard(ann) == [([ANN], []), ([ANN], [])]
    assert room.heard(bob) == [([ANN, BOB], [])]
    room.tell()
    assert room.heard(ann) == [([BOB], [])]


async def test_comings_and_goings_are_gathered_into_one_frame(io_loop: Any, room: Room) -> None:
    _, ann = room.come(ANN)
    bob, _ = room.come(BOB)
    room.tell()
    room.heard(ann)
    room.go(bob)
    room.come(EVE)
    room.come("dan@example.org")
    room.tell()
    assert room.heard(ann) == [(["dan@example.org", EVE], [BOB])]


async def test_who_went_and_comes_again_later_is_told_each_time(io_loop: Any, room: Room) -> None:
    _, ann = room.come(ANN)
    for _ in range(2):
        bob, _ = room.come(BOB)
        room.tell()
        room.go(bob)
        room.tell()
    assert room.heard(ann)[2:] == [([], [BOB]), ([BOB], []), ([], [BOB])]


async def test_who_goes_and_comes_back_meanwhile_is_told_of_nothing(
    io_loop: Any, room: Room
) -> None:
    _, ann = room.come(ANN)
    bob, _ = room.come(BOB)
    room.tell()
    room.heard(ann)
    room.go(bob)
    room.come(BOB)
    room.tell()
    assert room.heard(ann) == []


async def test_who_comes_and_goes_meanwhile_is_told_of_nothing(io_loop: Any, room: Room) -> None:
    _, ann = room.come(ANN)
    room.tell()
    room.heard(ann)
    room.go(room.come(BOB)[0])
    room.tell()
    assert room.heard(ann) == []


async def test_a_second_device_is_no_news(io_loop: Any, room: Room) -> None:
    _, ann = room.come(ANN)
    first, _ = room.come(BOB)
    room.tell()
    room.heard(ann)
    room.come(BOB)
    room.go(first)
    room.tell()
    assert room.heard(ann) == []


@pytest.mark.parametrize("goes", [True, False], ids=["goes", "comes back"])
async def test_who_was_welcomed_in_between_is_not_left_with_the_wrong_idea(
    io_loop: Any, room: Room, goes: bool
) -> None:
    """What a welcome says may differ from what everyone was told last."""
    _, ann = room.come(ANN)
    if goes:
        room.tell()
        bob, _ = room.come(BOB)
        _, eve = room.come(EVE)
        room.go(bob)
    else:
        bob, _ = room.come(BOB)
        room.tell()
        room.go(bob)
        _, eve = room.come(EVE)
        room.come(BOB)
    room.tell()
    online = set(room.registry.online_users())
    assert believed(room.heard(eve)) == online
    assert believed(room.heard(ann)) == online


async def test_presence_goes_where_one_to_one_traffic_goes(io_loop: Any, room: Room) -> None:
    _, pairs = room.come(ANN, ONE_TO_ONE)
    _, group = room.come(BOB, one_group("python"))
    room.tell()
    assert believed(room.heard(pairs)) == {ANN, BOB}
    assert room.heard(group) == []


# -- a crowd -----------------------------------------------------------------------------------


async def test_a_crowd_is_told_of_nothing_and_of_everyone_when_it_is_none(io_loop: Any) -> None:
    room = Room(limit=2)
    _, ann = room.come(ANN)
    bob, _ = room.come(BOB)
    room.tell()
    assert believed(room.heard(ann)) == {ANN, BOB}
    eve, eve_peer = room.come(EVE)
    room.tell()
    room.go(bob)
    dan, _ = room.come("dan@example.org")
    room.tell()
    assert room.heard(ann) == []
    assert room.heard(eve_peer) == []
    room.go(dan)
    room.tell()
    assert room.heard(ann) == [([ANN, EVE], [BOB])]
    assert believed(room.heard(eve_peer)) == {ANN, EVE}
    room.go(eve)
    room.tell()
    assert room.heard(ann) == [([], [EVE])]


async def test_who_came_to_a_crowd_that_was_gone_again_at_once_gets_the_list(
    io_loop: Any,
) -> None:
    room = Room(limit=2)
    room.come(ANN)
    bob, _ = room.come(BOB)
    room.tell()
    _, eve = room.come(EVE)
    assert room.heard(eve) == []
    room.go(bob)
    room.tell()
    assert believed(room.heard(eve)) == {ANN, EVE}


# -- the coroutine, and when users were last seen ----------------------------------------------


async def test_it_tells_and_stores_by_itself(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.presence._GATHER_SECONDS", 0.01)
    monkeypatch.setattr("chatd.presence.now_ms", lambda: 1234)
    task = asyncio.create_task(room.board.run_forever())
    _, ann = room.come(ANN)
    room.heard(ann)
    bob, _ = room.come(BOB)
    await asyncio.sleep(0)
    room.come(EVE)
    heard: list[tuple[list[str], list[str]]] = []

    def hear() -> int:
        heard.extend(room.heard(ann))
        return len(heard)

    await eventually(lambda: hear() == 1)
    assert heard == [([ANN, BOB, EVE], [])]
    assert room.storage.calls == 0
    room.go(bob)
    await eventually(lambda: hear() == 2)
    assert heard[1] == ([], [BOB])
    await eventually(lambda: room.storage.seen == {BOB: 1234})
    task.cancel()


async def test_when_users_were_last_seen_is_stored_once(io_loop: Any, room: Room) -> None:
    room.go(room.come(ANN)[0])
    await room.board.store()
    await room.board.store()
    assert list(room.storage.seen) == [ANN]
    assert room.storage.calls == 1


async def test_what_could_not_be_stored_is_stored_the_next_time(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((1, 2, 3))
    monkeypatch.setattr("chatd.presence.now_ms", lambda: next(times))
    room.storage.out = True
    room.go(room.come(ANN)[0])
    room.go(room.come(BOB)[0])
    await room.board.store()
    room.go(room.come(ANN)[0])
    room.storage.out = False
    await room.board.store()
    assert room.storage.seen == {ANN: 3, BOB: 2}


async def test_what_could_not_be_stored_is_tried_again_by_itself(
    io_loop: Any, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.presence._GATHER_SECONDS", 0.01)
    task = asyncio.create_task(room.board.run_forever())
    room.storage.out = True
    room.go(room.come(ANN)[0])
    await eventually(lambda: room.storage.calls > 1)
    room.storage.out = False
    await eventually(lambda: list(room.storage.seen) == [ANN])
    task.cancel()


async def test_who_goes_while_others_are_being_stored_is_stored_next(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    room.go(room.come(ANN)[0])
    storing = asyncio.create_task(room.board.store())
    await asyncio.sleep(0)
    room.go(room.come(BOB)[0])
    room.storage.open.set()
    await storing
    assert list(room.storage.seen) == [ANN]
    await room.board.store()
    assert list(room.storage.seen) == [ANN, BOB]


async def test_what_was_being_stored_when_the_server_stops_is_not_lost(
    io_loop: Any, room: Room
) -> None:
    room.storage.open.clear()
    room.go(room.come(ANN)[0])
    storing = asyncio.create_task(room.board.store())
    await asyncio.sleep(0)
    storing.cancel()
    await asyncio.gather(storing, return_exceptions=True)
    room.storage.open.set()
    await room.board.store()
    assert list(room.storage.seen) == [ANN]
