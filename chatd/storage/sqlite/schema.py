"""The SQLite file: its tables, how older files become newer ones, and which files are refused."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from chatd.storage.refused import StorageRefused

APPLICATION_ID: Final = 0x63686174
"""``chat`` in ASCII: marks a SQLite file as chatd's (bytes 68 to 71 of the file's header)."""

OLDEST_SQLITE: Final = (3, 37, 0)
"""The first SQLite with STRICT tables."""

_VERSION_1: Final = (
    "CREATE TABLE store (epoch TEXT NOT NULL, pings INTEGER NOT NULL) STRICT",
    "INSERT INTO store VALUES (lower(hex(randomblob(8))), 0)",
    """
    CREATE TABLE users (
        email         TEXT PRIMARY KEY,
        id            TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        created_at    INTEGER NOT NULL,
        generation    INTEGER NOT NULL,
        last_seen_at  INTEGER
    ) STRICT, WITHOUT ROWID
    """,
    # A conversation's number keeps the rows of its messages and marks short.
    "CREATE TABLE conversations (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT",
    # Counts are listed descending and names ascending. A rank is the count negated, so that one
    # range of an index covers what comes behind (rank, name).
    """
    CREATE TABLE groups (
        conversation  INTEGER PRIMARY KEY,
        name          TEXT NOT NULL UNIQUE,
        title         TEXT,
        created_by    TEXT NOT NULL,
        created_at    INTEGER NOT NULL,
        members       INTEGER NOT NULL,
        messages      INTEGER NOT NULL,
        members_rank  INTEGER AS (-members),
        messages_rank INTEGER AS (-messages)
    ) STRICT
    """,
    "CREATE INDEX groups_by_members ON groups (members_rank, name)",
    "CREATE INDEX groups_by_messages ON groups (messages_rank, name)",
    """
    CREATE TABLE messages (
        conversation INTEGER NOT NULL,
        seq          INTEGER NOT NULL,
        id           TEXT NOT NULL,
        sender       TEXT NOT NULL,
        text         TEXT NOT NULL,
        sent_at      INTEGER NOT NULL,
        client_id    TEXT,
        delivered_at INTEGER,
        read_at      INTEGER,
        PRIMARY KEY (conversation, seq)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX messages_by_id ON messages (id)",
    # client_id first: where clients count or take time-ordered ids, all senders add at one place,
    # and a commit writes one page of this index instead of one for each sender.
    """
    CREATE UNIQUE INDEX messages_by_client_id ON messages (client_id, sender)
    WHERE client_id IS NOT NULL
    """,
    # A member of a group, or a side of a pair. own_after_read: how many messages after read_seq
    # are the user's own; it spares counting the unread, which may be a million.
    """
    CREATE TABLE marks (
        conversation   INTEGER NOT NULL,
        user           TEXT NOT NULL,
        joined_at      INTEGER NOT NULL,
        delivered_seq  INTEGER NOT NULL,
        read_seq       INTEGER NOT NULL,
        own_after_read INTEGER NOT NULL,
        PRIMARY KEY (conversation, user)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX marks_by_user ON marks (user)",
    """
    CREATE TABLE revoked_tokens (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)
    STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at)",
)

MIGRATIONS: Final = (_VERSION_1,)
"""What makes version N + 1 of version N, for N = 0, 1, …; a released one is never changed."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any one thread at a time may use, in autocommit mode."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    # A foreign program (a backup, a shell) may hold the file for a moment.
    db.execute("PRAGMA busy_timeout = 5000")
    # Otherwise a failing statement's undo log goes to a file.
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes: the file is made or brought up to date where needed.

    Raises `StorageRefused` where the file is not chatd's, or a newer chatd's.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StorageRefused(
            f"Python's SQLite library is {sqlite3.sqlite_version}; chatd needs {oldest} or newer."
        )
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = connect(path)
    try:
        version = _version(db, path)
        _make_durable(db, path)
        _migrate(db, version)
    except BaseException:
        db.close()
        raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can't write."""
    db = connect(path)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA cache_size = -16384")
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema, 0 for an empty file. Nothing is written before this."""
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (things,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise StorageRefused(f"{path} is not a chatd database, nor any SQLite database.") from None
    if application == 0 and version == 0 and things == 0:
        return 0
    if application != APPLICATION_ID:
        raise StorageRefused(f"{path} is a SQLite database of another program, not of chatd.")
    if version > len(MIGRATIONS):
        raise StorageRefused(
            f"{path} has schema version {version}, made by a newer chatd; "
            f"this one knows versions up to {len(MIGRATIONS)}: run the newer one."
        )
    return int(version)


def check_ours(db: sqlite3.Connection, path: Path) -> None:
    """`StorageRefused` unless the file is a store that this chatd can read."""
    if not _version(db, path):
        raise StorageRefused(f"{path} is empty, and no store of chatd's.")


def _make_durable(db: sqlite3.Connection, path: Path) -> None:
    """After every commit the log is synced: it survives a power cut (sqlite.org/wal.html)."""
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StorageRefused(
            f"{path} lies on a file system that can't hold a write-ahead log: use a local disk."
        )
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -65536")


def _migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the schema up to date in one transaction: all of it, or nothing."""
    if version == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    _make(db, version)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute("COMMIT")


def _make(db: sqlite3.Connection, version: int) -> None:
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            db.execute(statement)


def things_in(db: sqlite3.Connection) -> dict[str, str]:
    """The SQL of every table, index and so on in a file, by its kind and name, on one line."""
    rows = db.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
    )
    return {name: " ".join(sql.split()) for name, sql in rows}


def things_of_this_version() -> dict[str, str]:
    """What a new file has, as `things_in` tells it."""
    with closing(sqlite3.connect(":memory:")) as db:
        _make(db, 0)
        return things_in(db)


def epoch(db: sqlite3.Connection) -> str:
    (word,) = db.execute("SELECT epoch FROM store").fetchone()
    return str(word)


def ping(db: sqlite3.Connection) -> None:
    """Change the file. Writing what stands there already would not reach the disk."""
    db.execute("UPDATE store SET pings = pings + 1")
