"""What may happen to a call of MongoDB's driver: faults put in between Motor and the driver.

Motor hands each call to a thread by ``run_on_executor``, which it looks up anew each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, cast

import pytest
from motor.frameworks import asyncio as framework
from pymongo.collection import Collection
from pymongo.cursor import Cursor
from pymongo.database import Database
from pymongo.errors import AutoReconnect, PyMongoError

Call = Callable[[], Awaitable[Any]]
"""Makes the call, and returns what it returns."""

Event = Callable[[Call], Awaitable[Any]]
"""What happens instead of a call; it may make that call, or not."""


class _Run(Protocol):
    def __call__(
        self, loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any, **kw: Any
    ) -> asyncio.Future[Any]: ...


class Interruption:
    """An event that is to take the place of one call."""

    def __init__(self, at: int | str, event: Event) -> None:
        self._at = at
        self.event = event
        self.happened = False

    def meets(self, number: int, name: str) -> bool:
        return not self.happened and self._at in (number, name)


class Driver:
    """The calls of the driver, counted, and interrupted at will."""

    def __init__(self, run: _Run) -> None:
        self.calls: list[str] = []
        self._run = run
        self._interruption: Interruption | None = None

    @classmethod
    def watched(cls, monkeypatch: pytest.MonkeyPatch) -> Driver:
        driver = cls(cast(_Run, framework.run_on_executor))
        monkeypatch.setattr(framework, "run_on_executor", driver.run_on_executor)
        return driver

    @contextmanager
    def interrupted(self, at: int | str, event: Event) -> Iterator[Interruption]:
        """Inside, ``event`` takes the place of the call ``at``: of so many, or the first so named.

        A name is like ``messages.insert_many``.
        """
        self.calls.clear()
        self._interruption = interruption = Interruption(at, event)
        try:
            yield interruption
        finally:
            self._interruption = None

    def run_on_executor(
        self, loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any, **kw: Any
    ) -> asyncio.Future[Any]:
        def call() -> asyncio.Future[Any]:
            return self._run(loop, function, *args, **kw)

        self.calls.append(_name(function, args))
        interruption = self._interruption
        if interruption is None or not interruption.meets(len(self.calls), self.calls[-1]):
            return call()
        interruption.happened = True
        return asyncio.ensure_future(interruption.event(call))


def _name(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """The collection or the database that the call is about, and its method."""
    about = args[0] if args else None
    if isinstance(about, Cursor):
        about = about.collection
    named = about.name if isinstance(about, Collection | Database) else "?"
    return f"{named}.{function.__name__}"


async def lost_call(_call: Call) -> Any:
    """The connection breaks before the server gets the call."""
    raise AutoReconnect("lost on the way there")


async def lost_answer(call: Call) -> Any:
    """The connection breaks when the server has done what it was asked for."""
    with suppress(PyMongoError):
        await call()
    raise AutoReconnect("lost on the way back")


async def made(call: Call) -> Any:
    return await call()


def after(meanwhile: Callable[[], Awaitable[object]], event: Event) -> Event:
    """First something else, then ``event``."""

    async def both(call: Call) -> Any:
        await meanwhile()
        return await event(call)

    return both
