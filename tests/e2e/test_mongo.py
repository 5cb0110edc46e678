"""chatd on MongoDB as processes: several servers, a database that is late, and one that goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.chat import Chat, User
from tests.e2e.conftest import MakeServer
from tests.e2e.senders import Sender, received
from tests.e2e.server import Server
from tests.mongod import Mongod, ReplicaSet, free_port

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(120)]

MESSAGES = 150
"""How many each sender sends."""


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """One server of the test's own, to be stopped and started; not started yet."""
    server = Mongod(tmp_path / "mongo", port=free_port())
    yield server
    server.close()


async def answers(chat: Chat, status: int) -> None:
    """Return once `/readyz` answers so; a good answer is good for a second."""
    async with asyncio.timeout(30):
        while (await chat.call("GET", "/readyz")).status != status:
            await asyncio.sleep(0.05)


# -- several servers -------------------------------------------------------------------------------


async def test_two_servers_and_eight_senders_make_one_order(
    io_loop: Any, mongo_url: str, tmp_path: Path, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    """Seen to fail where the inserts are not ordered: a sender's messages change places."""
    unlimited = {"CHATD_LIMITS__SEND_PER_SECOND": "0"}
    servers = [
        Server(tmp_path / name, storage=mongo_url, environment=unlimited) for name in ("a", "b")
    ]
    chats = [Chat(server.start()) for server in servers]
    senders = [await chats[n % 2].user(f"s{n}@example.org") for n in range(8)]
    await senders[0].create("club")
    for sender in senders[1:]:
        await sender.join("club")
    acks = await asyncio.gather(*(send_in_bursts(sender) for sender in senders))
    for chat, server in zip(chats, servers, strict=True):
        chat.close()
        server.close()
    for of_one in acks:
        assert of_one == sorted(of_one), "a sender's messages changed places"
    seqs = sorted(seq for of_one in acks for seq in of_one)
    assert seqs == list(range(1, 8 * MESSAGES + 1))
    database = mongo_client.get_default_database(mongo_url.rpartition("/")[2].partition("?")[0])
    stored = database.messages.find({}, {"seq": True}).sort("seq")
    assert [one["seq"] for one in stored] == seqs


async def send_in_bursts(user: User) -> list[int]:
    """The seqs that a sender's messages got, in the order of sending."""
    async with user.socket() as socket:
        for number in range(MESSAGES):
            await socket.send(type="send", group="club", text=str(number), client_id=str(number))
            if number % 10 == 9:
                await socket.settle()
        while len(socket.of("sent")) < MESSAGES:
            assert not socket.of("error")
            await asyncio.sleep(0.01)
        acked = {frame["client_id"]: frame["seq"] for frame in socket.of("sent")}
    return [acked[str(number)] for number in range(MESSAGES)]


# -- a database that is late, or goes --------------------------------------------------------------


def logged(server: Server, event: str) -> list[dict[str, Any]]:
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [one for one in map(json.loads, lines) if one["event"] == event]


async def test_a_server_waits_for_its_database_and_says_for_which(
    io_loop: Any, mongod: Mongod, make_server: MakeServer
) -> None:
    server = make_server(storage=f"mongodb://{mongod.host}/chat?timeoutMS=500")
    chat = Chat(server.start())
    for method, path in (("GET", "/readyz"), ("POST", "/v1/auth/sign-in"), ("GET", "/v1/groups")):
        body = (
            {"email": "ann@example.org", "password": "correct horse"} if method == "POST" else None
        )
        answer = await chat.call(method, path, body, token="no token is good yet")
        assert answer.status == 503, answer
        assert answer.body["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await chat.call("GET", "/healthz")).status == 200
    warning = logged(server, "storage.unavailable")[0]
    assert f"MongoDB at {mongod.host} can't be reached: " in warning["detail"]
    assert "Connection refused" in warning["detail"]

    mongod.start()
    await answers(chat, 200)
    ann = await chat.user("ann@example.org")
    await ann.create("club")
    assert (await ann.say("at last", group="club"))["seq"] == 1
    waits = [one["retry_seconds"] for one in logged(server, "storage.unavailable")]
    assert waits == sorted(waits)
    assert len(logged(server, "server.started")) == 1
    chat.close()


async def test_a_server_that_waits_for_its_database_can_be_stopped(
    io_loop: Any, mongod: Mongod, make_server: MakeServer
) -> None:
    server = make_server(storage=f"mongodb://{mongod.host}/chat?timeoutMS=500")
    server.start()
    assert server.terminate() == 0


async def test_a_database_that_refuses_when_it_is_there_at_last_ends_the_server(
    io_loop: Any, mongod: Mongod, make_server: MakeServer
) -> None:
    mongod.start()
    with MongoClient[dict[str, Any]](mongod.host) as client:
        client.chat.messages.insert_one({"of": "another program"})
    mongod.terminate()
    server = make_server(storage=f"mongodb://{mongod.host}/chat?timeoutMS=500")
    server.start()
    mongod.start()
    assert await asyncio.to_thread(server.process.wait, 30) == 1
    last = server.log.read_text().splitlines()[-1]
    assert last.startswith("chatd: the database chat holds messages of another program")


async def test_an_outage_is_refused_and_over_when_it_is_over(
    io_loop: Any, tmp_path: Path, make_server: MakeServer
) -> None:
    members = ReplicaSet(tmp_path / "mongo", 1)
    members.start()
    (member,) = members.members
    server = make_server(storage=members.url("chat") + "&timeoutMS=1000")
    chat = Chat(server.start())
    sender = Sender(await chat.user("ann@example.org"), "club")
    bob = await chat.user("bob@example.org")
    await bob.create("club")
    await sender.user.join("club")
    async with bob.socket() as socket, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(sender.run())
        await more(sender, 50)
        for stop, go_on in ((member.kill, member.start), (member.freeze, member.thaw)):
            stop()
            await until(lambda: bool(sender.refused))
            await answers(chat, 503)
            assert (await bob.call("GET", "/v1/groups/club")).status == 503
            go_on()
            await more(sender, 50)
            await answers(chat, 200)
            assert set(sender.refused) == {"unavailable"}
            sender.refused.clear()
        sender.stop()
        await sending
        last = max(answer["seq"] for answer in sender.acked.values())
        await until(lambda: any(frame["seq"] == last for frame in socket.of("message")))
        texts = await received(socket, bob, "club")
    assert len(texts) == len(set(texts)) == len(sender.acked)
    chat.close()
    server.close()
    members.close()


async def until(condition: Callable[[], bool]) -> None:
    """A database may take its time to come back."""
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.01)


async def more(sender: Sender, messages: int) -> None:
    """Return once the sender got so many more acked."""
    acked = len(sender.acked) + messages
    await until(lambda: len(sender.acked) >= acked)
