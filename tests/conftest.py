"""Fixtures and hooks that every part of the suite shares."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, cast

import pytest
from _pytest.fixtures import SubRequest
from pymongo import MongoClient

from tests.mongod import ReplicaSet

pytest_plugins = ("tests.counts", "tests.leaks")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: SubRequest) -> object | None:
    """Run async fixtures on the test's ``io_loop``, which pytest-tornasync gives to tests only.

    An async generator's second half runs on the same loop, before the loop is closed.
    """
    function = fixturedef.func
    is_generator = inspect.isasyncgenfunction(function)
    if not (is_generator or inspect.iscoroutinefunction(function)):
        return None
    loop = request.getfixturevalue("io_loop")
    arguments = {name: request.getfixturevalue(name) for name in fixturedef.argnames}
    if is_generator:
        generator = cast(AsyncGenerator[object, None], function(**arguments))
        result = loop.run_sync(generator.__anext__)

        async def finish() -> None:
            async for _ in generator:
                raise RuntimeError(f"fixture {fixturedef.argname} yields more than once")

        request.addfinalizer(lambda: loop.run_sync(finish))
    else:
        result = loop.run_sync(lambda: function(**arguments))
    fixturedef.cached_result = (result, fixturedef.cache_key(request), None)
    return cast(object, result)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for the real mongod, before ``-m`` chooses by mark."""
    for item in items:
        if "mongo_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mongod)
        if "nats" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.nats)


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A replica set of one real mongod, for all the tests of this process."""
    # To drop a database takes one such interval, and by default it is 100 ms.
    server = ReplicaSet(tmp_path_factory.mktemp("mongo"), 1, "--journalCommitInterval=5")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def mongo_client(mongo_server: ReplicaSet) -> Iterator[MongoClient[dict[str, Any]]]:
    """To look into the databases of ``mongo_server``."""
    with MongoClient[dict[str, Any]](mongo_server.url("")) as client:
        yield client


@pytest.fixture
def mongo_url(mongo_server: ReplicaSet, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The URL of a database of the test's own."""
    database = f"chatd_{uuid.uuid4().hex}"
    yield mongo_server.url(database)
    mongo_client.drop_database(database)


DURABLE: Final = ("sqlite", pytest.param("mongo", marks=pytest.mark.mongod))


def _url(request: pytest.FixtureRequest) -> str:
    urls = {"memory": "memory:", "sqlite": "sqlite:chatd.db"}
    return urls.get(request.param) or str(request.getfixturevalue("mongo_url"))


@pytest.fixture(params=("memory", *DURABLE))
def storage_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new store of each kind."""
    return _url(request)


@pytest.fixture(params=DURABLE)
def durable_url(request: pytest.FixtureRequest) -> str:
    """The same, of those that outlive the server."""
    return _url(request)
