"""Every adapter, each by a fixture of its own; a new one adds its fixture and its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tornado.ioloop import IOLoop

from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.sqlite import SqliteStorage

ADAPTERS: Final = ("memory", "sqlite")
DURABLE: Final = ("sqlite",)


class Adapter(NamedTuple):
    """``open`` makes an adapter of the store of a name: of the same one for the same name."""

    open: Callable[[str], Storage]


@pytest.fixture
def memory() -> Adapter:
    return Adapter(lambda _name: MemoryStorage())


@pytest.fixture
def sqlite(tmp_path: Path) -> Adapter:
    return Adapter(lambda name: SqliteStorage(tmp_path / f"{name}.db"))


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
