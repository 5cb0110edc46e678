"""The stores that are compared, each new and empty and gone at the end; and a mongod for one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pymongo import MongoClient

from chatd.storage import open_storage
from chatd.storage.base import Storage
from tests.mongod import ReplicaSet

STORES: Final = ("memory", "sqlite", "mongodb")


class Store(NamedTuple):
    """``server_cpu``: CPU seconds that the store's own process has used so far, 0 without one."""

    name: str
    storage: Storage
    server_cpu: Callable[[], float]


@contextmanager
def mongod(folder: Path) -> Iterator[str]:
    """The URL of a replica set of one, which ends with the context."""
    with closing(ReplicaSet(folder, 1)) as server:
        server.start()
        # What the tests give it is far less than a server with a million messages would have.
        server.primary().command("setParameter", wiredTigerEngineRuntimeConfig="cache_size=1G")
        yield server.url("")


def mongod_version(url: str) -> str:
    """Raises PyMongoError where nothing answers."""
    with client_of(url) as client:
        return str(client.server_info()["version"])


@asynccontextmanager
async def opened(name: str, folder: Path, mongo_url: str | None) -> AsyncIterator[Store]:
    """A store of one of the names in ``STORES``; of MongoDB's, a database of its own."""
    if name == "mongodb":
        assert mongo_url is not None, "MongoDB's store has a server"
        with client_of(mongo_url) as client:
            database = f"chatd_bench_{uuid.uuid4().hex}"
            async with _started(open_storage(in_database(mongo_url, database), folder)) as storage:
                try:
                    yield Store(name, storage, partial(cpu_of, client))
                finally:
                    client.drop_database(database)
    else:
        url = "memory:" if name == "memory" else f"sqlite:{uuid.uuid4()}.db"
        async with _started(open_storage(url, folder)) as storage:
            yield Store(name, storage, lambda: 0.0)


@asynccontextmanager
async def _started(storage: Storage) -> AsyncIterator[Storage]:
    await storage.start()
    try:
        yield storage
    finally:
        await storage.close()


def in_database(mongo_url: str, name: str) -> str:
    """The URL of that database there."""
    return urlsplit(mongo_url)._replace(path=f"/{name}").geturl()


def client_of(url: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(url, serverSelectionTimeoutMS=5000)


def cpu_of(client: MongoClient[dict[str, Any]]) -> float:
    """Of the primary; Linux only, elsewhere always 0."""
    status = client.admin.command("serverStatus", wiredTiger=0, metrics=0, repl=0)
    used = status["extra_info"]
    return float(used.get("user_time_us", 0) + used.get("system_time_us", 0)) / 1_000_000
