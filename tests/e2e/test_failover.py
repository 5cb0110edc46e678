"""Three mongods as one replica set: the primary steps down and is killed, and chat goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.chat import Chat, Socket, User
from tests.e2e.conftest import MakeServer
from tests.e2e.senders import Sender, received
from tests.mongod import Mongod, ReplicaSet

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(240)]

SENDERS = 4
SECONDS = 2.5
"""How long traffic runs before, between and after the faults."""


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    members = ReplicaSet(tmp_path / "mongo", 3, "--setParameter=enableTestCommands=1")
    members.start()
    yield members
    members.close()


@pytest.mark.parametrize("options", ["", "&timeoutMS=500"], ids=["patient", "impatient"])
async def test_a_lost_primary_loses_and_doubles_nothing(
    io_loop: Any,
    replica_set: ReplicaSet,
    make_server: MakeServer,
    capsys: pytest.CaptureFixture[str],
    options: str,
) -> None:
    """Seen to fail with writes of w=1: messages that only the killed primary had were lost."""
    server = make_server(
        storage=replica_set.url("chat") + options,
        environment={"CHATD_LIMITS__SEND_PER_SECOND": "0"},
        measured=False,
    )
    chat = Chat(server.start())
    senders = [Sender(await chat.user(f"s{n}@example.org"), "club") for n in range(SENDERS)]
    bob = await chat.user("bob@example.org")
    await bob.create("club")
    for sender in senders:
        await sender.user.join("club")
    async with bob.socket() as socket:
        async with asyncio.TaskGroup() as tasks:
            for sender in senders:
                tasks.create_task(sender.run())
            await _lose_primaries(replica_set)
            for sender in senders:
                sender.stop()
        await _settled(socket, bob)
        texts = await received(socket, bob, "club")
    chat.close()
    # The group's count follows behind the messages; a server that ends has brought it along.
    assert server.terminate() == 0
    _check(replica_set, senders, texts, capsys)


async def _lose_primaries(replica_set: ReplicaSet) -> None:
    await asyncio.sleep(SECONDS)
    await asyncio.to_thread(replica_set.step_down)
    await asyncio.sleep(SECONDS)
    primary = await asyncio.to_thread(replica_set.primary)
    await _kill_with_news_of_its_own(primary, replica_set)
    await asyncio.to_thread(replica_set.primary)
    await asyncio.sleep(SECONDS)
    await asyncio.to_thread(primary.start)
    await asyncio.sleep(SECONDS)


async def _kill_with_news_of_its_own(primary: Mongod, replica_set: ReplicaSet) -> None:
    """Whatever it writes in its last half second, no other member gets."""
    others = [member for member in replica_set.members if member is not primary]
    for member in others:
        member.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
    await asyncio.sleep(0.5)
    primary.kill()
    for member in others:
        member.command("configureFailPoint", "stopReplProducer", mode="off")


async def _settled(socket: Socket, user: User) -> None:
    """Bob has been sent the last message there is."""
    last = (await user.call("GET", "/v1/groups/club/messages?limit=1")).body["items"][-1]
    async with asyncio.timeout(20):
        while not any(frame["seq"] == last["seq"] for frame in socket.of("message")):
            await asyncio.sleep(0.05)


def _check(
    replica_set: ReplicaSet,
    senders: list[Sender],
    texts: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with MongoClient[dict[str, Any]](replica_set.url("chat")) as client:
        stored = list(client.chat.messages.find().sort("seq"))
        (group,) = client.chat.groups.find()
    acked = {name: answer for sender in senders for name, answer in sender.acked.items()}
    refused = [code for sender in senders for code in sender.refused]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(acked):,} acked, {len(stored):,} stored, {len(texts):,} received;"
            f" refused {len(refused)} times\n"
        )
    assert set(refused) <= {"unavailable"}
    assert {one["client_id"]: one["_id"] for one in stored} == {
        name: answer["id"] for name, answer in acked.items()
    }
    assert [one["seq"] for one in stored] == list(range(1, len(stored) + 1))
    assert all(acked[one["client_id"]]["seq"] == one["seq"] for one in stored)
    assert texts == [one["text"] for one in stored]
    assert group["messages"] == len(stored)
    assert len(acked) > 100
