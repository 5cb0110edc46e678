"""Three mongods as one replica set: the primary steps down and is killed, and chat goes on (G9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pymongo import MongoClient

from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.outage import refusals, spoken, taken
from tests.e2e.faults.traffic import Traffic, start_traffic
from tests.mongod import Mongod, ReplicaSet

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(180)]

SECONDS = 0.5
"""How long a primary goes on that nobody follows any more."""


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    members = ReplicaSet(tmp_path / "mongo", 3, "--setParameter=enableTestCommands=1")
    members.start()
    yield members
    members.close()


@pytest.mark.full("impatient")
@pytest.mark.parametrize("options", ["", "&timeoutMS=1000"], ids=["patient", "impatient"])
async def test_a_lost_primary_loses_and_doubles_nothing(
    io_loop: Any,
    replica_set: ReplicaSet,
    make_server: MakeServer,
    chance: Random,
    scale: Scale,
    report: Report,
    options: str,
) -> None:
    """Seen to fail with writes of w=1: messages that only the killed primary had were lost."""
    rounds = scale(1, 20)
    server = make_server(storage=replica_set.url("chat") + options, unlimited=True)
    seconds = []
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for _ in range(rounds):
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(replica_set.step_down)
            seconds.append(await taken_by_another(replica_set, traffic))
            await asyncio.sleep(chance.uniform(0, 0.5))
            seconds.append(await lose_the_primary(replica_set, traffic))
        assert [device.connection for device in traffic.devices] == [1] * len(traffic.devices)
        await traffic.end()
        counts = traffic.check()
    report(f"{len(seconds)} primaries lost; with a new one {spoken(seconds)}: {counts}")
    assert refusals(traffic) <= {"unavailable"}
    # The group's count follows behind the messages; a server that ends has brought it along.
    with MongoClient[dict[str, Any]](replica_set.url("chat")) as client:
        assert [group["messages"] for group in client.chat.groups.find()] == [counts.stored]


async def lose_the_primary(replica_set: ReplicaSet, traffic: Traffic) -> float:
    """Kill it with news of its own; see `taken_by_another`."""
    primary = await asyncio.to_thread(replica_set.primary)
    await asyncio.to_thread(kill_with_news_of_its_own, primary, replica_set)
    seconds = await taken_by_another(replica_set, traffic)
    await asyncio.to_thread(primary.start)
    await asyncio.to_thread(replica_set.complete)
    return seconds


async def taken_by_another(replica_set: ReplicaSet, traffic: Traffic) -> float:
    """How long after an election messages were taken, in seconds; what that takes is not asked."""
    await asyncio.to_thread(replica_set.primary)
    return await taken(traffic)


def kill_with_news_of_its_own(primary: Mongod, replica_set: ReplicaSet) -> None:
    """Whatever it writes in its last moment, no other member gets."""
    others = [member for member in replica_set.members if member is not primary]
    for member in others:
        member.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
    time.sleep(SECONDS)
    primary.kill()
    for member in others:
        member.command("configureFailPoint", "stopReplProducer", mode="off")
