"""chatd on MongoDB as processes: a database that is late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.chat import Chat
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.traffic import answers
from tests.e2e.server import Server
from tests.mongod import Mongod, free_port

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(120)]


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """One server of the test's own, to be stopped and started; not started yet."""
    server = Mongod(tmp_path / "mongo", port=free_port())
    yield server
    server.close()


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
