"""The one thread that writes: work in call order, each piece of it wholly or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MOST_TOGETHER: Final = 64


class _Job(NamedTuple, Generic[T]):
    work: Work[T]
    future: asyncio.Future[T]


class _Failed(NamedTuple):
    error: Exception


class Writer:
    """Runs work on one connection. What waits when a commit ends shares the next one.

    So a sync to disk is paid once for all of it, and a page that several pieces change is
    written once. Where one piece fails, each of its companions runs again by itself: work may
    run more than once, and keeps nothing outside the transaction but what ``forget`` clears.
    """

    def __init__(self, db: sqlite3.Connection, forget: Callable[[], None]) -> None:
        """``forget`` is called in the writer's thread when what was done is undone."""
        self._db = db
        self._forget = forget
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue the work; the future has its result once it is committed, or its exception."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future))
        return future

    def close(self) -> None:
        """Finish what is queued and end the thread; blocks until then."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            outcomes = self._transact(jobs)
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                jobs[0].future.get_loop().call_soon_threadsafe(_resolve, jobs, outcomes)

    def _next(self) -> list[_Job[Any]]:
        """The oldest jobs that wait; none when it is time to end."""
        jobs: list[_Job[Any]] = []
        while (job := self._jobs.get()) is not None:
            jobs.append(job)
            if len(jobs) == _MOST_TOGETHER or self._jobs.empty():
                return jobs
        if jobs:
            self._jobs.put(None)
        return jobs

    def _transact(self, jobs: Sequence[_Job[Any]]) -> list[Any]:
        """What each job came to: its result, or `_Failed`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                results = [job.work(self._db) for job in jobs]
            except Exception:
                if len(jobs) == 1:
                    raise
                self._undo()
                return [outcome for job in jobs for outcome in self._transact([job])]
            self._db.execute("COMMIT")
        except Exception as error:
            self._undo()
            return [_Failed(error)] * len(jobs)
        return results

    def _undo(self) -> None:
        self._forget()
        # Some errors, a full disk among them, end the transaction by themselves. One that can't
        # be ended now makes the next BEGIN fail, and is tried again then.
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _resolve(jobs: Sequence[_Job[Any]], outcomes: Sequence[Any]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.future.done():
            continue
        if isinstance(outcome, _Failed):
            job.future.set_exception(outcome.error)
        else:
            job.future.set_result(outcome)
