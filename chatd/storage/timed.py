"""A store that is timed: what each call took, by the name of its method."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from chatd.storage.base import Storage

Observe = Callable[[str, float], None]
"""Told of a call's name and of its seconds, whether it succeeded or not."""


def timed(storage: Storage, observe: Observe) -> Storage:
    """The same store, whose calls are told to ``observe``."""
    return cast(Storage, _Timed(storage, observe))


class _Timed:
    """Has all that the contract has; what is no coroutine there is asked of the store itself."""

    def __init__(self, storage: Storage, observe: Observe) -> None:
        self._storage = storage
        for name, method in inspect.getmembers(Storage, inspect.iscoroutinefunction):
            setattr(self, name, _timed_call(method.__name__, getattr(storage, name), observe))

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)


def _timed_call(
    name: str, call: Callable[..., Awaitable[Any]], observe: Observe
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(call)
    async def measured(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call(*arguments, **options)
        finally:
            observe(name, time.perf_counter() - started)

    return measured
