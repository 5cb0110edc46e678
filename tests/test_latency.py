"""The time from sending to arriving, of the latest message of each conversation."""

from __future__ import annotations

import pytest

from chatd import latency
from chatd.latency import Latency
from chatd.models import Conversation, Message, group_conversation, pair_conversation

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"
PAIR = pair_conversation(ANN, BOB)
GROUP = group_conversation("python")


def message(seq: int, sent_at: int, conversation: Conversation = PAIR) -> Message:
    return Message(f"{conversation} {seq}", conversation, seq, ANN, "hello", sent_at)


class Clock:
    """A latency whose observations are kept."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.latency = Latency(self.seen.append)


def test_the_first_receipt_of_another_user_counts_and_no_other() -> None:
    clock = Clock()
    clock.latency.told(message(1, 1000, GROUP))
    clock.latency.confirmed(GROUP, ANN, 1, 1001)
    clock.latency.confirmed(GROUP, BOB, 1, 1250)
    clock.latency.confirmed(GROUP, EVE, 1, 9000)
    assert clock.seen == [0.25]


def test_of_what_is_written_in_a_row_the_last_counts() -> None:
    clock = Clock()
    clock.latency.told(message(1, 1000))
    clock.latency.told(message(2, 1100))
    clock.latency.confirmed(PAIR, BOB, 1, 1200)
    assert clock.seen == []
    clock.latency.confirmed(PAIR, BOB, 2, 1300)
    assert clock.seen == [0.2]


def test_a_clock_that_was_set_back_makes_no_time_negative() -> None:
    clock = Clock()
    clock.latency.told(message(1, 5000))
    clock.latency.confirmed(PAIR, BOB, 1, 1000)
    assert clock.seen == [0]


def test_what_nobody_confirms_takes_no_room_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_MOST", 2)
    clock = Clock()
    conversations = [group_conversation(name) for name in ("one", "two", "three")]
    for conversation in conversations:
        clock.latency.told(message(1, 1000, conversation))
    clock.latency.told(message(2, 1000, conversations[1]))
    for conversation in conversations:
        clock.latency.confirmed(conversation, BOB, 2, 2000)
    assert clock.seen == [1.0, 1.0]
