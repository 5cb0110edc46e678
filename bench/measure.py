"""What is measured, and for how long: contenders in rounds, each run beside those of the others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.load import Client, Counted, Load
from bench.processes import cpu_seconds
from bench.report import Figure, short


class Plan(NamedTuple):
    """Each figure is of ``runs`` runs behind one for warm-up; a run is ``warm_up`` seconds that
    don't count and ``seconds`` that do. ``folder`` has the servers' files."""

    folder: Path
    runs: int
    warm_up: float
    seconds: float

    def told(self) -> str:
        return (
            f"{self.runs} runs behind 1 for warm-up, each {self.seconds:g} s behind "
            f"{self.warm_up:g} s"
        )


class Contender(NamedTuple):
    """A server that runs, and its clients. ``store_cpu``: seconds that a database's own process
    has used so far."""

    name: str
    pid: int
    port: int
    clients: Sequence[Client]
    dialect: str = "chatd"
    store_cpu: Callable[[], float] = lambda: 0.0


class Sample(NamedTuple):
    """A run: what was counted, and the seconds of processor time that the server took for it."""

    counted: Counted
    cpu: float
    store_cpu: float

    def rate(self, count: int) -> float:
        """Of something that was counted, per second of wall clock."""
        return count / self.counted.seconds

    def per_cpu(self, count: int) -> float | None:
        return count / self.cpu if self.cpu else None

    def per_store_cpu(self, count: int) -> float | None:
        return count / self.store_cpu if self.store_cpu else None


class Goal(NamedTuple):
    """What was to be reached, and what was; ``met`` is None where it could not be told here."""

    line: str
    what: str
    wanted: str
    got: str
    met: bool | None


def at_most(line: str, what: str, got: float, most: float, unit: str) -> Goal:
    """A goal that is reached up to ``most``, both it and ``got`` in ``unit``."""
    return Goal(line, what, f"≤ {most:g} {unit}", f"{short(got)} {unit}", met=got <= most)


class Outcome(NamedTuple):
    """What a line of the benchmark has to say."""

    title: str
    table: str
    goals: Sequence[Goal]


Samples = Mapping[str, Sequence[Sample]]

LATENCIES: Final[Sequence[Figure[Sample]]] = (
    Figure("p50 ms", lambda one: one.counted.p50_ms),
    Figure("p99 ms", lambda one: one.counted.p99_ms),
    Figure("max ms", lambda one: one.counted.max_ms),
)


def median(values: Sequence[float | None]) -> float:
    """Of those that are known."""
    return statistics.median(value for value in values if value is not None)


def sample(contender: Contender, plan: Plan, **options: str | float) -> Sample:
    """One run. ``options`` are those of ``load.c``."""
    with Load(
        contender.port,
        contender.clients,
        dialect=contender.dialect,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        **options,
    ) as load:
        load.ready()
        load.begun()
        cpu, store_cpu = cpu_seconds(contender.pid), contender.store_cpu()
        load.stopped()
        cpu, store_cpu = cpu_seconds(contender.pid) - cpu, contender.store_cpu() - store_cpu
        return Sample(load.counted(), cpu, store_cpu)


def rounds(contenders: Sequence[Contender], plan: Plan, **options: str | float) -> Samples:
    """All runs of all, another contender first in each round."""
    samples: dict[str, list[Sample]] = {one.name: [] for one in contenders}
    for run in range(-1, plan.runs):
        first = run % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            taken = sample(contender, plan, **options)
            if run >= 0:
                samples[contender.name].append(taken)
    return samples
