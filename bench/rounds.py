"""Rounds: a list of operations that every store gets in its turn, and what each took for them.

Another store is first each time: what else the machine does meanwhile hits all alike.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from bench.report import Figure
from bench.stores import Store
from chatd.storage.base import Storage

Operation = Callable[[Storage], Awaitable[int]]
"""One call or some that belong together; tells how many messages it stored or read."""


class Round(NamedTuple):
    """What a round took, in seconds: each operation, and ``wall`` and CPU of all together.

    ``cpu`` is that of this process with all its threads, ``server_cpu`` that of the store's own.
    """

    times: Sequence[float]
    messages: int
    wall: float
    cpu: float
    server_cpu: float

    def percentile(self, percent: int) -> float:
        """Of the operations' times, in milliseconds."""
        return 1000 * statistics.quantiles(self.times, n=100, method="inclusive")[percent - 1]

    def each(self, seconds: float) -> float | None:
        """An operation's share of what all took, in milliseconds."""
        return 1000 * seconds / len(self.times) or None

    def rate(self, seconds: float) -> float | None:
        """Messages per second."""
        return self.messages / seconds if seconds else None


Rounds = Mapping[str, Sequence[Round]]
"""By the store's name; those of the same place ran beside each other."""

RATES: Final[Sequence[Figure[Round]]] = (
    Figure("messages/s", lambda one: one.rate(one.wall), compared=True),
    Figure("per CPU-s here", lambda one: one.rate(one.cpu), compared=True),
    Figure("per CPU-s of mongod", lambda one: one.rate(one.server_cpu)),
)
MEDIAN: Final = Figure[Round]("p50 ms", lambda one: one.percentile(50), compared=True)
P99: Final = Figure[Round]("p99 ms", lambda one: one.percentile(99), compared=True)
CPU: Final[Sequence[Figure[Round]]] = (
    Figure("CPU ms here", lambda one: one.each(one.cpu), compared=True),
    Figure("CPU ms of mongod", lambda one: one.each(one.server_cpu)),
)


async def measure(store: Store, operations: Sequence[Operation]) -> Round:
    gc.collect()
    # Or the collector would look through all that the store in memory holds, on anyone's time.
    gc.freeze()
    times, messages = [], 0
    server_cpu, cpu, wall = store.server_cpu(), time.process_time(), time.perf_counter()
    for operation in operations:
        started = time.perf_counter()
        messages += await operation(store.storage)
        times.append(time.perf_counter() - started)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Round(times, messages, wall, cpu, store.server_cpu() - server_cpu)


async def measure_all(
    stores: Sequence[Store], make: Callable[[], Sequence[Operation]], *, runs: int, warm_up: int = 1
) -> Rounds:
    """``make`` gives each round its operations; the first ``warm_up`` rounds don't count."""
    rounds: dict[str, list[Round]] = {store.name: [] for store in stores}
    for run in range(-warm_up, runs):
        operations, first = make(), run % len(stores)
        for store in (*stores[first:], *stores[:first]):
            done = await measure(store, operations)
            if run >= 0:
                rounds[store.name].append(done)
        counts = {name: done[-1].messages for name, done in rounds.items() if done}
        assert len(set(counts.values())) <= 1, f"stores differ in their messages: {counts}"
    return rounds
