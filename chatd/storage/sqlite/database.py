"""The open file: one connection that writes, two that read, each in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from chatd.errors import Unavailable
from chatd.storage.refused import StorageRefused
from chatd.storage.sqlite.lock import exclusive
from chatd.storage.sqlite.schema import open_reader, open_writer
from chatd.storage.sqlite.writer import Work, Writer

T = TypeVar("T")

_READERS: Final = 2


class Database:
    """Runs work on the file.

    Reads see everything that was committed before they began, and never wait for the writer.
    Only one connection writes, and it alone copies the log into the file: SQLite before 3.51.3
    can corrupt a file where two do (sqlite.org/wal.html#walresetbug).
    """

    def __init__(self, path: Path, forget: Callable[[], None]) -> None:
        """Opens the file, which may block. ``forget``: see `Writer`.

        Raises `StorageRefused` where the file can't or mustn't be opened.
        """
        try:
            with ExitStack() as stack:
                self._open(path.resolve(), forget, stack)
                self._resources = stack.pop_all()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StorageRefused(f"{path} can't be opened: {error.strerror}{where}.") from error
        except sqlite3.Error as error:
            raise StorageRefused(f"{path} can't be opened: {error}.") from error
        self._closed = False

    def _open(self, path: Path, forget: Callable[[], None], stack: ExitStack) -> None:
        """What is opened last is closed first; the writer's connection outlives the readers'."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(exclusive(path))
        db = stack.enter_context(closing(open_writer(path)))
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(_READERS):
            self._idle.put(stack.enter_context(closing(open_reader(path))))
        self._writer = stack.enter_context(closing(Writer(db, forget)))
        self._readers = stack.enter_context(ThreadPoolExecutor(_READERS, "sqlite-reader"))

    async def write(self, work: Work[T]) -> T:
        """Run work in a transaction, after all that was handed in before."""
        self._check_open()
        with _reachable():
            return await self._writer.submit(work)

    async def read(self, work: Work[T]) -> T:
        self._check_open()
        with _reachable():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, self._read, work)

    def _read(self, work: Work[T]) -> T:
        db = self._idle.get()
        try:
            return work(db)
        finally:
            self._idle.put(db)

    async def close(self) -> None:
        """Finish what is under way, then let go of the file. The second call does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._resources.close)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the message store is closed")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable("the message store can't be reached, try again shortly") from error
