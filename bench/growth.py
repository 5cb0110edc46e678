"""The line of growth: what a delivery and a message cost as more of everything is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Final, NamedTuple

from bench.curves import Panel, Picture, curve
from bench.load import Load
from bench.measure import (
    Contender,
    Goal,
    Outcome,
    Plan,
    Sample,
    Samples,
    connectable,
    median,
    rounds,
)
from bench.report import Figure, comparison, short
from bench.server import GROUP, SQLITE, Site, crowd, pairs, port_of
from bench.traffic import Traffic
from chatd.models import Conversation, pair_conversation
from chatd.storage.base import Storage

MEMBERS: Final = (10, 30, 100, 300, 1000)
STORED: Final = (0, 10_000, 100_000, 1_000_000)
CONVERSATIONS: Final = (1, 10, 100, 1000, 10_000)
CONNECTIONS: Final = (100, 1000, 5000, 10_000)

PAIRS: Final = 50
IN_FLIGHT: Final = 8
RATE: Final = 2000
"""Messages per second, where as many are to be written to few as to many."""

SETTLE_SECONDS: Final = 3.0
"""Of warm-up where thousands connect: until presence has been told, and what connecting took."""

MOST_GROWTH: Final = 1.2
_BATCH: Final = 1000


class Axis(NamedTuple):
    """What grows, to which sizes, and what was measured at each; the first of the figures is the
    one that should stay."""

    grows: str
    sizes: Sequence[int]
    samples: Samples
    figures: Sequence[Figure[Sample]]


DELIVERY: Final = Figure[Sample]("CPU µs a delivery", lambda one: _cost(one, one.counted.received))
MESSAGE: Final = Figure[Sample]("CPU µs a message", lambda one: _cost(one, one.counted.receipted))
SENT: Final = Figure[Sample]("CPU µs a message", lambda one: _cost(one, one.counted.sent))
STORED_RATE: Final = Figure[Sample]("messages/s", lambda one: one.rate(one.counted.sent))


def growth(plan: Plan) -> Outcome:
    """One thing after the other grows, and all else stays as it is."""
    axes = [_members(plan), _stored(plan), _conversations(plan), _connections(plan)]
    tables = [
        comparison(("server", one.grows), {"chatd": one.samples}, one.figures, "") for one in axes
    ]
    tables[0] += f"\n\n{_slope(axes[0])}"
    return Outcome(
        f"Growth: messages of 200 bytes, SQLite; members and what is stored: {IN_FLIGHT} in flight "
        f"(of each pair); conversations and connections: {RATE:,} messages/s",
        "\n\n".join(tables),
        [_goal(one) for one in axes],
        [Picture("growth", [_panel(one) for one in axes])],
    )


# -- members ---------------------------------------------------------------------------------------


def _members(plan: Plan) -> Axis:
    sizes = plan.sizes(MEMBERS)
    with ExitStack() as stack:
        groups = [stack.enter_context(_group(plan, members)) for members in sizes]
        samples = rounds(groups, plan, in_flight=IN_FLIGHT)
    return Axis("members", sizes, samples, (DELIVERY, SENT, STORED_RATE))


@contextmanager
def _group(plan: Plan, members: int) -> Iterator[Contender]:
    site = Site(plan.folder / f"growth-group-{members}", SQLITE)
    people = site.people(members, group=GROUP)
    with site.serving() as server:
        yield Contender(f"{members:,}", server.process.pid, port_of(server), crowd(people))


def _slope(axis: Axis) -> str:
    """What one more delivery costs: a message's own cost is not in it."""
    costs = [median([SENT.of(one) for one in taken]) for taken in axis.samples.values()]
    few, many = axis.sizes[0], axis.sizes[-1]
    each = (costs[-1] - costs[0]) / (many - few)
    return (
        f"From {few:,} to {many:,} members each further delivery of a message costs {short(each)} "
        f"µs of CPU, the message itself {short(costs[0] - (few - 1) * each)} µs."
    )


# -- what is stored --------------------------------------------------------------------------------


def _stored(plan: Plan) -> Axis:
    sizes = plan.sizes(STORED)
    with ExitStack() as stack:
        stores = [stack.enter_context(_store(plan, stored)) for stored in sizes]
        samples = rounds(stores, plan, in_flight=IN_FLIGHT)
    return Axis("messages stored", sizes, samples, (MESSAGE, STORED_RATE))


@contextmanager
def _store(plan: Plan, stored: int) -> Iterator[Contender]:
    """A full store has its messages in 10,000 conversations of others, each as big as the rest."""
    site = Site(plan.folder / f"growth-store-{stored}", SQLITE)
    people = site.people(2 * plan.size(PAIRS))
    others = [
        pair_conversation(f"one-{n}@example.org", f"other-{n}@example.org")
        for n in range(plan.size(CONVERSATIONS[-1]))
    ]
    _fill(site, others, stored)
    with site.serving() as server:
        yield Contender(f"{stored:,}", server.process.pid, port_of(server), pairs(people))


def _fill(site: Site, among: Sequence[Conversation], messages: int) -> None:
    """Store so many, in each conversation in turn."""
    traffic = Traffic(among)

    async def fill(storage: Storage) -> None:
        for start in range(0, messages, _BATCH):
            await storage.append(traffic.batch(min(_BATCH, messages - start)))

    site.store(fill)


# -- conversations ---------------------------------------------------------------------------------


def _conversations(plan: Plan) -> Axis:
    """The same messages in few or in many. Whoever writes gets messages as well, from another."""
    sizes = connectable(plan.sizes(CONVERSATIONS))
    # Thousands connect for every run.
    rare = _settled(plan)._replace(runs=max(1, plan.runs // 2))
    with ExitStack() as stack:
        rings = [stack.enter_context(_ring(plan, count)) for count in sizes]
        samples = rounds(rings, rare, rate=RATE)
    return Axis("conversations", sizes, samples, (MESSAGE, STORED_RATE))


@contextmanager
def _ring(plan: Plan, count: int) -> Iterator[Contender]:
    """As many people as conversations, each of whom writes to the next; for one, it takes two."""
    site = Site(plan.folder / f"growth-conversations-{count}", SQLITE)
    people = site.people(max(2, count))
    ring = list(zip(people, [*people[1:], people[0]], strict=True))
    # What a pair's first message costs, it costs only once.
    _fill(site, [pair_conversation(one.email, other.email) for one, other in ring], count)
    with site.serving() as server:
        clients = [one.client(f'"to":"{other.email}"') for one, other in ring]
        yield Contender(f"{count:,}", server.process.pid, port_of(server), clients)


# -- connections -----------------------------------------------------------------------------------


def _connections(plan: Plan) -> Axis:
    """The same messages among the same few, and all others only listen."""
    sizes = connectable(plan.sizes(CONNECTIONS))
    with ExitStack() as stack:
        contenders = [stack.enter_context(_connected(plan, count)) for count in sizes]
        samples = rounds(contenders, _settled(plan), rate=RATE)
    return Axis("connections", sizes, samples, (MESSAGE, STORED_RATE))


@contextmanager
def _connected(plan: Plan, count: int) -> Iterator[Contender]:
    site = Site(plan.folder / f"growth-connections-{count}", SQLITE)
    people = site.people(count)
    talking = 2 * min(PAIRS, count // 2)
    with ExitStack() as stack:
        server = stack.enter_context(site.serving())
        port = port_of(server)
        if silent := [one.client() for one in people[talking:]]:
            stack.enter_context(Load(port, silent)).ready()
        yield Contender(f"{count:,}", server.process.pid, port, pairs(people[:talking]))


def _settled(plan: Plan) -> Plan:
    return plan.at_least(0, warm_up=SETTLE_SECONDS)


# -- what is made of it ----------------------------------------------------------------------------


def _cost(one: Sample, count: int) -> float | None:
    """In microseconds; of a run too short for the system's clock, none."""
    return 1_000_000 * one.cpu / count if count and one.cpu else None


def _panel(axis: Axis) -> Panel:
    """What should stay flat."""
    cost = axis.figures[0]
    drawn = curve("chatd", axis.sizes, axis.samples.values(), cost.of)
    return Panel(f"More {axis.grows}", axis.grows, cost.name, [drawn], log_x=True)


def _goal(axis: Axis) -> Goal:
    """By the greatest ratio of a bigger case's cost to a smaller one's."""
    cost = axis.figures[0]
    costs = [median([cost.of(one) for one in taken]) for taken in axis.samples.values()]
    ratios = [bigger / smaller for smaller, bigger in combinations(costs, 2)]
    return Goal(
        line="growth",
        what=f"{cost.name}, {axis.sizes[0]:,} → {axis.sizes[-1]:,} {axis.grows}",
        wanted=f"≤ × {MOST_GROWTH:g}",
        got=f"× {short(max(ratios))}" if ratios else "one size only",
        met=max(ratios) <= MOST_GROWTH if ratios else None,
    )
