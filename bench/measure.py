"""What is measured, and for how long: contenders in rounds, each run beside those of the others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from bench.curves import Picture
from bench.load import Client, Counted, Load, Unmeasurable, generator
from bench.processes import allow_sockets, cpu_seconds
from bench.report import Figure, short

Subject = TypeVar("Subject")
Run = TypeVar("Run")

QUICK_SIZE: Final = 12
SETTLE_SECONDS: Final = 2.0
_SPARE_FILES: Final = 200
_IDLE_LOOKS: Final = 50
_IDLE_SECONDS: Final = 0.2
_IDLE_SHARE: Final = 0.15


class Plan(NamedTuple):
    """Each figure is of ``runs`` runs behind one for warm-up; a run is ``warm_up`` seconds that
    don't count and ``seconds`` that do. ``folder`` has the servers' files. A ``quick`` one is to
    see that all works: what should be big is small, no run is for warm-up, no server may settle,
    and no peer takes part that would have to be installed."""

    folder: Path
    runs: int
    warm_up: float
    seconds: float
    quick: bool = False

    @property
    def cold_runs(self) -> int:
        """How many come first and don't count."""
        return 0 if self.quick else 1

    def size(self, wanted: int) -> int:
        """How many members, connections or messages there are, where ``wanted`` should be."""
        return min(wanted, QUICK_SIZE) if self.quick else wanted

    def sizes(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Those along a curve, ascending as the ``wanted`` are; the least and the greatest do."""
        some = (wanted[0], wanted[-1]) if self.quick else wanted
        return tuple(dict.fromkeys(map(self.size, some)))

    def steps(self, wanted: Sequence[int]) -> Sequence[int]:
        """The same where they are no sizes; the last does."""
        return wanted[-1:] if self.quick else wanted

    def at_least(self, seconds: float, warm_up: float = 0) -> Plan:
        """The same with longer runs, for a line that is nothing without."""
        if self.quick:
            return self
        return self._replace(seconds=max(self.seconds, seconds), warm_up=max(self.warm_up, warm_up))

    def settle(self) -> None:
        """Let the server get over what was done to it last."""
        if not self.quick:
            time.sleep(SETTLE_SECONDS)

    def told(self) -> str:
        told = (
            f"{self.runs} runs behind {self.cold_runs} for warm-up, each {self.seconds:g} s behind "
            f"{self.warm_up:g} s"
        )
        if self.quick:
            told += f", no size above {QUICK_SIZE}: TO SEE THAT IT WORKS, NO FIGURES TO COMPARE"
        return told


class Contender(NamedTuple):
    """A server that runs, and its clients. ``store_cpu``: seconds that a database's own process
    has used so far. ``limited``: whether the server may refuse messages."""

    name: str
    pid: int
    port: int
    clients: Sequence[Client]
    dialect: str = "chatd"
    store_cpu: Callable[[], float] = lambda: 0.0
    limited: bool = False


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
    pictures: Sequence[Picture] = ()


Samples = Mapping[str, Sequence[Sample]]

LATENCIES: Final[Sequence[Figure[Sample]]] = (
    Figure("p50 ms", lambda one: one.counted.p50_ms),
    Figure("p99 ms", lambda one: one.counted.p99_ms),
    Figure("max ms", lambda one: one.counted.max_ms),
)


def median(values: Sequence[float | None]) -> float:
    """Of those that are known; not a number where none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else nan


def connectable(counts: Sequence[int]) -> tuple[int, ...]:
    """Those of the counts, ascending, of connections that may be open here at a time."""
    allowed = allow_sockets(counts[-1] + _SPARE_FILES) - _SPARE_FILES
    possible = tuple(count for count in counts if count <= allowed)
    if not possible:
        raise Unmeasurable(
            f"{counts[0]:,} connections need as many open files: raise the limit (ulimit -n)"
        )
    return possible


def sample(contender: Contender, plan: Plan, **options: str | float) -> Sample:
    """One run. ``options`` are those of ``generator/main.c``."""
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
        taken = Sample(load.counted(limited=contender.limited), cpu, store_cpu)
    if not plan.quick:
        wait_until_idle([contender.pid])
    return taken


def wait_until_idle(pids: Sequence[int]) -> None:
    """Or what servers have to do when their clients are gone would take the core from the next."""
    before = sum(map(cpu_seconds, pids))
    for _ in range(_IDLE_LOOKS):
        time.sleep(_IDLE_SECONDS)
        now = sum(map(cpu_seconds, pids))
        if now - before < _IDLE_SHARE * _IDLE_SECONDS:
            return
        before = now


def rounds(contenders: Sequence[Contender], plan: Plan, **options: str | float) -> Samples:
    """All runs of all, another contender first in each round.

    Left out are those whose dialect the load generator does not speak.
    """
    speaks = generator().speaks
    named = {one.name: one for one in contenders if speaks(one.dialect)}
    return alternating(named, plan, lambda one: sample(one, plan, **options))


def alternating(
    named: Mapping[str, Subject], plan: Plan, take: Callable[[Subject], Run]
) -> Mapping[str, Sequence[Run]]:
    """All runs of all by their names, another one first in each round."""
    names = list(named)
    taken: dict[str, list[Run]] = {name: [] for name in names}
    for run in range(-plan.cold_runs, plan.runs):
        first = run % len(names)
        for name in (*names[first:], *names[:first]):
            one = take(named[name])
            if run >= 0:
                taken[name].append(one)
    return taken
