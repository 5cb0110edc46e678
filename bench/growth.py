"""The line of growth: what a delivery and a message cost as groups and the store get bigger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Final

from bench.measure import Contender, Goal, Outcome, Plan, Sample, Samples, median, rounds
from bench.report import Figure, comparison, short
from bench.server import GROUP, SQLITE, Site, crowd, pairs, port_of
from bench.traffic import Traffic
from chatd.models import pair_conversation
from chatd.storage.base import Storage

MEMBERS: Final = (10, 100, 1000)
STORED: Final = (0, 1_000_000)
CONVERSATIONS: Final = 10_000
"""In which what is stored lies; each as big as the others."""

PAIRS: Final = 50
IN_FLIGHT: Final = 8
MOST_GROWTH: Final = 1.2
_BATCH: Final = 1000

DELIVERY: Final = Figure[Sample]("CPU µs", lambda one: _cost(one, one.counted.received))
MESSAGE: Final = Figure[Sample]("CPU µs", lambda one: _cost(one, one.counted.receipted))


def growth(plan: Plan) -> Outcome:
    """Groups of several sizes; then the same pairs on an empty store and on a full one."""
    with ExitStack() as stack:
        groups = [stack.enter_context(_group(plan, members)) for members in MEMBERS]
        by_members = rounds(groups, plan, in_flight=IN_FLIGHT)
    with ExitStack() as stack:
        stores = [stack.enter_context(_store(plan, stored)) for stored in STORED]
        by_stored = rounds(stores, plan, in_flight=IN_FLIGHT)
    tables = (
        comparison(("a delivery", "members"), {"group": by_members}, [DELIVERY], ""),
        comparison(("a message", "stored before"), {"pairs": by_stored}, [MESSAGE], ""),
    )
    return Outcome(
        f"Growth: {IN_FLIGHT} messages of 200 bytes in flight (of each pair), SQLite",
        "\n\n".join(tables),
        [
            _goal("a delivery, 10 → 1,000 members", by_members, DELIVERY.of),
            _goal(
                f"a message, 0 → {STORED[-1]:,} stored in {CONVERSATIONS:,} conversations",
                by_stored,
                MESSAGE.of,
            ),
        ],
    )


@contextmanager
def _group(plan: Plan, members: int) -> Iterator[Contender]:
    site = Site(plan.folder / f"growth-group-{members}", SQLITE)
    people = site.people(members, group=GROUP)
    with site.serving() as server:
        yield Contender(f"{members:,}", server.process.pid, port_of(server), crowd(people))


@contextmanager
def _store(plan: Plan, stored: int) -> Iterator[Contender]:
    site = Site(plan.folder / f"growth-store-{stored}", SQLITE)
    people = site.people(2 * PAIRS)
    others = [
        pair_conversation(f"one-{n}@example.org", f"other-{n}@example.org")
        for n in range(CONVERSATIONS)
    ]
    traffic = Traffic(others)

    async def fill(storage: Storage) -> None:
        for _ in range(0, stored, _BATCH):
            await storage.append(traffic.batch(_BATCH))

    site.store(fill)
    with site.serving() as server:
        yield Contender(f"{stored:,}", server.process.pid, port_of(server), pairs(people))


def _cost(one: Sample, count: int) -> float | None:
    return 1_000_000 * one.cpu / count if count else None


def _goal(what: str, samples: Samples, cost: Callable[[Sample], float | None]) -> Goal:
    """By the greatest ratio of a bigger case's cost to a smaller one's."""
    costs = [median([cost(one) for one in taken]) for taken in samples.values()]
    worst = max(bigger / smaller for smaller, bigger in combinations(costs, 2))
    return Goal(
        line="growth",
        what=f"CPU of {what}",
        wanted=f"≤ × {MOST_GROWTH:g}",
        got=f"× {short(worst)}",
        met=worst <= MOST_GROWTH,
    )
