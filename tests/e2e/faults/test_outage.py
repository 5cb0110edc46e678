"""A database that stops, dies or hangs: refused meanwhile, and over when it is over (G9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.chat import PASSWORD
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.outage import refusals, refused, spoken, taken, tracebacks_are_few
from tests.e2e.faults.traffic import Traffic, answers, start_traffic
from tests.mongod import Mongod, ReplicaSet

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(180)]


class Outage(NamedTuple):
    """How the database goes, and how it comes back."""

    begin: Callable[[Mongod], object]
    end: Callable[[Mongod], object]


STOPPED = Outage(Mongod.terminate, Mongod.start)
KILLED = Outage(Mongod.kill, Mongod.start)
FROZEN = Outage(Mongod.freeze, Mongod.thaw)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[ReplicaSet]:
    members = ReplicaSet(tmp_path / "mongo", 1)
    members.start()
    yield members
    members.close()


async def test_an_outage_is_refused_and_over_when_it_is_over(
    io_loop: Any,
    members: ReplicaSet,
    make_server: MakeServer,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with messages that are written without waiting for an answer (w=0)."""
    outages = scale([chance.choice([STOPPED, KILLED]), FROZEN], 7 * [STOPPED, KILLED, FROZEN])
    (member,) = members.members
    server = make_server(storage=members.url("chat") + "&timeoutMS=1000", unlimited=True)
    seconds = []
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        chat = traffic.senders[0].user.chat
        for outage in outages:
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(outage.begin, member)
            with tracebacks_are_few(server):
                await refused(traffic)
                await answers(chat, 503)
                await everything_is_unavailable(traffic)
            await asyncio.to_thread(outage.end, member)
            seconds.append(await taken(traffic))
            await answers(chat, 200)
        assert [device.connection for device in traffic.devices] == [1] * len(traffic.devices)
        await traffic.end()
        report(f"{len(seconds)} outages, {spoken(seconds)}: {traffic.check()}")
    assert refusals(traffic) == {"unavailable"}


async def everything_is_unavailable(traffic: Traffic) -> None:
    """There is nothing that could be read meanwhile, and that is said."""
    ann, chat = traffic.senders[0].user, traffic.senders[0].user.chat
    given = await asyncio.gather(
        ann.call("GET", "/v1/groups/club/messages"),
        ann.call("POST", "/v1/groups/club/messages", {"text": "now?"}),
        chat.call("POST", "/v1/auth/sign-in", {"email": "new@example.org", "password": PASSWORD}),
    )
    for answer in given:
        assert answer.status == 503, answer
        assert answer.body["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await chat.call("GET", "/healthz")).status == 200
