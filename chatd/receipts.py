"""Receipts: marks are gathered, stored in batches, and told to those who wrote what they cover."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from chatd.models import Advance, Conversation, Mark, ReceiptKind

_GATHER_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
"""When many come back at once, messages must not wait for thousands of marks to be stored."""


class Advancer(Protocol):
    """What receipts need of a storage."""

    async def advance(self, marks: Sequence[Mark]) -> list[Advance]: ...


class Observer(Protocol):
    """Who hears how receipts do."""

    def marks_stored(self, size: int) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class Receipts:
    """Claims that users have what they were sent, on their way into the storage.

    Where the storage is out, claims wait (the newest of each conversation, user and run) and
    are stored when it is back: a receipt may be late, never untrue and never lost.
    """

    def __init__(
        self, storage: Advancer, observer: Observer, tell: Callable[[Advance], None]
    ) -> None:
        """``tell`` hears of each mark that moved, once that is stored."""
        self._storage = storage
        self._observer = observer
        self._tell = tell
        self._waiting: dict[tuple[Conversation, str, ReceiptKind, int], Mark] = {}
        self._wake = asyncio.Event()
        self._storing = asyncio.Lock()

    def claim(self, mark: Mark) -> None:
        """Queue a claim; a later one for the same run replaces it."""
        key = (mark.conversation, mark.user, mark.kind, mark.since)
        known = self._waiting.get(key)
        if known is None or known.seq < mark.seq:
            self._waiting[key] = mark
            self._wake.set()

    async def run_forever(self) -> None:
        """The coroutine that stores what was claimed."""
        while True:
            await self._wake.wait()
            # A claim costs a transaction however small it is: let some gather.
            await asyncio.sleep(_GATHER_SECONDS)
            if not await self.flush():
                await asyncio.sleep(_RETRY_SECONDS)

    async def flush(self) -> bool:
        """Store everything claimed so far; False where that failed, and the claims wait on."""
        async with self._storing:
            self._wake.clear()
            marks, self._waiting = deque(self._waiting.values()), {}
            try:
                while marks:
                    some = [marks.popleft() for _ in range(min(_AT_ONCE, len(marks)))]
                    if not await self._store(some):
                        return False
            finally:
                if marks:
                    self._put_back(marks)
        return True

    async def _store(self, marks: list[Mark]) -> bool:
        try:
            advances = await self._storage.advance(marks)
        except asyncio.CancelledError:
            self._put_back(marks)
            raise
        except Exception as error:
            self._observer.failed("receipts.advance_failed", error)
            self._put_back(marks)
            return False
        self._observer.marks_stored(len(marks))
        for advance in advances:
            self._tell_one(advance)
        return True

    def _put_back(self, marks: Iterable[Mark]) -> None:
        """Claim these again, ahead of what was claimed meanwhile."""
        later, self._waiting = self._waiting, {}
        for mark in [*marks, *later.values()]:
            self.claim(mark)

    def _tell_one(self, advance: Advance) -> None:
        try:
            self._tell(advance)
        except Exception as error:
            # What is stored stays stored, and the others still want to hear of theirs.
            self._observer.failed("receipts.tell_failed", error)
