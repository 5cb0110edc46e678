"""Which shards this server listens to: those of what its connections carry."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from chatd.cluster.shards import EVERYBODY

_LINGER_SECONDS: Final = 10.0
"""Who goes often comes back, and the next one's shard may be the same."""


class Interest:
    """Counts the reasons to listen to each shard."""

    def __init__(self, want: Callable[[int, bool], None]) -> None:
        """``want`` is told of each shard that is to be listened to, or no longer."""
        self._want = want
        self._counts: Counter[int] = Counter()
        self._wanted = {EVERYBODY}

    def __contains__(self, shard: int) -> bool:
        return shard in self._wanted

    def __iter__(self) -> Iterator[int]:
        return iter(self._wanted)

    def change(self, shard: int, *, more: bool) -> None:
        """There is one reason more, or one less."""
        self._counts[shard] += 1 if more else -1
        if not self._counts[shard]:
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._end, shard)
        elif shard not in self._wanted:
            self._wanted.add(shard)
            self._want(shard, True)

    def _end(self, shard: int) -> None:
        if not self._counts[shard] and shard in self._wanted:
            self._wanted.discard(shard)
            self._want(shard, False)
