"""The lines of many connections: how soon a message is there, what one costs, who comes back."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Final, NamedTuple

import uuid_utils

from bench.load import Client, Counted, Load, Ready, Unmeasurable
from bench.measure import (
    LATENCIES,
    Contender,
    Goal,
    Outcome,
    Plan,
    Sample,
    at_most,
    connectable,
    rounds,
)
from bench.peers.running import python_peers
from bench.processes import resident_bytes
from bench.report import Figure, comparison, short
from bench.server import SQLITE, Person, Site, pairs, port_of
from chatd.models import Draft, now_ms, pair_conversation
from chatd.storage.base import Storage

CONNECTIONS: Final = 1000
RATE: Final = 500
SECONDS: Final = 10.0
P99_MS: Final = 10.0

IDLE: Final = (2_000, 10_000)
IDLE_KIB: Final = 16.0

COMING_BACK: Final = 1000
UNDELIVERED: Final = 20
STORM_SECONDS: Final = 5.0
LIVE_PAIRS: Final = 50
LIVE_RATE: Final = 100
LIVE_P99_MS: Final = 50.0
_BATCH: Final = 1000


# -- how soon --------------------------------------------------------------------------------------


def latency(plan: Plan) -> Outcome:
    """From when a message was due to be written until it has arrived, on one clock."""
    plan = plan.at_least(SECONDS)
    connections = plan.size(CONNECTIONS)
    site = Site(plan.folder / "latency", SQLITE)
    people = site.people(connections)
    with site.serving() as server:
        contender = Contender("chatd", server.process.pid, port_of(server), pairs(people))
        samples = rounds([contender], plan, rate=RATE)
    if late := sum(one.counted.written - one.counted.timed for one in samples["chatd"]):
        raise Unmeasurable(f"{late} messages did not arrive within 5 s")
    figures: Sequence[Figure[Sample]] = (
        *LATENCIES,
        Figure("CPU ms a message", lambda one: 1000 * one.cpu / one.counted.sent),
    )
    p99 = statistics.median(one.counted.p99_ms for one in samples["chatd"])
    return Outcome(
        f"Latency: {connections:,} connections, {RATE} messages/s one to one, SQLite, "
        f"runs of {plan.seconds:g} s",
        comparison(("messages/s", "server"), {str(RATE): samples}, figures, "chatd"),
        [at_most("latency", "written → delivered, p99", p99, P99_MS, "ms")],
    )


# -- what one costs --------------------------------------------------------------------------------


class Held(NamedTuple):
    """KiB of resident memory a connection, and seconds until all were connected."""

    kib: float
    seconds: float


def idle(plan: Plan) -> Outcome:
    """Memory of the server per connection, those of the first thousands and of all.

    Each run has servers that are new: memory that was once used is not measured again.
    """
    counts = connectable(plan.sizes(IDLE))
    held: dict[str, dict[str, list[Held]]] = {f"{count:,}": {} for count in counts}
    runs = max(1, plan.runs // 2)
    for run in range(runs):
        with _idle_servers(plan, run, counts[-1]) as contenders:
            for contender in contenders:
                for count, one in zip(counts, _hold(contender, plan, counts), strict=True):
                    held[f"{count:,}"].setdefault(contender.name, []).append(one)
    figures: Sequence[Figure[Held]] = (
        Figure("KiB a connection", lambda one: one.kib, compared=True),
        Figure("s to connect all", lambda one: one.seconds),
    )
    most = f"{counts[-1]:,}"
    kib = statistics.median(one.kib for one in held[most]["chatd"])
    return Outcome(
        f"Idle connections, each of a user of its own, SQLite: {runs} runs, each of new servers",
        comparison(("connections", "server"), held, figures, "chatd"),
        [
            Goal(
                line="idle",
                what=f"resident memory a connection, {most} in one process",
                wanted=f"≤ {IDLE_KIB:g} KiB",
                got=f"{short(kib)} KiB",
                met=kib <= IDLE_KIB if counts == IDLE else None,
            )
        ],
    )


@contextmanager
def _idle_servers(plan: Plan, run: int, count: int) -> Iterator[list[Contender]]:
    site = Site(plan.folder / f"idle-{run}", SQLITE)
    clients = [one.client() for one in site.people(count)]
    with ExitStack() as stack:
        server = stack.enter_context(site.serving())
        others = stack.enter_context(python_peers(plan.folder))
        yield [
            Contender("chatd", server.process.pid, port_of(server), clients),
            *(
                Contender(f"{one.name} {one.version}", one.pid, one.port, [one.member] * count)
                for one in others
            ),
        ]


def _hold(contender: Contender, plan: Plan, counts: Sequence[int]) -> Iterator[Held]:
    """Connect so many in all, and look; then go on to the next count."""
    before = resident_bytes(contender.pid)
    with ExitStack() as stack:
        seconds = 0.0
        for start, count in pairwise((0, *counts)):
            some = contender.clients[start:count]
            load = stack.enter_context(Load(contender.port, some))
            seconds += load.ready().seconds
            # Presence is gathered for a second, and what was needed to connect is let go of.
            plan.settle()
            yield Held((resident_bytes(contender.pid) - before) / count / 1024, seconds)


# -- who comes back --------------------------------------------------------------------------------


class Storm(NamedTuple):
    """All clients are back, while others went on talking."""

    ready: Ready
    live: Counted


def reconnect(plan: Plan) -> Outcome:
    """Everybody comes at once to a server that has just started, and has missed something."""
    site = Site(plan.folder / "reconnect", SQLITE)
    coming_back = plan.size(COMING_BACK)
    writer, *people = site.people(1 + coming_back + 2 * plan.size(LIVE_PAIRS))
    away, live = people[:coming_back], people[coming_back:]
    runs = range(plan.cold_runs + plan.runs)
    storms = [_storm(site, plan, writer, away, live) for _ in runs][plan.cold_runs :]
    figures: Sequence[Figure[Storm]] = (
        Figure("s until all are ready", lambda one: one.ready.seconds),
        Figure("replayed", lambda one: one.ready.received),
        Figure("live p50 ms", lambda one: one.live.p50_ms),
        Figure("live p99 ms", lambda one: one.live.p99_ms),
        Figure("live max ms", lambda one: one.live.max_ms),
    )
    case = f"{coming_back:,} × {UNDELIVERED}"
    seconds = statistics.median(one.ready.seconds for one in storms)
    p99 = statistics.median(one.live.p99_ms for one in storms)
    return Outcome(
        f"Reconnecting: {coming_back:,} clients at once, {UNDELIVERED} undelivered messages each, "
        f"SQLite, beside {LIVE_RATE} live messages/s",
        comparison(("clients", "server"), {case: {"chatd": storms}}, figures, "chatd"),
        [
            at_most("reconnect", "all replayed", seconds, STORM_SECONDS, "s"),
            at_most("reconnect", "live traffic's p99 meanwhile", p99, LIVE_P99_MS, "ms"),
        ],
    )


def _storm(
    site: Site, plan: Plan, writer: Person, away: Sequence[Person], live: Sequence[Person]
) -> Storm:
    drafts = [_draft(writer, one) for one in away for _ in range(UNDELIVERED)]

    async def write(storage: Storage) -> None:
        for start in range(0, len(drafts), _BATCH):
            await storage.append(drafts[start : start + _BATCH])

    site.store(write)
    clients: list[Client] = [one.client() for one in away]
    with site.serving() as server:
        port = port_of(server)
        with Load(port, pairs(live), rate=LIVE_RATE, warm_up=plan.warm_up) as talking:
            talking.ready()
            talking.begun()
            with Load(port, clients, at_once=len(clients)) as storm:
                ready = storm.ready()
                talking.stop()
                talking.stopped()
                storm_of = Storm(ready, talking.counted())
                # Their receipts, or the next run would have more to replay.
                plan.settle()
    if ready.received < len(drafts):
        raise Unmeasurable(f"{ready.received:,} of {len(drafts):,} messages were replayed")
    return storm_of


def _draft(writer: Person, reader: Person) -> Draft:
    return Draft(
        id=str(uuid_utils.uuid7()),
        conversation=pair_conversation(writer.email, reader.email),
        sender=writer.email,
        text="x" * 200,
        sent_at=now_ms(),
    )
