"""What SQLite's adapter finds in files that were damaged on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from chatd.storage.sqlite import SqliteStorage
from tests.storage.samples import ANN, ANN_AND_BOB, BOB, CLUB, draft, drafts, group
from tests.storage.test_sqlite import path, storage, writer_held_up

__all__ = ["path", "storage"]

DROP_BY_ID: Final = "stop chatd and run DROP INDEX messages_by_id"
BY_ID: Final = "CREATE UNIQUE INDEX messages_by_id ON messages (id)"
COUNTED: Final = (
    "stop chatd and run UPDATE marks SET own_after_read = (SELECT count(*) FROM messages"
    " WHERE messages.conversation = marks.conversation AND seq > read_seq AND sender = user)"
)
EPOCH: Final = "INSERT INTO store VALUES (lower(hex(randomblob(8))), 0)"
BY_USER: Final = "CREATE INDEX marks_by_user ON marks (user)"


async def found_in(path: Path) -> list[str]:
    storage = SqliteStorage(path)
    await storage.start()
    found = await storage.check()
    await storage.close()
    return found


def run(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


# -- what this version makes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "sentences"),
    [
        (
            "DROP INDEX messages_by_id",
            [f"the index messages_by_id is missing: stop chatd and run {BY_ID}"],
        ),
        (
            "DROP INDEX messages_by_id; CREATE INDEX messages_by_id ON messages (id)",
            [
                f"the index messages_by_id is not as this chatd makes it: {DROP_BY_ID}; {BY_ID}",
            ],
        ),
        (
            "CREATE TRIGGER spy AFTER INSERT ON messages BEGIN DELETE FROM users; END",
            ["the trigger spy is none of chatd's: stop chatd and run DROP TRIGGER spy"],
        ),
        (
            "CREATE TABLE notes (text)",
            ["the table notes is none of chatd's: stop chatd and run DROP TABLE notes"],
        ),
        (
            "UPDATE marks SET own_after_read = own_after_read + 2",
            [
                f"{user} in {ANN_AND_BOB} counts {counted} messages of their own as not read, and"
                f" has {own}: {COUNTED}"
                for user, counted, own in ((ANN, 7, 5), (BOB, 2, 0))
            ],
        ),
        ("DELETE FROM store", [f"the table store is empty: stop chatd and run {EPOCH}"]),
    ],
)
async def test_what_is_not_as_it_should_be_is_named_and_mended_as_the_sentence_says(
    storage: SqliteStorage, path: Path, harm: str, sentences: list[str]
) -> None:
    """Seen to fail with a check that asks SQLite alone."""
    await storage.append(drafts(5))
    await storage.close()
    assert await found_in(path) == []
    run(path, harm)
    found = await found_in(path)
    assert found == sentences
    for sentence in found:
        run(path, sentence.partition(" and run ")[2])
    assert await found_in(path) == []


@pytest.mark.parametrize(
    ("harm", "sentences"),
    [
        (
            "ALTER TABLE users ADD COLUMN nickname TEXT",
            ["the table users is not as this chatd makes it: put a backup back"],
        ),
        (
            "DROP TABLE marks",
            [
                "the table marks is missing: put a backup back",
                f"the index marks_by_user is missing: stop chatd and run {BY_USER}",
            ],
        ),
        (
            "DELETE FROM conversations",
            [
                f"the table {table} has {rows} rows of conversation 1, of which there is none:"
                " put a backup back"
                for table, rows in (("messages", 5), ("marks", 2))
            ],
        ),
    ],
)
async def test_what_only_a_backup_mends_is_told_so(
    storage: SqliteStorage, path: Path, harm: str, sentences: list[str]
) -> None:
    """Seen to fail with what SQLite knows nothing of left out of ``check``."""
    await storage.append(drafts(5))
    await storage.close()
    run(path, harm)
    assert await found_in(path) == sentences


async def test_what_sqlite_keeps_for_itself_is_no_finding(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.append(drafts(5))
    await storage.close()
    run(path, "ANALYZE")
    assert await found_in(path) == []


# -- what SQLite finds -----------------------------------------------------------------------------


def row_missing_from_an_index(path: Path) -> None:
    """While SQLite knows nothing of an index, a row is stored that is not in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        index = "SELECT * FROM sqlite_master WHERE name = 'messages_by_id'"
        (row,) = db.execute(index).fetchall()
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'messages_by_id'")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE messages SET id = 'another' WHERE seq = 3")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


def page_of(path: Path, table: str) -> int:
    """Where the root of a table begins in the file, in bytes."""
    with closing(sqlite3.connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        return (int(page[0]) - 1) * int(size)


def page_overwritten(path: Path) -> None:
    at = page_of(path, "messages")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 512)


def number_of_a_page_overwritten(path: Path) -> None:
    """The last child of the table's root is a page that there is not."""
    at = page_of(path, "messages")
    with path.open("r+b") as file:
        file.seek(at + 8)
        file.write((2**31 - 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (row_missing_from_an_index, "row 3 missing from index messages_by_id"),
        (page_overwritten, "malformed"),
        (number_of_a_page_overwritten, "invalid page number 2147483647"),
    ],
)
async def test_damage_is_told_in_sqlites_words(
    storage: SqliteStorage, path: Path, damage: Callable[[Path], None], words: str
) -> None:
    """Seen to fail with a check that compares the schema alone."""
    await storage.create_group(group("club"))
    for _ in range(20):
        await storage.append([*drafts(30, CLUB), draft(text="x" * 1000)])
    await storage.close()
    assert await found_in(path) == []
    damage(path)
    found = await found_in(path)
    assert [one for one in found if words in one], found
    for one in found:
        assert one.startswith("SQLite says: ")
        assert one.endswith("; put a backup back")
        assert "***" not in one


async def test_a_check_waits_for_no_writer(storage: SqliteStorage) -> None:
    await storage.append(drafts(5))
    with writer_held_up(storage):
        assert await storage.check() == []
