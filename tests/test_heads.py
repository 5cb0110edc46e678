"""What was stored and not told is found when the next message is."""

from __future__ import annotations

import pytest

from chatd import heads
from chatd.heads import Heads
from chatd.models import group_conversation, pair_conversation

PAIR = pair_conversation("ann@example.org", "bob@example.org")
CLUB = group_conversation("club")


def test_what_follows_what_was_told_leaves_nothing_out() -> None:
    told = Heads()
    assert [told.tell(PAIR, seq) for seq in (4, 5, 6)] == [None, None, None]


def test_what_lies_between_was_left_out() -> None:
    told = Heads()
    told.tell(PAIR, 4)
    assert told.tell(PAIR, 7) == 5
    assert told.tell(PAIR, 8) is None


def test_conversations_are_told_of_apart() -> None:
    told = Heads()
    told.tell(PAIR, 4)
    assert told.tell(CLUB, 9) is None
    assert told.tell(PAIR, 5) is None


def test_what_was_replayed_counts_as_told() -> None:
    told = Heads()
    told.seen(PAIR, 4)
    assert told.tell(PAIR, 6) == 5


def test_a_replay_does_not_hide_what_others_have_missed() -> None:
    told = Heads()
    told.tell(PAIR, 4)
    told.seen(PAIR, 6)
    assert told.tell(PAIR, 7) == 5


def test_what_is_told_late_changes_nothing() -> None:
    told = Heads()
    told.tell(PAIR, 6)
    assert told.tell(PAIR, 5) is None
    assert told.tell(PAIR, 7) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "MOST_KNOWN", 10)
    told = Heads()
    for number in range(100):
        told.tell(group_conversation(f"g{number}"), 1)
        told.seen(group_conversation(f"h{number}"), 1)
    assert len(told._heads) <= 11
