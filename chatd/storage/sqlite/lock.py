"""One server a file: a lock beside it, which the operating system lets go of with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatd.storage.refused import StorageRefused


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the database at ``path`` against every other server, in this process or another.

    The lock is on a file of its own: closing any handle of the database file would drop the
    POSIX locks that SQLite holds on it. That file stays, since removing it would let two
    servers lock two files of one name. Raises `StorageRefused` where another server holds it.
    """
    handle = os.open(lock_path(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
            raise StorageRefused(
                f"{path} is in use by another chatd server (process {holder or 'unknown'}): "
                "stop that one, or give this one a file of its own."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def lock_path(path: Path) -> Path:
    return path.with_name(path.name + "-lock")
