"""Whether a SQLite file is sound: for SQLite itself, and as the file of this version of chatd."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

from chatd.storage.sqlite.schema import things_in, things_of_this_version

_MALFORMED: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_PRIMARY: Final = 0xFF
"""The bits of an extended error code that say which error it is (sqlite.org/rescode.html)."""

_MOST_FINDINGS: Final = 100

_COUNT_OWN: Final = (
    "UPDATE marks SET own_after_read = (SELECT count(*) FROM messages"
    " WHERE messages.conversation = marks.conversation AND seq > read_seq AND sender = user)"
)

# Each message is looked at once, however many members there are.
_WRONG_COUNTS: Final = """
    SELECT key, user, own_after_read, coalesce(own.messages, 0)
    FROM marks JOIN conversations ON number = marks.conversation LEFT JOIN (
        SELECT messages.conversation AS place, user AS owner, count(*) AS messages
        FROM messages CROSS JOIN marks
        ON marks.conversation = messages.conversation AND user = sender AND seq > read_seq
        GROUP BY messages.conversation, user
    ) AS own ON place = marks.conversation AND owner = user
    WHERE own_after_read <> coalesce(own.messages, 0) LIMIT ?
"""

_HOMELESS: Final = """
    SELECT conversation, count(*) FROM {table}
    WHERE conversation NOT IN (SELECT number FROM conversations)
    GROUP BY conversation LIMIT ?
"""

_MAKE_EPOCH: Final = "INSERT INTO store VALUES (lower(hex(randomblob(8))), 0)"


def check(db: sqlite3.Connection) -> list[str]:
    """What is wrong, a sentence each; reads all of the file."""
    found = [*_in_sqlites_words(db)]
    try:
        found += _differences(things_of_this_version(), things_in(db))
        # Of a damaged file the rest would be about the damage only, or can't be read.
        return found or [*_in_chatds_words(db)]
    except sqlite3.DatabaseError:
        if not found:
            raise
        return found


def _in_chatds_words(db: sqlite3.Connection) -> Iterator[str]:
    """What SQLite knows nothing of, and no reader of the store comes by."""
    if db.execute("SELECT count(*) FROM store").fetchone() == (0,):
        yield f"the table store is empty: stop chatd and run {_MAKE_EPOCH}"
    for table in ("messages", "marks", "groups"):
        for number, rows in db.execute(_HOMELESS.format(table=table), (_MOST_FINDINGS,)):
            yield (
                f"the table {table} has {rows} rows of conversation {number},"
                " of which there is none: put a backup back"
            )
    for key, user, counted, own in db.execute(_WRONG_COUNTS, (_MOST_FINDINGS,)):
        yield (
            f"{user} in {key} counts {counted} messages of their own as not read,"
            f" and has {own}: stop chatd and run {_COUNT_OWN}"
        )


def _in_sqlites_words(db: sqlite3.Connection) -> Iterator[str]:
    lines = [line for text in _integrity(db, _MOST_FINDINGS) for line in text.splitlines()]
    for line in dict.fromkeys(lines):
        # A headline names the database, of which there is one.
        if line != "ok" and not line.startswith("***"):
            yield f"SQLite says: {line}; put a backup back"


def _integrity(db: sqlite3.Connection, most: int) -> list[str]:
    """What SQLite finds. Behind some damage it can't go on, and that is an error.

    With the error the driver loses a finding, so the first is asked for once more, alone.
    """
    try:
        return [text for (text,) in db.execute(f"PRAGMA integrity_check({most})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & _PRIMARY not in _MALFORMED:
            raise
        return [*(_integrity(db, 1) if most > 1 else ()), str(error)]


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """``wanted`` and ``found`` have the SQL of each thing, by its kind and name."""
    for name, sql in wanted.items():
        if found.get(name) != sql:
            trouble = "is missing" if name not in found else "is not as this chatd makes it"
            yield f"the {name} {trouble}: {_mended(name, sql, there=name in found)}"
    for name in sorted(found.keys() - wanted.keys()):
        yield f"the {name} is none of chatd's: stop chatd and run {_drop(name)}"


def _mended(name: str, sql: str, *, there: bool) -> str:
    if not name.startswith("index "):
        return "put a backup back"
    first = f"{_drop(name)}; " if there else ""
    return f"stop chatd and run {first}{sql}"


def _drop(name: str) -> str:
    kind, _, own = name.partition(" ")
    return f"DROP {kind.upper()} {own}"
