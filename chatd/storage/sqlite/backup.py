"""Backups of the SQLite file: taken while a server works on it, put back while none does.

SQLite's own backup (sqlite.org/backup.html) copies one moment of the file, log and all. Everything
here blocks; call it from no event loop.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from chatd.storage.refused import StorageRefused
from chatd.storage.sqlite.lock import exclusive
from chatd.storage.sqlite.schema import check_ours


def back_up(path: Path, to: Path) -> int:
    """Copy the store at ``path`` to a new file; the number of messages in it.

    Raises `StorageRefused` where there is no store, the copy is not sound, or ``to`` exists.
    """
    if to.exists():
        raise StorageRefused(f"{to} exists: give the backup a name of its own.")
    if not path.exists():
        raise StorageRefused(f"there is no store at {path}.")
    return _copy(path, to, "SELECT count(*) FROM messages")


def restore(file: Path, path: Path, *, replace: bool) -> int:
    """Put a backup in the place of the store at ``path``; the number of messages in it.

    The store gets a new epoch: what clients have got of the old one may be another now. Raises
    `StorageRefused` where ``file`` is no sound backup, a server has the store open, or there is a
    store already and it is not to be replaced.
    """
    if not file.exists():
        raise StorageRefused(f"there is no backup at {file}.")
    # A server locks what a link leads to.
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(path):
        if path.exists() and not replace:
            raise StorageRefused(f"{path} exists: say --replace to have the backup in its place.")
        return _copy(
            file,
            path,
            "UPDATE store SET epoch = lower(hex(randomblob(8)))",
            "SELECT count(*) FROM messages",
        )


def _copy(path: Path, to: Path, *statements: str) -> int:
    """Make ``to`` a whole, sound copy, or leave it as it was; what the last statement counts."""
    aside = to.with_name(f".{to.name}.part")
    _make(aside, to)
    try:
        with closing(_reader(path)) as source, closing(sqlite3.connect(aside)) as target:
            check_ours(source, path)
            source.backup(target)
            count = _finish(target, path, statements)
        _put_in_place(aside, to)
    except sqlite3.Error as error:
        raise StorageRefused(f"{path} can't be copied: {error}.") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
    return count


def _make(aside: Path, to: Path) -> None:
    try:
        aside.unlink(missing_ok=True)
        os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StorageRefused(
            f"{to} can't be written ({error.strerror}): name a folder that there is, and that"
            " chatd's user may write to."
        ) from error


def _reader(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    db.execute("PRAGMA busy_timeout = 5000")
    return db


def _finish(db: sqlite3.Connection, path: Path, statements: tuple[str, ...]) -> int:
    # One file, without a log beside it; a server makes its log again.
    db.execute("PRAGMA journal_mode = DELETE")
    (found,) = db.execute("PRAGMA integrity_check").fetchone()
    if found != "ok":
        raise StorageRefused(f"{path} is damaged: {found}")
    count = 0
    for statement in statements:
        row = db.execute(statement).fetchone()
        count = row[0] if row else count
    db.commit()
    return int(count)


def _put_in_place(aside: Path, to: Path) -> None:
    """Under its name only once it is on the disk; a log of what was there before goes first."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    for suffix in ("-wal", "-shm"):
        to.with_name(to.name + suffix).unlink(missing_ok=True)
    aside.replace(to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
