"""The line of several servers: what a delivery from one to another costs, and what planning needs.

All processes share the machine, so the load is low, and what counts is the processor time that
each of them takes. Servers have one core; mongod, nats-server and the clients have the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, cycle, repeat
from typing import Final, NamedTuple

from bench.load import Client
from bench.measure import Goal, Outcome, Plan, alternating, median, wait_until_idle
from bench.report import Figure, comparison, short, table
from bench.server import GROUP, Person, Site
from bench.shards import shards
from bench.stores import in_database
from bench.team import Ground, Taken, Team, ground, take, team
from chatd.models import Group, now_ms
from chatd.storage.base import Storage
from tests.mongod import find_mongod
from tests.nats import find_nats_server

PAIRS: Final = 50
PAIRED_RATE: Final = 250
MEMBERS: Final = 200
GROUP_RATE: Final = 20
"""Messages per second, of all together: no process has to wait for a processor for long."""

SERVERS: Final = (1, 2, 3, 4)
ALONE: Final = "1, no NATS"
APART: Final = "2, all apart"

MOST: Final = 2.0

Ports = Sequence[int]
"""Of the servers that there are."""

Clients = Callable[[Sequence[Person], Ports], Sequence[Client]]
"""Who writes to whom, and who is where."""


class Case(NamedTuple):
    """What is written, and at how many messages a second; ``spread`` over all servers there are,
    or with all who write on the first and all who only read on the last."""

    name: str
    rate: float
    spread: Clients
    apart: Clients


class Side(NamedTuple):
    """A contender: servers, and their clients."""

    team: Team
    clients: Sequence[Client]
    rate: float

    def take(self, plan: Plan) -> Taken:
        """One run."""
        taken = take(self.team, self.clients, plan, self.rate)
        if not plan.quick:
            wait_until_idle(self.team.pids)
        return taken


# -- who writes to whom, and where -----------------------------------------------------------------


def at(port: int, person: Person, target: str = "") -> Client:
    return person.client(target)._replace(port=port)


def spread_pairs(people: Sequence[Person], ports: Ports, *, answer: bool = False) -> list[Client]:
    """As chance would have it: of n servers, one in n pairs is on the same."""
    many = len(ports)
    places = ((ports[nth % many], ports[nth // many % many]) for nth in count())
    return _paired(people, places, answer=answer)


def apart_pairs(people: Sequence[Person], ports: Ports, *, answer: bool = False) -> list[Client]:
    return _paired(people, repeat((ports[0], ports[-1])), answer=answer)


def _paired(
    people: Sequence[Person], places: Iterable[tuple[int, int]], *, answer: bool
) -> list[Client]:
    """Neighbours in twos: the first writes to the second, who may ``answer``."""
    return [
        client
        for (one, other), (here, there) in zip(
            zip(people[::2], people[1::2], strict=True), places, strict=False
        )
        for client in (
            at(here, one, f'"to":"{other.email}"'),
            at(there, other, f'"to":"{one.email}"' if answer else ""),
        )
    ]


def spread_group(people: Sequence[Person], ports: Ports, *, writers: int = 1) -> list[Client]:
    """The first ones write, in turn."""
    group = f'"group":"{GROUP}"'
    return [
        at(port, one, group if nth < writers else "")
        for nth, (one, port) in enumerate(zip(people, cycle(ports), strict=False))
    ]


def apart_group(people: Sequence[Person], ports: Ports) -> list[Client]:
    return spread_group(people, [ports[0], *repeat(ports[-1], len(people) - 1)])


CASES: Final = (
    Case("pairs", PAIRED_RATE, spread_pairs, apart_pairs),
    Case("group", GROUP_RATE, spread_group, apart_group),
)
TURNS: Final = (
    Case(
        "pairs, both write",
        PAIRED_RATE,
        partial(spread_pairs, answer=True),
        partial(apart_pairs, answer=True),
    ),
    Case(
        "group, two write",
        GROUP_RATE,
        partial(spread_group, writers=2),
        partial(spread_group, writers=2),
    ),
)
"""Each message behind one that another server may have stored."""


# -- deliveries ------------------------------------------------------------------------------------

FIGURES: Final[Sequence[Figure[Taken]]] = (
    Figure("CPU µs a copy", lambda one: one.a_copy(sum(one.spent.servers)), compared=True),
    Figure("first server's", lambda one: one.a_copy(one.spent.servers[0])),
    Figure("last server's", lambda one: one.a_copy(one.spent.servers[-1])),
    Figure("mongod's", lambda one: one.a_copy(one.spent.mongod), compared=True),
    Figure("nats-server's", lambda one: one.a_copy(one.spent.nats)),
    Figure("packets a message", lambda one: one.a_message(one.spent.traffic.packets_in)),
    Figure("bytes a message", lambda one: one.a_message(one.spent.traffic.bytes_in)),
    Figure("p50 ms", lambda one: one.counted.p50_ms, compared=True),
    Figure("p99 ms", lambda one: one.counted.p99_ms),
)

Runs = Mapping[str, Mapping[str, Sequence[Taken]]]
"""By case and contender."""


class Teams(NamedTuple):
    """All that are compared: each with a store of its own, and the same people."""

    alone: Team
    by_size: Mapping[int, Team]
    people: Mapping[Team, Sequence[Person]]


@contextmanager
def teams(plan: Plan, on: Ground) -> Iterator[Teams]:
    with ExitStack() as stack:
        people: dict[Team, Sequence[Person]] = {}

        def start(size: int, *, alone: bool = False) -> Team:
            name = f"cluster_{'alone' if alone else size}"
            site = Site(plan.folder / name, in_database(on.mongo_url, name))
            named = site.people(plan.size(MEMBERS))
            site.store(partial(_join, named))
            started = stack.enter_context(team(site, on, size, alone=alone))
            people[started] = named
            return started

        sizes = (2,) if plan.quick else SERVERS
        yield Teams(start(1, alone=True), {size: start(size) for size in sizes}, people)


async def _join(people: Sequence[Person], storage: Storage) -> None:
    """One after the other: all at once, they would be in each other's way for many seconds."""
    first, *others = people
    await storage.create_group(Group(GROUP, None, first.email, now_ms()))
    for one in others:
        await storage.join(GROUP, one.email, now_ms())


def measured(plan: Plan, all_of: Teams) -> Runs:
    return {
        case.name: alternating(_sides(case, all_of), plan, lambda one: one.take(plan))
        for case in (*CASES, *TURNS)
    }


def _sides(case: Case, all_of: Teams) -> Mapping[str, Side]:
    def side(team: Team, clients: Clients) -> Side:
        people = all_of.people[team]
        some = people[: 2 * PAIRS] if case.name.startswith("pairs") else people
        return Side(team, clients(some, team.ports), case.rate)

    pair = {
        ALONE: side(all_of.alone, case.spread),
        APART: side(all_of.by_size[2], case.apart),
    }
    if case in TURNS:
        return pair
    return pair | {str(size): side(one, case.spread) for size, one in all_of.by_size.items()}


# -- the line --------------------------------------------------------------------------------------


def cluster(plan: Plan) -> Outcome:
    """One server without NATS, beside several with one."""
    title = (
        f"Several servers, MongoDB: {PAIRED_RATE} messages/s in {PAIRS} pairs, or {GROUP_RATE} to "
        f"a group of {plan.size(MEMBERS)}, in all"
    )
    if find_mongod() is None or find_nats_server() is None:
        nothing = "no mongod or no nats-server here"
        return Outcome(title, table(["servers"], [[nothing]], 1), [_goal(nothing)])
    with ground(plan.folder / "cluster") as on:
        with teams(plan, on) as all_of:
            runs = measured(plan, all_of)
        more = list(shards(plan, on))
    ratio = _ratio(runs[CASES[0].name])
    return Outcome(
        title,
        "\n\n".join([comparison(("messages", "servers"), runs, FIGURES, ALONE), *more]),
        [_goal(f"× {short(ratio)}", ratio)],
    )


def _ratio(runs: Mapping[str, Sequence[Taken]]) -> float:
    """Of the servers' costs, each run's to that of the run beside it."""
    cost = FIGURES[0].of
    both = [(cost(one), cost(base)) for one, base in zip(runs[APART], runs[ALONE], strict=True)]
    return median([one / base for one, base in both if one and base])


def _goal(got: str, ratio: float | None = None) -> Goal:
    return Goal(
        line="cluster",
        what="CPU a message of a pair, stored on one server and delivered on another",
        wanted=f"≤ × {MOST:g} of one server without NATS",
        got=got,
        met=None if ratio is None else ratio <= MOST,
    )
