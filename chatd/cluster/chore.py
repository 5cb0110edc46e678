"""Something that is done when it is asked for, and again where that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

_RETRY_SECONDS: Final = 1.0


class Observer(Protocol):
    """Who hears of it."""

    def failed(self, event: str, error: BaseException) -> None: ...


class Chore:
    """One look into the store, at what may have been missed."""

    def __init__(self, work: Callable[[], Awaitable[None]], observer: Observer) -> None:
        self._work = work
        self._observer = observer
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have it done soon; asking again before it has begun changes nothing."""
        self._asked.set()

    async def run_forever(self) -> None:
        """The coroutine that does it."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if not await self._do():
                self._asked.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def do_now(self) -> float:
        """Do it, beside what `run_forever` may be at; how many seconds it took."""
        began = asyncio.get_running_loop().time()
        await self._do()
        return asyncio.get_running_loop().time() - began

    async def _do(self) -> bool:
        try:
            await self._work()
        except Exception as error:
            self._observer.failed("cluster.not_healed", error)
            return False
        return True
