"""In order, once, without holes: whatever the server's connections look like."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from chatd.client.events import (
    Connected,
    Conversation,
    Cursor,
    Cursors,
    Gap,
    Joined,
    Left,
    Message,
    Presence,
    Sent,
)
from chatd.client.inbox import Hole, Inbox, Item

ANN, BOB = "ann@example.org", "bob@example.org"
WITH_BOB = Conversation(user=BOB)
CLUB = Conversation(group="club")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def message(seq: int, where: Conversation = WITH_BOB, *, own: bool = False) -> Message:
    sender = ANN if own else BOB
    return Message(where, seq, sender, f"text {seq}", NOON, f"id {seq}", own)


def sent(seq: int, *, duplicate: bool = False) -> Sent:
    return Sent(f"id {seq}", seq, NOON, duplicate, to=BOB)


def gap(first: int, last: int) -> Gap:
    return Gap(first, last, user=BOB)


@pytest.fixture
def inbox() -> Inbox:
    inbox = Inbox(100)
    inbox.begin("epoch")
    return inbox


def take(inbox: Inbox, *events: Message | Gap | Sent) -> None:
    for event in events:
        if isinstance(event, Message):
            inbox.take(event, me=ANN)
        elif isinstance(event, Gap):
            inbox.take_gap(event)
        else:
            inbox.take_sent(event)


def items(inbox: Inbox) -> list[Item]:
    found = []
    while (item := inbox.next()) is not None:
        found.append(item)
    return found


def handed(inbox: Inbox) -> list[str]:
    """All that waits, handed out: messages by seq, holes as "first-last" and not fetched."""
    found = []
    for item in items(inbox):
        if isinstance(item, Hole):
            inbox.skip(item)
            found.append(f"{item.first}-{item.last}")
        elif isinstance(item, Message) and inbox.hand(item):
            found.append(str(item.seq))
    return found


def cursor(inbox: Inbox, where: Conversation = WITH_BOB) -> int | None:
    return {one.conversation: one.seq for one in inbox.cursors.cursors}.get(where)


def test_a_message_that_comes_again_is_dropped(inbox: Inbox) -> None:
    take(inbox, message(4), message(5), message(4), message(5), message(6))
    assert handed(inbox) == ["4", "5", "6"]
    take(inbox, message(6), message(7))
    assert handed(inbox) == ["7"]


def test_conversations_don_t_know_of_each_other(inbox: Inbox) -> None:
    take(inbox, message(7), message(1, CLUB), message(8), message(2, CLUB))
    assert handed(inbox) == ["7", "1", "8", "2"]


def test_a_gap_stands_where_it_was_announced(inbox: Inbox) -> None:
    take(inbox, message(1), gap(2, 9), message(10))
    assert handed(inbox) == ["1", "2-9", "10"]


def test_a_gap_that_is_known_is_dropped_and_one_that_overlaps_is_cut(inbox: Inbox) -> None:
    take(inbox, message(1), gap(2, 9), message(10), gap(3, 10), gap(5, 12), message(13))
    assert handed(inbox) == ["1", "2-9", "10", "11-12", "13"]


def test_a_hole_that_nobody_announced_is_found(inbox: Inbox) -> None:
    take(inbox, message(1), message(4), gap(7, 8))
    assert handed(inbox) == ["1", "2-3", "4", "5-8"]


def test_one_s_own_message_has_its_place_and_is_not_handed_out(inbox: Inbox) -> None:
    take(inbox, message(1), sent(2), message(3), sent(4))
    assert handed(inbox) == ["1", "3"]
    assert cursor(inbox) == 4
    take(inbox, message(2, own=True), message(4, own=True), message(5))
    assert handed(inbox) == ["5"]


def test_what_others_wrote_in_front_of_one_s_own_is_found(inbox: Inbox) -> None:
    take(inbox, message(1), sent(4), gap(2, 3), message(5))
    assert handed(inbox) == ["1", "2-3", "5"]
    assert cursor(inbox) == 5


def test_a_first_message_of_one_s_own_begins_the_conversation(inbox: Inbox) -> None:
    take(inbox, sent(17))
    assert cursor(inbox) == 17
    take(inbox, message(18))
    assert handed(inbox) == ["18"]


def test_a_repeat_that_was_stored_long_ago_says_nothing(inbox: Inbox) -> None:
    take(inbox, sent(3, duplicate=True), message(18), message(19))
    assert handed(inbox) == ["18", "19"]


def test_cursors_are_what_was_handed_out(inbox: Inbox) -> None:
    take(inbox, message(1), message(2), message(3))
    first = inbox.next()
    assert cursor(inbox) is None
    assert isinstance(first, Message)
    inbox.hand(first)
    assert cursor(inbox) == 1


def test_a_hole_is_behind_the_cursor_until_it_was_fetched(inbox: Inbox) -> None:
    take(inbox, message(1), gap(2, 3), message(4))
    waiting = items(inbox)
    assert isinstance(waiting[0], Message)
    assert isinstance(waiting[1], Hole)
    inbox.hand(waiting[0])
    inbox.hand(message(2))
    assert cursor(inbox) == 2
    inbox.skip(waiting[1])
    assert cursor(inbox) == 3


def test_it_goes_on_from_cursors(inbox: Inbox) -> None:
    again = Inbox(100, Cursors("epoch", (Cursor(2, user=BOB),)))
    again.begin("epoch")
    take(again, message(2), message(3), message(5))
    assert handed(again) == ["3", "4-4", "5"]


def test_cursors_of_another_store_mean_nothing() -> None:
    again = Inbox(100, Cursors("epoch", (Cursor(7, user=BOB),)))
    again.begin("another")
    assert not again.cursors.cursors
    take(again, message(1), message(2))
    assert handed(again) == ["1", "2"]


def test_a_new_store_begins_anew(inbox: Inbox) -> None:
    take(inbox, message(7), gap(8, 9))
    inbox.take(Presence((BOB,), ()), me=ANN)
    inbox.begin("another")
    take(inbox, message(1))
    assert [type(one) for one in items(inbox)] == [Presence, Message]


def test_the_cursor_that_moved_last_stands_last(inbox: Inbox) -> None:
    take(inbox, message(1), message(1, CLUB), message(2))
    handed(inbox)
    assert [one.conversation for one in inbox.cursors.cursors] == [CLUB, WITH_BOB]


@pytest.mark.parametrize("change", [Joined, Left])
def test_a_group_that_one_joins_again_begins_where_it_is_then(
    inbox: Inbox, change: type[Joined | Left]
) -> None:
    take(inbox, message(3, CLUB))
    inbox.take(change(group="club", user=BOB), me=ANN)
    take(inbox, message(5, CLUB))
    inbox.take(change(group="club", user=ANN), me=ANN)
    take(inbox, message(25, CLUB))
    assert handed(inbox) == ["3", "4-4", "5", "25"]


# -- a program that is slow --------------------------------------------------------------------


def test_what_there_is_no_room_for_becomes_one_hole_of_each_conversation() -> None:
    inbox = Inbox(3)
    take(inbox, message(1), message(2), message(3))
    for seq in range(4, 50):
        take(inbox, message(seq), message(seq, CLUB))
        inbox.take(Connected(ANN), me=ANN)
        assert inbox.is_full
    take(inbox, sent(50), message(51))
    assert len(inbox) == 5
    assert handed(inbox) == ["1", "2", "3", "4-51", "4-49"]
    assert cursor(inbox) == 51


def test_a_hole_does_not_grow_once_it_is_being_fetched() -> None:
    inbox = Inbox(1)
    take(inbox, message(1), message(2))
    assert isinstance(inbox.next(), Message)
    hole = inbox.next()
    assert hole == Hole(WITH_BOB, 2, 2)
    take(inbox, message(3), message(4), message(5))
    assert hole == Hole(WITH_BOB, 2, 2)
    assert handed(inbox) == ["3", "4-5"]


def test_one_s_own_message_within_a_hole_is_not_handed_out() -> None:
    inbox = Inbox(1)
    take(inbox, message(1), message(2), sent(3), message(4))
    first = inbox.next()
    assert isinstance(first, Message)
    inbox.hand(first)
    hole = inbox.next()
    assert hole == Hole(WITH_BOB, 2, 4)
    fetched = [message(2), message(3, own=True), message(4)]
    assert [inbox.hand(one) for one in fetched] == [True, False, True]


# -- everything at once ------------------------------------------------------------------------


class Store:
    """One conversation, and a server that sends it over one connection after the other."""

    def __init__(self, chance: random.Random, inbox: Inbox) -> None:
        self.chance = chance
        self.inbox = inbox
        self.last = 0
        self.own: set[int] = set()
        self.seen: list[int] = []
        self.written = 0
        self.has_begun = False

    def connect(self, limit: int) -> None:
        """A connection begins with a replay; what is beyond its limit is a gap."""
        self.inbox.begin("epoch")
        start = cursor(self.inbox)
        self.written = 0 if start is None else start
        for seq in range(self.written + 1, min(self.last, self.written + limit) + 1):
            self.write(seq)
        if self.written < self.last:
            take(self.inbox, gap(self.written + 1, self.last))
            self.written = self.last

    def write(self, seq: int) -> None:
        take(self.inbox, message(seq, own=seq in self.own))
        self.written = seq

    def talk(self) -> None:
        """Somebody writes; now and then another server stores it, which is heard of later."""
        self.last += 1
        if self.chance.random() < 0.2:
            return
        # A client can tell by itself once it knows the conversation.
        if self.written < self.last - 1 and (not self.has_begun or self.chance.random() < 0.5):
            take(self.inbox, gap(self.written + 1, self.last - 1))
        self.has_begun = True
        if self.chance.random() < 0.3:
            self.own.add(self.last)
            take(self.inbox, sent(self.last))
            self.written = self.last
        else:
            self.write(self.last)

    def hand(self) -> None:
        """The program takes the next item."""
        item = self.inbox.next()
        if isinstance(item, Hole):
            for seq in range(item.first, item.last + 1):
                self.hand_one(message(seq, own=seq in self.own))
            self.inbox.skip(item)
        elif isinstance(item, Message):
            self.hand_one(item)

    def hand_one(self, one: Message) -> None:
        if self.inbox.hand(one):
            self.seen.append(one.seq)


def test_whatever_happens_each_message_is_handed_out_once_and_in_order(
    chance: random.Random,
) -> None:
    for _ in range(200):
        store = Store(chance, Inbox(chance.choice((1, 3, 100))))
        for _ in range(chance.randrange(1, 8)):
            store.connect(chance.choice((2, 5, 1000)))
            for _ in range(chance.randrange(30)):
                chance.choice((store.talk, store.hand, store.hand))()
        store.connect(1000)
        while len(store.inbox):
            store.hand()
        assert store.seen == [n for n in range(1, store.last + 1) if n not in store.own]
