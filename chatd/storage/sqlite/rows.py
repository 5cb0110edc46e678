"""Many rows in and out of SQLite in one call each.

Every call into SQLite, and every row fetched, lets go of the GIL and has to win it back from a
busy event loop, which can take milliseconds. So rows come back as one JSON array, decoded
straight into the models, and go in as one JSON array for ``json_each``, or as many ``VALUES``
in one statement where it has to be fastest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")
Row = tuple[str | int | None, ...]

_CHUNK: Final = 64


class Rows(msgspec.Struct, frozen=True):
    """Places for many rows behind ``statement VALUES``: one text for each size of a chunk."""

    texts: Mapping[int, str]

    @classmethod
    def of(cls, statement: str, width: int) -> Rows:
        row = f"({', '.join('?' * width)})"
        sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= _CHUNK]
        return cls({size: f"{statement} VALUES {', '.join([row] * size)}" for size in sizes})

    def insert(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        for chunk in _chunks(rows):
            db.execute(self.texts[len(chunk)], [value for row in chunk for value in row])


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut into few sizes, so that the few statements stay prepared."""
    start, size = 0, _CHUNK
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size


def as_json(value: object) -> str:
    """A value to be bound for ``json_each``."""
    return msgspec.json.encode(value).decode()


def fetch(
    db: sqlite3.Connection,
    decoder: msgspec.json.Decoder[T],
    sql: str,
    values: Mapping[str, Any],
) -> T:
    """The one value of the one row that ``sql`` selects, which is JSON."""
    (text,) = db.execute(sql, values).fetchone()
    return decoder.decode(text)
