from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.limits import Buckets, TokenBucket


def test_a_burst_is_allowed_at_once_and_then_the_wait_is_told() -> None:
    bucket = TokenBucket(rate=2, burst=3)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(100.0) == pytest.approx(0.5)


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(rate=2, burst=1)
    bucket.take(100.0)
    assert [bucket.take(100.25) for _ in range(3)] == pytest.approx([0.25] * 3)
    assert bucket.take(100.5) == 0.0


def test_a_pause_fills_the_bucket_up_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(rate=1, burst=2)
    assert [bucket.take(0.0) for _ in range(2)] == [0.0, 0.0]
    assert [bucket.take(3600.0) for _ in range(2)] == [0.0, 0.0]
    assert bucket.take(3600.0) > 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 5), (5, 0), (0, 0)])
def test_0_is_no_limit(rate: float, burst: int) -> None:
    bucket, buckets = TokenBucket(rate, burst), Buckets(rate, burst, max_keys=1)
    assert not any(bucket.take(0.0) for _ in range(1000))
    assert not any(buckets.take("ann", 0.0) for _ in range(1000))
    assert len(buckets) == 0


@pytest.mark.parametrize(("rate", "burst", "max_keys"), [(-1, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_nonsense_is_refused(rate: float, burst: int, max_keys: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Buckets(rate, burst, max_keys)


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = Buckets(rate=1, burst=2, max_keys=10)
    for _ in range(10):
        assert buckets.take("ann", 0.0) == 0.0
        buckets.give_back("ann")
    assert [buckets.take("ann", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert buckets.take("ann", 0.0) > 0


def test_giving_back_undoes_one_take_only() -> None:
    buckets = Buckets(rate=1, burst=3, max_keys=10)
    for _ in range(3):
        buckets.take("ann", 0.0)
    buckets.give_back("ann")
    assert buckets.take("ann", 0.0) == 0.0
    assert buckets.take("ann", 0.0) > 0


def test_giving_back_never_fills_a_bucket_beyond_the_burst() -> None:
    buckets = Buckets(rate=1, burst=2, max_keys=10)
    buckets.take("ann", 0.0)
    for _ in range(10):
        buckets.give_back("ann")
        buckets.give_back("nobody")
    assert [buckets.take("ann", 0.0) for _ in range(2)] == [0.0, 0.0]
    assert buckets.take("ann", 0.0) > 0


def test_keys_do_not_touch_each_other() -> None:
    buckets = Buckets(rate=1, burst=1, max_keys=10)
    assert buckets.take("ann", 0.0) == 0.0
    assert buckets.take("bob", 0.0) == 0.0
    assert buckets.take("ann", 0.0) > 0


def test_full_buckets_are_forgotten() -> None:
    buckets = Buckets(rate=1, burst=1, max_keys=1000)
    for number in range(100):
        buckets.take(f"user {number}", 0.0)
    assert len(buckets) == 100
    buckets.take("ann", 2.0)
    assert len(buckets) == 1


def test_beyond_max_keys_the_one_unused_longest_is_forgotten() -> None:
    buckets = Buckets(rate=1, burst=1, max_keys=2)
    for key in ("ann", "bob", "ann", "cid"):
        buckets.take(key, 0.0)
    assert len(buckets) == 2
    assert buckets.take("ann", 0.0) > 0
    assert buckets.take("bob", 0.0) == 0.0


rates = st.floats(0.01, 1000)
bursts = st.integers(1, 50)
steps = st.lists(st.floats(0, 5), max_size=200)
# A clock that has run for a month: seconds with microseconds still fit a float.
STARTED = 3e6


@given(rates, bursts, steps)
def test_never_more_than_the_burst_and_the_rate_allow(
    rate: float, burst: int, steps: list[float]
) -> None:
    bucket, now, taken = TokenBucket(rate, burst), STARTED, 0
    for step in steps:
        now += step
        taken += bucket.take(now) == 0.0
        assert taken <= burst + rate * (now - STARTED) + 1e-3


@given(rates, bursts, st.floats(0, STARTED))
def test_the_whole_burst_is_allowed_at_once(rate: float, burst: int, now: float) -> None:
    bucket = TokenBucket(rate, burst)
    assert [bucket.take(now) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(now) == pytest.approx(1 / rate, abs=1e-3)


@given(rates, bursts, steps)
def test_waiting_as_told_is_enough_and_waiting_less_is_not(
    rate: float, burst: int, steps: list[float]
) -> None:
    bucket, now = TokenBucket(rate, burst), STARTED
    for step in steps:
        now += step
        wait = bucket.take(now)
        if wait:
            assert bucket.take(now + wait * 0.9) > 0
            assert bucket.take(now + wait) == 0.0
            now += wait


@given(rates, bursts, steps, st.lists(st.sampled_from("abc"), min_size=200, max_size=200))
def test_many_buckets_act_like_one_each(
    rate: float, burst: int, steps: list[float], keys: list[str]
) -> None:
    """Forgetting full ones is never noticed."""
    buckets, now = Buckets(rate, burst, max_keys=3), STARTED
    alone = {key: TokenBucket(rate, burst) for key in "abc"}
    for step, key in zip(steps, keys, strict=False):
        now += step
        assert buckets.take(key, now) == alone[key].take(now)
