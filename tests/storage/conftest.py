"""Every adapter, each by a fixture of its own; a new one adds its fixture and its name."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pymongo import MongoClient
from tornado.ioloop import IOLoop

from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.mongo import MongoStorage
from chatd.storage.sqlite import SqliteStorage
from tests.mongod import ReplicaSet
from tests.storage.faults import Driver
from tests.storage.openings import opened

MONGO: Final = pytest.param("mongo", marks=pytest.mark.mongod)

DURABLE: Final = ("sqlite", MONGO)
ADAPTERS: Final = ("memory", *DURABLE)


class Adapter(NamedTuple):
    """``open`` makes an adapter of the store of a name: of the same one for the same name."""

    open: Callable[[str], Storage]


@pytest.fixture
def memory() -> Adapter:
    return Adapter(lambda _name: MemoryStorage())


@pytest.fixture
def sqlite(tmp_path: Path) -> Adapter:
    return Adapter(lambda name: SqliteStorage(tmp_path / f"{name}.db"))


@pytest.fixture
def mongo(mongo_server: ReplicaSet, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Adapter]:
    made: set[str] = set()
    prefix = f"chatd_{uuid.uuid4().hex}_"

    def open_store(name: str) -> Storage:
        made.add(prefix + name)
        return MongoStorage(mongo_server.url(prefix + name))

    yield Adapter(open_store)
    for database in made:
        mongo_client.drop_database(database)


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each adapter there is."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Adapter)
    return found


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest) -> Adapter:
    """Each adapter whose stores outlive the process."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Adapter)
    return found


@pytest.fixture
async def storage(io_loop: IOLoop, adapter: Adapter) -> AsyncIterator[Storage]:
    """A new, started store of each adapter."""
    storage = adapter.open("chat")
    await storage.start()
    yield storage
    await storage.close()


@pytest.fixture
async def other(storage: Storage, mongo_url: str) -> AsyncIterator[Storage]:
    """Another server's adapter, over the same database."""
    async with opened(mongo_url) as other:
        yield other


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """What stands between MongoDB adapters and their server."""
    return Driver.watched(monkeypatch)
