"""Files of every version of the schema that there was, opened by this chatd.

``released/sqlite-N.sql`` is a file of version N with a bit of everything, as SQL. A new version
adds one, made by ``python -m tests.storage.test_sqlite_upgrade FOLDER``; none is changed later.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

import pytest
from tornado.ioloop import IOLoop

from chatd.models import (
    Conversation,
    Draft,
    Duplicate,
    Group,
    Position,
    User,
    pair_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.refused import StorageRefused
from chatd.storage.sqlite import SqliteStorage, schema
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    delivered,
    read,
    stored,
)
from tests.storage.test_contract_everything import SEEN, records

RELEASED: Final = Path(__file__).parent / "released"
FILES: Final = sorted(RELEASED.glob("sqlite-*.sql"))

ERASED: Final = User("4", "erased-1a2b@erased.invalid", "!", 9)
ERASED_AND_BOB: Final = pair_conversation(ERASED.email, BOB)


def version_of(file: Path) -> int:
    return int(file.stem.removeprefix("sqlite-"))


# -- a bit of everything ---------------------------------------------------------------------------


def draft(
    number: int, conversation: Conversation, sender: str, client_id: str | None = None
) -> Draft:
    text = f"text {number}: it's “a” \\ line,\nthen 'another' 👋"
    return Draft(f"message-{number}", conversation, sender, text, number, client_id)


async def fill(storage: Storage) -> None:
    """The same in every store."""
    for number, email in enumerate((ANN, BOB, CAT), 1):
        assert await storage.create_user(User(str(number), email, f"hash {number}", number))
    await storage.create_user(ERASED)
    await storage.touch_last_seen({ANN: 7})
    await storage.set_password(CAT, "!hash 3", 2)
    await storage.create_group(Group("club", "The “Club”", ANN, 2))
    await storage.create_group(Group("empty", None, CAT, 3))
    await storage.join("club", BOB, 3)
    await storage.join("club", CAT, 4)
    for number in range(30):
        await storage.append([draft(number, CLUB, (ANN, BOB, CAT)[number % 3])])
    await storage.append(
        [
            draft(30, ANN_AND_BOB, ANN, "client-1"),
            draft(31, ANN_AND_BOB, BOB, "client-1"),
            draft(32, ANN_AND_BOB, BOB),
            draft(33, ANN_HERSELF, ANN),
            draft(34, pair_conversation(BOB, CAT), CAT, "client-2"),
        ]
    )
    await storage.advance([read(ANN, 9, CLUB), delivered(BOB, 20, CLUB), read(BOB, 1)])
    await storage.prune(CLUB, 5, 100)
    await storage.leave("club", ANN)
    await storage.reassign(CLUB, CAT, ERASED.email, blank=True)
    await storage.reassign(pair_conversation(BOB, CAT), CAT, ERASED.email, blank=False)
    await storage.revoke_token("token", 50)


async def assert_filled(storage: Storage) -> None:
    """Everything there is, and as the same contract tells it of another store."""
    expected = MemoryStorage()
    await expected.start()
    await fill(expected)
    assert await records(storage) == await records(expected)
    for see in SEEN:
        assert await see(storage) == await see(expected)
    await expected.close()


async def assert_goes_on(storage: Storage) -> None:
    repeated = [draft(31, ANN_AND_BOB, BOB, "client-1"), draft(20, CLUB, CAT)]
    first, other = await storage.append(repeated)
    assert isinstance(first, Duplicate)
    # Its text was taken away since, and its sender.
    assert not isinstance(other, Duplicate)
    outcomes = await storage.append(
        [draft(40, ANN_AND_BOB, ANN), draft(41, CLUB, BOB), draft(42, ERASED_AND_BOB, BOB)]
    )
    assert [stored(one).seq for one in outcomes] == [4, 31, 2]
    moved = await storage.advance([read(ANN, 3), read(BOB, 31, CLUB)])
    assert [(one.user, one.old, one.seq) for one in moved] == [
        (ANN, 0, 3),
        (ANN, 0, 3),
        (BOB, 20, 31),
        (BOB, 0, 31),
    ]
    assert await storage.join("club", ANN, 60)
    assert await storage.positions(ANN) == [
        Position(CLUB, 31, 31, 31),
        Position(ANN_HERSELF, 1, 0, 0),
        Position(ANN_AND_BOB, 4, 3, 3),
    ]
    assert [one.unread for one in await storage.summaries(BOB, limit=9)] == [1, 0, 1]


# -- files -----------------------------------------------------------------------------------------


def dump(path: Path) -> str:
    """All of a store's file, as SQL that makes it again."""
    with closing(sqlite3.connect(path)) as db:
        pragmas = [
            f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*pragmas, *db.iterdump(), ""])


def made_of(file: Path, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(file.read_text())
    return path


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(path)
    await storage.start()
    try:
        yield storage
    finally:
        await storage.close()


def schema_of(path: Path) -> list[tuple[str, str, str, str]]:
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file as each version made it."""
    assert isinstance(request.param, Path)
    return made_of(request.param, tmp_path / "older.db")


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    return made_of(RELEASED / "sqlite-1.sql", tmp_path / "version-1.db")


def test_there_is_a_file_of_every_version() -> None:
    assert [version_of(file) for file in FILES] == list(range(1, len(schema.MIGRATIONS) + 1))


async def test_an_older_file_has_the_schema_of_a_new_one(
    io_loop: IOLoop, older: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh.db"
    async with opened(fresh), opened(older) as storage:
        assert await storage.check() == []
    assert schema_of(older) == schema_of(fresh)
    with closing(sqlite3.connect(older)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


async def test_an_older_files_data_is_all_there(io_loop: IOLoop, older: Path) -> None:
    async with opened(older) as storage:
        await assert_filled(storage)
        epoch = await storage.epoch()
    async with opened(older) as storage:
        await assert_filled(storage)
        assert await storage.epoch() == epoch


async def test_chat_goes_on_in_an_older_file(io_loop: IOLoop, older: Path) -> None:
    async with opened(older) as storage:
        await assert_goes_on(storage)


# -- how it is done --------------------------------------------------------------------------------

VERSION_2: Final = (
    "ALTER TABLE users ADD COLUMN nickname TEXT",
    "UPDATE users SET nickname = upper(id)",
    "CREATE TABLE added (word TEXT) STRICT",
    "INSERT INTO added VALUES ('new')",
)


async def test_what_a_new_version_adds_comes_to_the_data_that_is_there(
    version_1: Path, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with a migration that leaves the version as it was."""
    monkeypatch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], VERSION_2))
    for _ in range(2):
        async with opened(version_1) as storage:
            await assert_filled(storage)
            assert await storage.check() == []
    with closing(sqlite3.connect(version_1)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT word FROM added").fetchall() == [("new",)]
        assert db.execute("SELECT min(nickname), max(nickname) FROM users").fetchone() == ("1", "4")
    async with opened(version_1) as storage:
        await assert_goes_on(storage)


@pytest.mark.parametrize("statements", [1, 2, 3, 4])
async def test_where_a_statement_fails_the_file_stays_as_it_was(
    version_1: Path, io_loop: IOLoop, monkeypatch: pytest.MonkeyPatch, statements: int
) -> None:
    """Seen to fail with a migration outside a transaction."""
    before = dump(version_1)
    broken = (*VERSION_2[:statements], "INSERT INTO missing VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], broken))
        with pytest.raises(StorageRefused, match="no such table: missing"):
            await SqliteStorage(version_1).start()
    assert dump(version_1) == before
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    async with opened(version_1) as storage:
        await assert_filled(storage)
        await assert_goes_on(storage)


# -- a file for the versions to come ---------------------------------------------------------------


async def write_down(folder: Path) -> None:
    """Write what this version makes, as the file of its number."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "chat.db"
        async with opened(path) as storage:
            await fill(storage)
        to = folder / f"sqlite-{len(schema.MIGRATIONS)}.sql"
        to.write_text(dump(path))


if __name__ == "__main__":
    asyncio.run(write_down(Path(sys.argv[1])))
