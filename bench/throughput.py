"""The lines of throughput: one to many, and one to one, per second of the server's processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from bench.measure import LATENCIES, Contender, Goal, Outcome, Plan, Sample, Samples, median, rounds
from bench.peers.running import peers
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

DELIVERED: Final[Sequence[Figure[Sample]]] = (
    Figure("deliveries/s", lambda one: one.rate(one.counted.received), compared=True),
    Figure("per CPU-s", lambda one: one.per_cpu(one.counted.received), compared=True),
    Figure("messages/s", lambda one: one.rate(one.counted.sent)),
    *LATENCIES,
)

# A message counts when its sender has the receipt; by then it was stored and had arrived.
CONFIRMED: Final[Sequence[Figure[Sample]]] = (
    Figure("messages/s", lambda one: one.rate(one.counted.receipted), compared=True),
    Figure("per CPU-s", lambda one: one.per_cpu(one.counted.receipted), compared=True),
    Figure("per CPU-s of mongod", lambda one: one.per_store_cpu(one.counted.receipted)),
    *LATENCIES,
)


# -- one to many -----------------------------------------------------------------------------------


def fanout(plan: Plan) -> Outcome:
    """One group, one member who writes; the peers store nothing and hear of no arrival."""
    site = Site(plan.folder / "fanout", SQLITE)
    people = site.people(MEMBERS, group=GROUP)
    with site.serving() as server, peers(plan.folder) as others:
        contenders = [Contender("chatd", server.process.pid, port_of(server), crowd(people))]
        for peer in others:
            members = [peer.sender, *[peer.member] * (MEMBERS - 1)]
            name = f"{peer.name} {peer.version}"
            contenders.append(Contender(name, peer.pid, peer.port, members, peer.dialect))
        samples = rounds(contenders, plan, in_flight=IN_FLIGHT)
    return Outcome(
        f"Fan-out: {MEMBERS} members, {IN_FLIGHT} messages of 200 bytes in flight, SQLite",
        comparison(("group", "server"), {str(MEMBERS): samples}, DELIVERED, "chatd"),
        [_beside_nats(samples)],
    )


def _beside_nats(samples: Samples) -> Goal:
    def rate(name: str) -> float:
        return median([one.per_cpu(one.counted.received) for one in samples[name]])

    nats = next((name for name in samples if name.startswith("NATS")), None)
    return Goal(
        line="fanout",
        what="deliveries per CPU-second, stored and confirmed",
        wanted=f"≥ {nats}'s {short(rate(nats))}" if nats else "≥ NATS's (not installed)",
        got=short(rate("chatd")),
        met=rate("chatd") >= rate(nats) if nats else None,
    )


# -- one to one ------------------------------------------------------------------------------------


def paired(plan: Plan) -> Outcome:
    """Pairs of whom one writes; MongoDB takes part where there is a mongod."""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(_on_sqlite(plan)),
            stack.enter_context(_on_memory(plan)),
        ]
        if find_mongod() is not None:
            contenders.append(stack.enter_context(_on_mongodb(plan)))
        samples = rounds(contenders, plan, in_flight=IN_FLIGHT)
    return Outcome(
        f"One to one: {PAIRS} pairs, {IN_FLIGHT} messages of 200 bytes in flight each",
        comparison(("pairs", "store"), {str(PAIRS): samples}, CONFIRMED, "sqlite"),
        _goals_of_pairs(samples),
    )


@contextmanager
def _on_sqlite(plan: Plan) -> Iterator[Contender]:
    site = Site(plan.folder / "pairs-sqlite", SQLITE)
    people = site.people(2 * PAIRS)
    with site.serving() as server:
        yield Contender("sqlite", server.process.pid, port_of(server), pairs(people))


@contextmanager
def _on_memory(plan: Plan) -> Iterator[Contender]:
    with Site(plan.folder / "pairs-memory", MEMORY).serving() as server:
        people: list[Person] = signed_up(server, 2 * PAIRS)
        yield Contender("memory", server.process.pid, port_of(server), pairs(people))


@contextmanager
def _on_mongodb(plan: Plan) -> Iterator[Contender]:
    folder = plan.folder / "pairs-mongodb"
    with ExitStack() as stack:
        # Beside the load: what it takes must not be taken from the server's core.
        with on_core(LOAD_CORE):
            url = stack.enter_context(mongod(folder / "mongod"))
        client = stack.enter_context(client_of(url))
        site = Site(folder, in_database(url, DATABASE))
        people = site.people(2 * PAIRS)
        server = stack.enter_context(site.serving())
        yield Contender(
            "mongodb",
            server.process.pid,
            port_of(server),
            pairs(people),
            store_cpu=partial(cpu_of, client),
        )


def _goals_of_pairs(samples: Samples) -> list[Goal]:
    rates = {
        store: median([one.per_cpu(one.counted.receipted) for one in taken])
        for store, taken in samples.items()
    }
    sqlite, mongodb = rates["sqlite"], rates.get("mongodb")
    return [
        Goal(
            line="pairs",
            what="messages per CPU-second, stored, delivered and confirmed, SQLite",
            wanted=f"≥ {PAIRED_GOAL:,}",
            got=short(sqlite),
            met=sqlite >= PAIRED_GOAL,
        ),
        Goal(
            line="pairs",
            what="the same over MongoDB",
            wanted=f"≥ {short(sqlite / 2)}, half of SQLite's",
            got="no mongod here" if mongodb is None else short(mongodb),
            met=None if mongodb is None else mongodb >= sqlite / 2,
        ),
    ]
