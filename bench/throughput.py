"""The lines of throughput: one to many, and one to one, per second of the server's processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from bench.load import Client, Counted
from bench.measure import LATENCIES, Contender, Goal, Outcome, Plan, Sample, Samples, median, rounds
from bench.peers.running import Peer, peers, xmpp_servers
from bench.peers.xmpp import XmppServer
from bench.processes import LOAD_CORE, on_core
from bench.report import Figure, comparison, short
from bench.server import GROUP, MEMORY, SQLITE, Person, Site, crowd, pairs, port_of, signed_up
from bench.stores import client_of, cpu_of, in_database, mongod
from tests.mongod import find_mongod

MEMBERS: Final = 500
PAIRS: Final = 50
IN_FLIGHT: Final = 8
PAIRED_GOAL: Final = 12_000
DATABASE: Final = "chatd_bench"

ON_SQLITE: Final = "chatd, SQLite"
ON_MEMORY: Final = "chatd, memory"
ON_MONGODB: Final = "chatd, MongoDB"

Rates = Mapping[str, float]
"""Per CPU-second, by the names of contenders."""

DELIVERED: Final[Sequence[Figure[Sample]]] = (
    Figure("deliveries/s", lambda one: one.rate(one.counted.received), compared=True),
    Figure("per CPU-s", lambda one: one.per_cpu(one.counted.received), compared=True),
    Figure("messages/s", lambda one: one.rate(one.counted.sent)),
    *LATENCIES,
)

# A message counts when its sender has the receipt; by then it was stored and had arrived. A peer
# gives none: there it counts when it has arrived.
CONFIRMED: Final[Sequence[Figure[Sample]]] = (
    Figure("messages/s", lambda one: one.rate(one.counted.receipted), compared=True),
    Figure("per CPU-s", lambda one: one.per_cpu(one.counted.receipted), compared=True),
    Figure("per CPU-s of mongod", lambda one: one.per_store_cpu(one.counted.receipted)),
    *LATENCIES,
)


# -- one to many -----------------------------------------------------------------------------------


def fanout(plan: Plan) -> Outcome:
    """One group, one member who writes; the peers store nothing and hear of no arrival."""
    members, folder = plan.size(MEMBERS), plan.folder / "fanout"
    site = Site(folder, SQLITE)
    people = site.people(members, group=GROUP)
    with site.serving() as server, peers(folder, installed=not plan.quick) as others:
        contenders = [
            Contender("chatd", server.process.pid, port_of(server), crowd(people)),
            *(_peer(one, one.crowd(members)) for one in others),
        ]
        samples = rounds(contenders, plan, in_flight=IN_FLIGHT)
    return Outcome(
        f"Fan-out: {members} members, {IN_FLIGHT} messages of 200 bytes in flight, SQLite",
        comparison(("group", "server"), {str(members): samples}, DELIVERED, "chatd"),
        [
            _beside(
                "NATS",
                _rates(samples, lambda counted: counted.received),
                ours="chatd",
                line="fanout",
                what="deliveries per CPU-second, stored and confirmed",
            )
        ],
    )


# -- one to one ------------------------------------------------------------------------------------


def paired(plan: Plan) -> Outcome:
    """Pairs of whom one writes; MongoDB takes part where there is a mongod.

    The peers store nothing, and tell nobody what has arrived.
    """
    count = plan.size(PAIRS)
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(_on_sqlite(plan)),
            stack.enter_context(_on_memory(plan)),
        ]
        if not plan.quick:
            if find_mongod() is not None:
                contenders.append(stack.enter_context(_on_mongodb(plan)))
            others = stack.enter_context(xmpp_servers(plan.folder / "pairs"))
            contenders += [_peer(one, one.pairs(count)) for one in others]
        samples = rounds(contenders, plan, in_flight=IN_FLIGHT)
    return Outcome(
        f"One to one: {count} pairs, {IN_FLIGHT} messages of 200 bytes in flight each",
        comparison(("pairs", "server"), {str(count): samples}, CONFIRMED, ON_SQLITE),
        _goals_of_pairs(_rates(samples, lambda counted: counted.receipted)),
    )


@contextmanager
def _on_sqlite(plan: Plan) -> Iterator[Contender]:
    site = Site(plan.folder / "pairs-sqlite", SQLITE)
    people = site.people(2 * plan.size(PAIRS))
    with site.serving() as server:
        yield Contender(ON_SQLITE, server.process.pid, port_of(server), pairs(people))


@contextmanager
def _on_memory(plan: Plan) -> Iterator[Contender]:
    with Site(plan.folder / "pairs-memory", MEMORY).serving() as server:
        people: list[Person] = signed_up(server, 2 * plan.size(PAIRS))
        yield Contender(ON_MEMORY, server.process.pid, port_of(server), pairs(people))


@contextmanager
def _on_mongodb(plan: Plan) -> Iterator[Contender]:
    folder = plan.folder / "pairs-mongodb"
    with ExitStack() as stack:
        # Beside the load: what it takes must not be taken from the server's core.
        with on_core(LOAD_CORE):
            url = stack.enter_context(mongod(folder / "mongod"))
        client = stack.enter_context(client_of(url))
        site = Site(folder, in_database(url, DATABASE))
        people = site.people(2 * plan.size(PAIRS))
        server = stack.enter_context(site.serving())
        yield Contender(
            ON_MONGODB,
            server.process.pid,
            port_of(server),
            pairs(people),
            store_cpu=partial(cpu_of, client),
        )


def _goals_of_pairs(rates: Rates) -> list[Goal]:
    sqlite, mongodb = rates[ON_SQLITE], rates.get(ON_MONGODB)
    what = "messages per CPU-second, stored, delivered and confirmed, SQLite"
    return [
        Goal(
            line="pairs",
            what=what,
            wanted=f"≥ {PAIRED_GOAL:,}",
            got=short(sqlite),
            met=sqlite >= PAIRED_GOAL,
        ),
        _beside("ejabberd", rates, ours=ON_SQLITE, line="pairs", what=what),
        Goal(
            line="pairs",
            what="the same over MongoDB",
            wanted=f"≥ {short(sqlite / 2)}, half of SQLite's",
            got="no mongod here" if mongodb is None else short(mongodb),
            met=None if mongodb is None else mongodb >= sqlite / 2,
        ),
    ]


# -- peers -----------------------------------------------------------------------------------------


def _peer(peer: Peer | XmppServer, clients: Sequence[Client]) -> Contender:
    return Contender(f"{peer.name} {peer.version}", peer.pid, peer.port, clients, peer.dialect)


def _rates(samples: Samples, what: Callable[[Counted], int]) -> Rates:
    """The medians of what was counted per CPU-second of each contender."""
    return {
        name: median([one.per_cpu(what(one.counted)) for one in taken])
        for name, taken in samples.items()
    }


def _beside(peer: str, rates: Rates, *, ours: str, line: str, what: str) -> Goal:
    """At least as much as that peer does in the same runs."""
    theirs = next((name for name in rates if name.startswith(peer)), None)
    return Goal(
        line=line,
        what=what,
        wanted=f"≥ {theirs}'s {short(rates[theirs])}"
        if theirs
        else f"≥ {peer}'s (not measured here)",
        got=short(rates[ours]),
        met=rates[ours] >= rates[theirs] if theirs else None,
    )
