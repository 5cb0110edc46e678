from __future__ import annotations

import pytest

from chatd.models import (
    group_conversation,
    group_of,
    now_ms,
    other_of,
    pair_conversation,
    pair_of,
    rfc3339,
)
from tests.rooms import ANN, BOB


def test_a_pair_is_one_conversation_whoever_is_named_first() -> None:
    pair = pair_conversation(BOB, ANN)
    assert pair == pair_conversation(ANN, BOB) == f"u:{ANN} {BOB}"
    assert pair_of(pair) == (ANN, BOB)
    assert group_of(pair) is None
    assert (other_of(pair, ANN), other_of(pair, BOB)) == (BOB, ANN)


def test_one_may_talk_to_oneself() -> None:
    alone = pair_conversation(ANN, ANN)
    assert pair_of(alone) == (ANN, ANN)
    assert other_of(alone, ANN) == ANN


def test_a_group_is_a_conversation_of_its_own() -> None:
    group = group_conversation("u-turns")
    assert group_of(group) == "u-turns"
    assert pair_of(group) is None
    assert len({group, group_conversation("other"), pair_conversation(ANN, BOB)}) == 3


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_769_860_799_999, "2026-01-31T11:59:59.999Z"),
        (1_709_210_096_050, "2024-02-29T12:34:56.050Z"),
    ],
)
def test_a_time_as_text(at: int, text: str) -> None:
    assert rfc3339(at) == text


def test_times_are_whole_milliseconds() -> None:
    assert isinstance(now_ms(), int)
    assert rfc3339(now_ms()) >= "2026"
