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


def check(db: sqlite3.Connection) -> list[str]:
    """What is wrong, a sentence each; reads all of the file."""
    return [*_in_sqlites_words(db), *_differences(things_of_this_version(), things_in(db))]


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
