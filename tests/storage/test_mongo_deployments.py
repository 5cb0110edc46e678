"""Every deployment of MongoDB is a store: one server, replica sets, what they say of themselves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.storage.mongo import MongoStorage
from chatd.storage.mongo.address import Address
from chatd.storage.mongo.connection import Deployment
from chatd.storage.refused import StorageRefused
from tests.mongod import SET_NAME, Mongod, ReplicaSet, free_port
from tests.storage.openings import PASSWORD, opened, outage, refusal, talk

pytestmark = pytest.mark.mongod

ADDRESS = Address("db.example.org", "chat")


def new_database() -> str:
    return f"chat_{uuid.uuid4().hex}"


# -- one server ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server that belongs to no replica set."""
    server = Mongod(tmp_path_factory.mktemp("alone"), "--journalCommitInterval=5")
    try:
        server.start()
        yield server
    finally:
        server.close()


async def test_a_single_server_is_a_store_and_says_what_it_does_not_survive(
    io_loop: IOLoop, alone: Mongod
) -> None:
    async with opened(f"mongodb://{alone.host}") as storage:
        await talk(storage)
        assert f"MongoDB at {alone.host}, database chatd, a single server" in storage.promise
        assert "lost with its disk" in storage.promise
        assert "while it is down nothing works" in storage.promise
    async with opened(f"mongodb://{alone.host}/chatd") as again:
        assert len(await again.list_users(limit=9)) == 2


async def test_a_single_server_is_not_taken_for_the_replica_set_that_the_url_names(
    io_loop: IOLoop, alone: Mongod
) -> None:
    sentence = await outage(f"mongodb://{alone.host}/chat?replicaSet=missing&timeoutMS=1000")
    assert alone.host in sentence
    assert '"missing"' in sentence


@pytest.mark.parametrize(
    "name",
    [
        "a.b",
        ".",
        "a%00b",
        pytest.param("a" * 64, id="64 characters"),
        pytest.param("ü" * 32, id="64 bytes"),
        pytest.param("CHATD", id="another case"),
    ],
)
async def test_a_database_that_mongodb_does_not_make_is_refused(
    io_loop: IOLoop, alone: Mongod, name: str
) -> None:
    async with opened(f"mongodb://{alone.host}/chatd"):
        pass  # what differs from another name by case alone can't be made either
    sentence = await refusal(f"mongodb://{alone.host}/{name}")
    assert sentence.startswith(f"MongoDB at {alone.host} can't be used: ")


@pytest.mark.parametrize("name", ["admin", "config", "local"])
async def test_a_database_of_mongodbs_own_is_refused_and_left_as_it_was(
    io_loop: IOLoop, alone: Mongod, name: str
) -> None:
    with MongoClient[dict[str, Any]](alone.host) as client:
        before = client[name].list_collection_names()
        assert name in await refusal(f"mongodb://{alone.host}/{name}")
        assert client[name].list_collection_names() == before


# -- time ------------------------------------------------------------------------------------


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Mongod]:
    """A server that is still to be started."""
    server = Mongod(tmp_path, "--journalCommitInterval=5")
    yield server
    server.close()


async def test_starting_waits_for_a_server_as_long_as_the_url_says(
    io_loop: IOLoop, late: Mongod
) -> None:
    impatient, patient = (
        MongoStorage(f"mongodb://{late.host}/chat?timeoutMS={limit}") for limit in (300, 60_000)
    )
    starting = asyncio.create_task(patient.start())
    with pytest.raises(Unavailable):
        await impatient.start()
    assert not starting.done()
    await asyncio.to_thread(late.start)
    await starting
    await patient.ping()
    await patient.close()


async def test_a_call_waits_for_a_server_as_long_as_the_url_says(
    io_loop: IOLoop, late: Mongod
) -> None:
    await asyncio.to_thread(late.start)
    url = f"mongodb://{late.host}/chat"
    async with (
        opened(f"{url}?timeoutMS=1000") as impatient,
        opened(f"{url}?timeoutMS=60000") as patient,
    ):
        late.freeze()
        waiting = asyncio.create_task(patient.ping())
        with pytest.raises(Unavailable):
            await impatient.ping()
        assert not waiting.done()
        late.thaw()
        await waiting


# -- replica sets ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    three = ReplicaSet(tmp_path_factory.mktemp("three"), 3, "--journalCommitInterval=5")
    try:
        three.start()
        yield three
    finally:
        three.close()


def secondary(three: ReplicaSet) -> Mongod:
    primary = three.primary()
    return next(member for member in three.members if member is not primary)


@pytest.mark.parametrize(
    "hosts_and_options",
    [
        pytest.param(lambda three: (three.hosts, f"replicaSet={SET_NAME}"), id="all by its name"),
        pytest.param(lambda three: (three.primary().host, ""), id="the primary"),
        pytest.param(lambda three: (secondary(three).host, ""), id="a secondary"),
        pytest.param(
            lambda three: (three.primary().host, "directConnection=true"), id="the primary alone"
        ),
        pytest.param(
            lambda three: (f"127.0.0.1:{free_port()},{three.hosts}", ""), id="one that is out"
        ),
    ],
)
async def test_a_replica_set_is_a_store_whichever_members_the_url_names(
    io_loop: IOLoop,
    three: ReplicaSet,
    hosts_and_options: Callable[[ReplicaSet], tuple[str, str]],
) -> None:
    hosts, options = hosts_and_options(three)
    async with opened(f"mongodb://{hosts}/{new_database()}?{options}".rstrip("?")) as storage:
        await talk(storage)
        assert f"MongoDB at {hosts}," in storage.promise
        assert f"replica set {SET_NAME} of 3" in storage.promise
        assert "on disk on a majority of its members" in storage.promise


async def test_a_replica_set_of_one_says_that_it_dies_with_its_disk(
    io_loop: IOLoop, mongo_server: ReplicaSet, mongo_url: str
) -> None:
    async with opened(mongo_url) as storage:
        assert f"{mongo_server.hosts}, database" in storage.promise
        assert f"replica set {SET_NAME} of one" in storage.promise
        assert "lost with its disk" in storage.promise


async def test_what_the_url_says_of_reads_and_writes_does_not_count(
    io_loop: IOLoop, mongo_url: str, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    database = mongo_client[mongo_url.rpartition("/")[2].partition("?")[0]]
    options = "w=0&journal=false&readConcernLevel=local&readPreference=secondary&retryWrites=false"
    async with opened(f"{mongo_url}&{options}") as storage:
        database.command("profile", 2)
        await talk(storage)
        database.command("profile", 0)
    done = [one["command"] for one in database["system.profile"].find()]
    reads = [one["readConcern"] for one in done if {"find", "aggregate"} & one.keys()]
    inserts = [one["writeConcern"] for one in done if "insert" in one]
    assert reads == [{"level": "majority"}] * len(reads) != []
    assert inserts == [{"w": "majority", "j": True}] * len(inserts) != []


async def test_a_url_that_allows_nobody_but_a_secondary_is_told_that_it_is_one(
    io_loop: IOLoop, three: ReplicaSet
) -> None:
    host = secondary(three).host
    sentence = await outage(f"mongodb://{host}/chat?directConnection=true&timeoutMS=1000")
    assert host in sentence
    assert "directConnection" in sentence
    assert "can't be reached" not in sentence, "it was reached"


@pytest.mark.parametrize("more", ["", "&directConnection=true"], ids=["", "direct"])
async def test_a_replica_set_by_another_name_is_told_that_name(
    io_loop: IOLoop, mongo_server: ReplicaSet, more: str
) -> None:
    hosts = mongo_server.hosts
    sentence = await outage(
        f"mongodb://ann:{PASSWORD}@{hosts}/chat?replicaSet=other&timeoutMS=1000{more}"
    )
    assert hosts in sentence
    assert "other" in sentence


# -- what hello tells ------------------------------------------------------------------------


def test_members_that_never_become_primary_count_too() -> None:
    """MongoDB's manual, "hello": ``hosts`` leaves out those of priority 0, the ``passives``."""
    hello = {"maxWireVersion": 21, "setName": "rs", "hosts": ["a:1"], "passives": ["b:1", "c:1"]}
    deployment = Deployment.of(hello, ADDRESS)
    assert "replica set rs of 3" in deployment.promise(ADDRESS)


def test_a_sharded_cluster_promises_a_majority_of_the_shard() -> None:
    deployment = Deployment.of({"maxWireVersion": 21, "msg": "isdbgrid"}, ADDRESS)
    assert deployment.sharded
    assert "db.example.org, database chat" in deployment.promise(ADDRESS)
    assert "on a majority of its shard's members" in deployment.promise(ADDRESS)


@pytest.mark.parametrize("hello", [{"maxWireVersion": 12, "setName": "rs", "hosts": ["a:1"]}, {}])
def test_a_server_that_is_too_old_is_refused_and_told_the_oldest(hello: dict[str, Any]) -> None:
    with pytest.raises(StorageRefused, match=r"db\.example\.org is too old.*MongoDB 5\.0"):
        Deployment.of(hello, ADDRESS)
    assert Deployment.of({"maxWireVersion": 13}, ADDRESS) == Deployment(None, 0, sharded=False)
