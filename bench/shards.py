"""How many shards there should be: what they cost a server, and what it hears that nobody wants.

Two servers talk; a third one has users who are not concerned, and hears all the same what falls
into a shard of theirs.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Final, NamedTuple, Self

import msgspec
import uuid_utils

from bench.load import Load, Unmeasurable
from bench.measure import Plan, wait_until_idle
from bench.processes import SERVER_CORE, end, resident_bytes, start
from bench.report import Figure, comparison, short, table
from bench.server import Person, Site, pairs
from bench.shard_costs import Costs
from bench.stores import in_database
from bench.team import POLL_SECONDS, Ground, Spent, Taken, Team, metric, take, team
from chatd.models import (
    Draft,
    Group,
    Mark,
    ReceiptKind,
    now_ms,
    pair_conversation,
    pair_of,
)
from chatd.storage.base import Storage
from tests.e2e.server import Server

NUMBERS: Final = (1, 16, 64, 256, 1024, 4096)
USERS: Final = (10, 100, 1000)
GROUPS_EACH: Final = 3
MEMBERS: Final = 10
PAIRS_EACH: Final = 4
PAIRS: Final = 200
RATE: Final = 250
"""Messages per second between the two that talk."""
IDLE_SECONDS: Final = 4.0
"""Two pulses of each server."""
HEAL_SECONDS: Final = 60.0

ALONE: Final = "no NATS"


# -- users -----------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A site with users who are not concerned, and with some who talk."""

    site: Site
    idle: Sequence[Person]
    talking: Sequence[Person]


def place(plan: Plan, on: Ground) -> Place:
    """Each of those who are idle is in some groups, and has written to some."""
    site = Site(plan.folder / "shards", in_database(on.mongo_url, "bench_shards"))
    count, talking = plan.size(USERS[-1]), 2 * plan.size(PAIRS)
    people = site.people(count + talking)
    idle = people[:count]
    emails = [one.email for one in idle]

    async def store(storage: Storage) -> None:
        await _make_groups(storage, emails)
        await _write(storage, emails)

    site.store(store)
    return Place(site, idle, people[count:])


async def _make_groups(storage: Storage, emails: Sequence[str]) -> None:
    chance, number = random.Random(1), max(GROUPS_EACH, len(emails) * GROUPS_EACH // MEMBERS)
    names = [f"group-{nth}" for nth in range(number)]
    members = {email: chance.sample(names, GROUPS_EACH) for email in emails}
    for name in names:
        await storage.create_group(Group(name, None, emails[0], now_ms()))
        if name not in members[emails[0]]:
            await storage.leave(name, emails[0])
    for email, its in members.items():
        await asyncio.gather(*(storage.join(name, email, now_ms()) for name in its))


async def _write(storage: Storage, emails: Sequence[str]) -> None:
    """One message each to the next few, which has been delivered."""
    drafts = [
        Draft(
            id=str(uuid_utils.uuid7()),
            conversation=pair_conversation(one, emails[(nth + step) % len(emails)]),
            sender=one,
            text="x" * 200,
            sent_at=now_ms(),
        )
        for nth, one in enumerate(emails)
        for step in range(1, PAIRS_EACH // 2 + 1)
    ]
    await storage.append(drafts)
    await storage.advance(
        [
            Mark(one.conversation, user, ReceiptKind.DELIVERED, 1, now_ms())
            for one in drafts
            for user in set(pair_of(one.conversation) or ())
        ]
    )


# -- what the others' news costs -------------------------------------------------------------------


class Bystander(NamedTuple):
    """A server with so many users whom nobody writes to; and what the two that talk took.

    ``memory``: bytes that the users brought, ``elsewhere`` those that another server needs to know
    of them; ``connecting``: CPU seconds for each who came last. ``idle``: CPU seconds a second,
    with nobody there. ``heard``: how often it heard of each message of the others.
    """

    users: int
    memory: int
    connecting: float
    elsewhere: int
    idle: float
    subscriptions: int
    heard: float
    taken: Taken | None

    def a_user(self, value: float) -> float:
        return value / self.users

    def a_message(self, server: int) -> float | None:
        """CPU microseconds that a message of the others took there, beside what it takes idle."""
        if self.taken is None or not self.taken.counted.sent:
            return None
        spent = self.taken.spent.servers[server] - self.idle * self.taken.counted.seconds
        return 1_000_000 * max(0.0, spent) / self.taken.counted.sent


FIGURES: Final[Sequence[Figure[Bystander]]] = (
    Figure("subscriptions", lambda one: None if one.taken is None else one.subscriptions),
    Figure("idle CPU ms/s", lambda one: 1000 * one.idle),
    Figure("KiB a user", lambda one: one.a_user(one.memory) / 1024),
    Figure("CPU ms to connect one", lambda one: 1000 * one.connecting),
    Figure("KiB a user elsewhere", lambda one: one.taken and one.a_user(one.elsewhere) / 1024),
    Figure("heard of a message of others", lambda one: one.taken and one.heard),
    Figure("CPU µs for that", lambda one: one.a_message(-1)),
    Figure("sender's CPU µs", lambda one: one.a_message(0)),
    Figure("recipient's CPU µs", lambda one: one.a_message(1)),
)


def shards(plan: Plan, on: Ground) -> Iterator[str]:
    """Tables: each number of shards beside the others, what it costs by itself, and healing."""
    where = place(plan, on)
    seen: dict[str, dict[str, list[Bystander]]] = {}
    if not plan.quick:
        with team(where.site, on, 1, alone=True) as servers:
            _gather(seen, ALONE, _stand_by(plan, servers, where))
    numbers, healing = plan.steps(NUMBERS), ""
    for number in numbers:
        with team(where.site, on, 3, shards=number) as servers:
            _gather(seen, str(number), _stand_by(plan, servers, where))
            if number == numbers[-1]:
                # It costs the same with any number.
                healing = _healing(plan, servers, where)
    yield comparison(("users", "shards"), seen, FIGURES, "")
    yield _by_themselves(plan, on)
    yield healing


def _gather(
    seen: dict[str, dict[str, list[Bystander]]], name: str, found: Iterator[Bystander]
) -> None:
    for one in found:
        seen.setdefault(f"{one.users:,}", {}).setdefault(name, []).append(one)


def _stand_by(plan: Plan, servers: Team, where: Place) -> Iterator[Bystander]:
    """More and more users come to the last server, and each time the first two talk."""
    idle = _idle(plan, servers)
    start = _Standing.of(servers)
    with ExitStack() as stack:
        for before, count in pairwise((0, *plan.sizes(USERS))):
            then = _Standing.of(servers)
            come = [one.client() for one in where.idle[before:count]]
            stack.enter_context(Load(servers.ports[-1], come)).ready()
            plan.settle()
            now, heard, taken = _Standing.of(servers), 0.0, None
            if len(servers.servers) > 1:
                heard, taken = _talk(plan, servers, where)
            yield Bystander(
                users=count,
                memory=now.memory[-1] - start.memory[-1],
                connecting=now.spent.since(then.spent).servers[-1] / (count - before),
                elsewhere=now.memory[0] - start.memory[0],
                idle=idle,
                subscriptions=servers.ground.nats.subscriptions(servers.pids[-1]),
                heard=heard,
                taken=taken,
            )


class _Standing(NamedTuple):
    """How servers stand at a moment; memory in bytes."""

    spent: Spent
    memory: Sequence[int]

    @classmethod
    def of(cls, servers: Team) -> Self:
        return cls(servers.spent(), [resident_bytes(pid) for pid in servers.pids])


def _idle(plan: Plan, servers: Team) -> float:
    """CPU seconds a second of the last server, that has no client yet."""
    before, began = servers.spent(), time.perf_counter()
    time.sleep(plan.warm_up if plan.quick else IDLE_SECONDS)
    spent = servers.spent().since(before)
    return spent.servers[-1] / (time.perf_counter() - began)


def _talk(plan: Plan, servers: Team, where: Place) -> tuple[float, Taken]:
    """How often the last server heard of each message, all in all; and a run."""
    clients = [
        client._replace(port=servers.ports[nth % 2])
        for nth, client in enumerate(pairs(where.talking))
    ]
    last = servers.servers[-1]
    before = _heard(last)
    taken = take(servers, clients, plan, RATE)
    return (_heard(last) - before) / max(1, taken.counted.acked), taken


def _heard(server: Server) -> float:
    return metric(server, "chatd_cluster_news_total", way="heard", kind="StoredNews")


# -- what a number costs by itself -----------------------------------------------------------------


def _by_themselves(plan: Plan, on: Ground) -> str:
    rows = [
        [
            f"{number:,}",
            short(one.subscription_bytes / 1024),
            short(1_000_000 * one.subscription_cpu),
            f"{one.pulse_bytes:,}",
            short(1_000_000 * one.pulse_sent_cpu),
            short(1_000_000 * one.pulse_heard_cpu),
        ]
        for number in plan.steps(NUMBERS)
        for one in [_costs(number, on)]
    ]
    headings = ["shards", "KiB a subscription", "its CPU µs"]
    headings += ["bytes a pulse", "CPU µs to send it", "CPU µs to hear it"]
    return table(headings, rows, text_columns=0)


def _costs(number: int, on: Ground) -> Costs:
    command = [sys.executable, "-m", "bench.shard_costs", str(number), on.nats.server.url]
    process = start(command, SERVER_CORE)
    try:
        assert process.stdout is not None
        return msgspec.json.decode(process.stdout.readline(), type=Costs)
    finally:
        end(process)


# -- healing ---------------------------------------------------------------------------------------


def _healing(plan: Plan, servers: Team, where: Place) -> str:
    """NATS is gone for a moment, with all that may have been told meanwhile."""
    last = servers.servers[-1]
    with Load(servers.ports[-1], [one.client() for one in where.idle]) as load:
        load.ready()
        plan.settle()
        wait_until_idle(servers.pids)
        before, (asked, called), began = servers.spent(), _calls(last), time.monotonic()
        _break_off(servers.ground, last)
        seconds = time.monotonic() - began
        wait_until_idle(servers.pids)
        spent, (now_asked, now_called) = servers.spent().since(before), _calls(last)
    users = max(1, now_asked - asked)
    row = [
        f"{len(where.idle):,}",
        short(seconds),
        short((now_called - called) / users),
        short(1000 * spent.servers[-1] / users),
        short(1000 * spent.mongod / users),
    ]
    headings = ["users online", "s until healed", "calls of the store a user"]
    headings += ["server's CPU ms a user", "mongod's"]
    return table(headings, [row], text_columns=0)


def _break_off(on: Ground, server: Server) -> None:
    """Take NATS away for a moment, and return once the server has looked through all it has."""
    name, ends_at = "chatd_cluster_healed_shards_total", time.monotonic() + HEAL_SECONDS
    before = metric(server, name)
    on.nats.restart()
    while metric(server, name) == before:
        if time.monotonic() > ends_at:
            raise Unmeasurable("the server does not heal")
        time.sleep(POLL_SECONDS)


def _calls(server: Server) -> tuple[float, float]:
    """Of the store so far: `positions`, one for each user that is healed; and all."""
    name = "chatd_storage_seconds_count"
    return metric(server, name, operation="positions"), metric(server, name)
