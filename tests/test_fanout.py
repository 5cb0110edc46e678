from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from chatd.connection import ONE_TO_ONE, Connection
from chatd.fanout import FanOut
from chatd.frames import encode, message_frame
from chatd.heads import Heads
from chatd.models import Conversation, Message, group_conversation, pair_conversation
from chatd.registry import ConnectionRegistry
from tests.rooms import ANN, BOB, EVE, GROUP, PAIR, Lab, Peer, numbered

OTHER = group_conversation("rust")


class House:
    """People with connections, all of them members of two groups, and what is fanned out."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.registry = ConnectionRegistry()
        self.copies = 0
        self.fan_out = FanOut(self.registry, Heads(), self)

    def message_routed(self, copies: int) -> None:
        self.copies += copies

    def enter(self, user: str, **options: Any) -> tuple[Connection, Peer]:
        connection, peer = self.lab.connect(user, **options)
        self.registry.add(connection)
        self.registry.set_groups(user, ["python", "rust"])
        return connection, peer

    def say(
        self,
        seq: int,
        origin: Connection | None = None,
        conversation: Conversation = GROUP,
        sender: str = ANN,
    ) -> None:
        """As the router does: the origin hears that it is stored, then it is fanned out."""
        self.fan_out.make_way(conversation, origin, seq)
        if origin is not None:
            origin.write(numbered(1000 + seq))
        message = Message(f"id{seq}", conversation, seq, sender, f"text {seq}", 0)
        self.fan_out.add(conversation, seq, encode(message_frame(message)), origin)

    def took(self, peer: Peer) -> list[object]:
        """What the peer got: messages by seq, one's own ``sent`` by 1000 + seq, gaps as words."""
        self.lab.clock.turn()
        return [
            f"gap {frame['from_seq']}-{frame['to_seq']}"
            if isinstance(frame, dict) and frame["type"] == "gap"
            else frame["seq"]
            if isinstance(frame, dict)
            else frame
            for frame in peer.take()
            if not isinstance(frame, bytes)
        ]


@pytest.fixture
def house() -> House:
    return House()


def test_what_follows_in_one_conversation_goes_to_everybody_in_order(house: House) -> None:
    _, ann = house.enter(ANN)
    _, bob = house.enter(BOB)
    for seq in (1, 2, 3):
        house.say(seq)
    house.fan_out.flush()
    assert house.took(ann) == house.took(bob) == [1, 2, 3]
    assert house.copies == 6


def test_nothing_is_left_behind_a_flush_and_nothing_is_told_twice(house: House) -> None:
    _, bob = house.enter(BOB)
    house.fan_out.flush()
    house.say(1)
    house.fan_out.flush()
    house.fan_out.flush()
    house.say(2)
    house.fan_out.flush()
    assert house.took(bob) == [1, 2]


def test_conversations_keep_the_order_in_which_they_were_stored(house: House) -> None:
    _, bob = house.enter(BOB)
    for seq, conversation in ((1, GROUP), (11, OTHER), (2, GROUP), (21, PAIR)):
        house.say(seq, conversation=conversation)
    house.fan_out.flush()
    assert house.took(bob) == [1, 11, 2, 21]


def test_who_wrote_gets_no_copy_and_its_answers_stand_in_order_with_the_others(
    house: House,
) -> None:
    """A client that has seen ``sent`` 2 takes it that it has 1."""
    a, ann = house.enter(ANN)
    b, bob = house.enter(BOB)
    _, eve = house.enter(EVE)
    for seq, origin in enumerate((a, b, b, a, None, a, a, b), 1):
        house.say(seq, origin)
    house.fan_out.flush()
    assert house.took(ann) == [1001, 2, 3, 1004, 5, 1006, 1007, 8]
    assert house.took(bob) == [1, 1002, 1003, 4, 5, 6, 7, 1008]
    assert house.took(eve) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert house.copies == 8 * 3 - 7


def test_an_answer_in_another_conversation_does_not_overtake_either(house: House) -> None:
    a, ann = house.enter(ANN)
    house.say(1)
    house.say(11, a, OTHER)
    house.fan_out.flush()
    assert house.took(ann) == [1, 1011]


def test_an_answer_in_another_conversation_brings_nothing_that_the_socket_does_not_carry(
    house: House,
) -> None:
    a, ann = house.enter(ANN, scope=ONE_TO_ONE)
    house.say(1)
    house.say(11, a, PAIR)
    house.fan_out.flush()
    assert house.took(ann) == [1011]


def test_what_fills_a_hole_later_is_not_taken_for_the_next(house: House) -> None:
    """As when the storage broke off behind a commit, and the message is sent again."""
    _, bob = house.enter(BOB)
    for seq in (1, 3, 2, 4):
        house.say(seq)
    house.fan_out.flush()
    assert house.took(bob) == [1, "gap 2-2", 3, 4]


def test_a_hole_is_announced_to_all(house: House) -> None:
    a, ann = house.enter(ANN)
    _, bob = house.enter(BOB)
    for seq in (1, 2, 5, 6):
        house.say(seq)
    house.say(7, a)
    house.say(9, a)
    house.fan_out.flush()
    assert house.took(ann) == [1, 2, "gap 3-4", 5, 6, 1007, "gap 8-8", 1009]
    assert house.took(bob) == [1, 2, "gap 3-4", 5, 6, 7, "gap 8-8", 9]


def test_who_came_since_hears_of_a_hole_before_the_first_message_too(house: House) -> None:
    house.say(1)
    house.fan_out.flush()
    _, bob = house.enter(BOB)
    house.say(4)
    house.say(5)
    house.fan_out.flush()
    assert house.took(bob) == ["gap 2-3", 4, 5]


def test_no_more_than_a_few_dozen_are_gathered(house: House) -> None:
    _, bob = house.enter(BOB)
    for seq in range(1, 201):
        house.say(seq)
    assert len(house.took(bob)) == 192
    house.fan_out.flush()
    assert house.took(bob) == list(range(193, 201))


def test_a_scope_that_does_not_cover_it_gets_nothing(house: House) -> None:
    _, bob = house.enter(BOB, scope=ONE_TO_ONE)
    house.say(1)
    house.say(11, conversation=PAIR)
    house.say(12, conversation=pair_conversation(ANN, EVE))
    house.fan_out.flush()
    assert house.took(bob) == [11]


# -- many at once, as one by one -------------------------------------------------------------------

States = Callable[[Connection], None]


def fresh(connection: Connection) -> None:
    pass


def in_the_middle(connection: Connection) -> None:
    connection.deliver(GROUP, 6, numbered(6))


def replayed(connection: Connection) -> None:
    connection.cover(GROUP, 6)
    connection.write(numbered(6))


def has_some(connection: Connection) -> None:
    for seq in (6, 7, 8):
        connection.deliver(GROUP, seq, numbered(seq))


def has_a_hole(connection: Connection) -> None:
    connection.deliver(GROUP, 4, numbered(4))


def ended(connection: Connection) -> None:
    connection.gone()


@pytest.mark.parametrize("state", [fresh, in_the_middle, replayed, has_some, has_a_hole, ended])
@pytest.mark.parametrize("live", [True, False], ids=["live", "replaying"])
@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "automatic"])
@pytest.mark.parametrize("conversation", [GROUP, PAIR])
def test_many_delivered_at_once_are_as_many_one_by_one(
    state: States, live: bool, explicit: bool, conversation: Conversation
) -> None:
    def one_by_one(connection: Connection, frames: Sequence[bytes]) -> None:
        for seq, frame in enumerate(frames, 7):
            connection.deliver(conversation, seq, frame)

    def at_once(connection: Connection, frames: Sequence[bytes]) -> None:
        connection.deliver_all(conversation, 7, frames, b"".join(frames))

    def outcome(deliver: Callable[[Connection, Sequence[bytes]], None]) -> object:
        lab = Lab()
        connection, peer = lab.connect(live=live, explicit=explicit)
        state(connection)
        lab.clock.advance(1)
        connection.pong(b"\0\1")
        deliver(connection, [numbered(seq) for seq in (7, 8, 9)])
        lab.clock.turn()
        before = peer.take()
        if not live:
            connection.release()
        lab.clock.advance(1)
        for number in (1, 2, 3):
            connection.pong(bytes((0, number)))
        return before, peer.take(), lab.confirmed, connection.waiting

    assert outcome(at_once) == outcome(one_by_one)


def test_many_delivered_at_once_count_against_the_limit() -> None:
    lab = Lab(outbox_limit=100)
    connection, _ = lab.connect()
    connection.deliver(GROUP, 1, numbered(1))
    frames = [numbered(10**9 + seq) for seq in range(12)]
    connection.deliver_all(GROUP, 2, frames, b"".join(frames))
    assert lab.slow == [connection]
