"""Token buckets: how often something may happen, with a burst after a pause.

Kept as the *virtual scheduling* form of the bucket (ITU-T I.371, GCRA): one number, the time at
which the bucket will be full again. Times are seconds of a monotonic clock that the caller hands
in; a rate or a burst of 0 means no limit.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_ROUNDING: Final = 1e-6
"""Seconds that don't count: adding up intervals must not cost the last token of a burst."""


class TokenBucket:
    """Allows ``burst`` at once and ``rate`` a second in the long run."""

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        if rate < 0 or burst < 0:
            raise ValueError("rate and burst must be 0 (no limit) or more")
        self._interval = 1 / rate if rate and burst else 0.0
        self._tolerance = (burst - 1) * self._interval
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """0.0 where it is allowed, and counted; else, uncounted, the seconds until it would be."""
        full_at = max(self._full_at, now)
        wait = full_at - self._tolerance - now
        if wait > _ROUNDING:
            return wait
        self._full_at = full_at + self._interval
        return 0.0

    def give_back(self) -> None:
        """Undo one `take`."""
        self._full_at -= self._interval

    def is_full(self, now: float) -> bool:
        """Whether it would act like a new one."""
        return self._full_at <= now


class Buckets:
    """A `TokenBucket` for each key, in bounded memory.

    Full buckets are forgotten, which nobody notices. Beyond ``max_keys`` the one unused longest
    goes as well, and its key may burst again: choose more than can be busy at once.
    """

    def __init__(self, rate: float, burst: int, max_keys: int) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be 1 or more")
        TokenBucket(rate, burst)  # refuses what is no rate and no burst
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def change(self, rate: float, burst: int) -> None:
        """Go by these from now on. Where they are others than before, all may burst again."""
        if (rate, burst) == (self._rate, self._burst):
            return
        TokenBucket(rate, burst)
        self._rate = rate
        self._burst = burst
        self._buckets.clear()

    def take(self, key: str, now: float) -> float:
        """As `TokenBucket.take`."""
        if not (self._rate and self._burst):
            return 0.0
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def give_back(self, key: str) -> None:
        """Undo one `take` of this key: what was counted turned out not to count."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.give_back()

    def _make_room(self, now: float) -> None:
        while self._buckets:
            oldest = next(iter(self._buckets))
            if len(self._buckets) < self._max_keys and not self._buckets[oldest].is_full(now):
                return
            del self._buckets[oldest]
