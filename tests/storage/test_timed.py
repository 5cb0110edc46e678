"""A store that is timed is the same store, and tells of every call."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from chatd.errors import Unavailable
from chatd.models import User
from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.timed import timed


async def test_each_call_is_told_by_name_with_its_seconds(io_loop: Any) -> None:
    told: list[tuple[str, float]] = []
    storage = timed(MemoryStorage(), lambda name, seconds: told.append((name, seconds)))
    await storage.start()
    user = User("id", "ann@example.org", "hash", 1)
    assert await storage.create_user(user)
    assert await storage.user_by_email("ann@example.org") == user
    assert await storage.list_users(limit=5) == [user]
    assert [name for name, _ in told] == ["start", "create_user", "user_by_email", "list_users"]
    assert all(seconds >= 0 for _, seconds in told)
    assert storage.promise == MemoryStorage().promise


async def test_a_failure_is_timed_and_raised(io_loop: Any) -> None:
    class Broken(MemoryStorage):
        async def ping(self) -> None:
            raise Unavailable("it is out")

    told: list[str] = []
    with pytest.raises(Unavailable, match="it is out"):
        await timed(Broken(), lambda name, _: told.append(name)).ping()
    assert told == ["ping"]


def test_all_of_the_contract_is_there() -> None:
    storage = timed(MemoryStorage(), lambda *_: None)
    for name, _ in inspect.getmembers(Storage, inspect.iscoroutinefunction):
        assert name in vars(storage)
