"""The message journal: the one ordered way into the storage.

Drafts are gathered while the storage is busy with those before them, and stored in one round
trip (group commit: DeWitt et al., "Implementation Techniques for Main Memory Database
Systems", 1984). Nobody is told of a message before it is stored. Changes that must stand in
order with the messages, joining a group for one, go the same way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from chatd.errors import ChatError, Unavailable
from chatd.models import Draft, Duplicate, Outcome, Stored, now_ms

Done = Callable[[Outcome | ChatError], None]
"""Called once, in commit order, with what became of a draft."""

_T = TypeVar("_T")

_BATCH_DRAFTS: Final = 1000
_BATCH_CHARS: Final = 64 * 1024
_DRAFT_CHARS: Final = 1000
"""What a waiting draft weighs besides its text, in characters' worth of memory."""
_TURN_SECONDS: Final = 0.01
_DOUBTFUL: Final = 100_000
_SAID_FOR: Final = 1.0
"""Seconds for which an outage is told of: it fails every batch, and a log had better not fill."""


class Appender(Protocol):
    """What the journal needs of a storage."""

    async def append(self, batch: list[Draft]) -> list[Outcome]: ...


class Observer(Protocol):
    """Who hears how the journal does."""

    def batch_stored(self, size: int, seconds: float, waited: float) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class _Operation:
    """A change that runs between two batches."""

    def __init__(self, work: Callable[[], Awaitable[Any]], result: asyncio.Future[Any]) -> None:
        self.work = work
        self.result = result


class MessageJournal:
    """Gathers drafts into batches, stores them in order, and tells each draft's ``done``."""

    def __init__(
        self, storage: Appender, observer: Observer, *, capacity_chars: int = 8 * 1024 * 1024
    ) -> None:
        """``capacity_chars``: how much may wait before `room` makes readers wait too, in
        characters of text; a draft weighs 1,000 more."""
        self._storage = storage
        self._observer = observer
        self._capacity = capacity_chars
        self._entries: deque[tuple[Draft, Done] | _Operation] = deque()
        self._chars = 0
        # The ids of drafts that the storage may have stored without being able to say so.
        self._doubtful: dict[str, None] = {}
        self._outage_said_until = 0.0
        self._closed = False
        self._on_pause: Callable[[], None] = _nothing
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether whoever reads messages had better wait for `room`."""
        return not self._room.is_set()

    def on_pause(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called each time that outcomes were told and something else follows:
        a change in order with the messages, or whatever else the loop has to do."""
        self._on_pause = listener

    async def room(self) -> None:
        """Return once the journal can take more: the backpressure to the reading side."""
        await self._room.wait()

    def submit(self, draft: Draft, done: Done) -> None:
        """Queue a draft; ``done`` hears its outcome, or why it could not be stored."""
        if self._closed:
            done(Unavailable("the server is shutting down; send again when it is back"))
            return
        self._add((draft, done))
        self._chars += len(draft.text) + _DRAFT_CHARS
        if self._chars >= self._capacity:
            self._room.clear()

    async def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run ``work`` in order with the messages: behind those before it, ahead of the rest."""
        if self._closed:
            raise Unavailable("the server is shutting down; try again when it is back")
        return await self._in_order(work)

    async def told(self) -> None:
        """Return once the outcomes of all drafts so far were told, while it drains too."""
        await self._in_order(_no_change)

    async def _in_order(self, work: Callable[[], Awaitable[_T]]) -> _T:
        result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._add(_Operation(work, result))
        return await result

    def _add(self, entry: tuple[Draft, Done] | _Operation) -> None:
        self._entries.append(entry)
        self._idle.clear()
        self._wake.set()

    async def drain(self) -> None:
        """Take nothing more, and return once everything taken has been answered."""
        self._closed = True
        await self._idle.wait()

    async def run_forever(self) -> None:
        """The journal's coroutine."""
        while True:
            if not self._entries:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            if isinstance(self._entries[0], _Operation):
                operation = self._entries.popleft()
                assert isinstance(operation, _Operation)
                await self._operate(operation)
            else:
                await self._store(self._next_batch())
            # A storage that never waits must not keep the loop from reading and writing.
            await asyncio.sleep(0)

    def _next_batch(self) -> list[tuple[Draft, Done]]:
        batch: list[tuple[Draft, Done]] = []
        chars = 0
        while self._entries and len(batch) < _BATCH_DRAFTS and chars < _BATCH_CHARS:
            entry = self._entries[0]
            if isinstance(entry, _Operation):
                break
            batch.append(entry)
            chars += len(entry[0].text)
            self._entries.popleft()
        self._chars -= chars + len(batch) * _DRAFT_CHARS
        if self._chars < self._capacity:
            self._room.set()
        return batch

    async def _store(self, batch: list[tuple[Draft, Done]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        # By the wall clock, which may have been set back meanwhile.
        waited = max(0, now_ms() - batch[0][0].sent_at) / 1000
        try:
            outcomes: list[Outcome] = await self._storage.append([draft for draft, _ in batch])
        except Exception as error:
            self._say_failed(error)
            refusal = error if isinstance(error, Unavailable) else _not_stored()
            for draft, done in batch:
                self._doubt(draft)
                self._tell(done, refusal)
            return
        self._observer.batch_stored(len(batch), loop.time() - started, waited)
        turn = loop.time()
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            self._tell(done, self._resolved(outcome))
            # A big batch to big groups must not keep the loop from reading and writing.
            if loop.time() - turn > _TURN_SECONDS:
                self._pause()
                await asyncio.sleep(0)
                turn = loop.time()
        self._pause()

    def _say_failed(self, error: Exception) -> None:
        if isinstance(error, Unavailable):
            now = asyncio.get_running_loop().time()
            if now < self._outage_said_until:
                return
            self._outage_said_until = now + _SAID_FOR
        self._observer.failed("journal.append_failed", error)

    def _doubt(self, draft: Draft) -> None:
        if len(self._doubtful) >= _DOUBTFUL:
            del self._doubtful[next(iter(self._doubtful))]
        self._doubtful[draft.id] = None

    def _resolved(self, outcome: Outcome) -> Outcome:
        """The outcome, as new where the first send was stored and nobody has heard of it."""
        if isinstance(outcome, Duplicate) and outcome.message.id in self._doubtful:
            del self._doubtful[outcome.message.id]
            return Stored(outcome.message)
        return outcome

    def _tell(self, done: Done, outcome: Outcome | ChatError) -> None:
        try:
            done(outcome)
        except Exception as error:
            # What is stored stays stored, and the others still want to hear of theirs.
            self._observer.failed("journal.done_failed", error)

    def _pause(self) -> None:
        try:
            self._on_pause()
        except Exception as error:
            # As with what is told: the next ones must not suffer from it.
            self._observer.failed("journal.pause_failed", error)

    async def _operate(self, operation: _Operation) -> None:
        try:
            result = await operation.work()
        except Exception as error:
            if not operation.result.cancelled():
                operation.result.set_exception(error)
        else:
            if not operation.result.cancelled():
                operation.result.set_result(result)


def _nothing() -> None:
    pass


async def _no_change() -> None:
    pass


def _not_stored() -> Unavailable:
    return Unavailable("the message could not be stored; send it again, with the same client_id")
