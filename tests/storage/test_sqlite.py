"""What SQLite's adapter promises beyond the contract: files, faults, and who may open them."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import Duplicate, RevokedToken, group_conversation
from chatd.storage.refused import StorageRefused
from chatd.storage.sqlite import SqliteStorage, conversations, schema
from chatd.storage.sqlite.database import Database
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    delivered,
    draft,
    drafts,
    group,
    read,
    stored,
    user,
)
from tests.storage.test_contract import CALLS

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
async def storage(io_loop: IOLoop, path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(path)
    await storage.start()
    yield storage
    await storage.close()


def database(storage: SqliteStorage) -> Database:
    assert storage._database is not None
    return storage._database


async def pragma(storage: SqliteStorage, text: str) -> Any:
    """What a pragma says on the connection that writes."""
    row = await database(storage).write(lambda db: db.execute(f"PRAGMA {text}").fetchone())
    return row[0] if row else None


@contextmanager
def writer_held_up(storage: SqliteStorage) -> Iterator[None]:
    """Inside, the writer's thread stands in the middle of a transaction that has changed things."""
    begun, go_on = threading.Event(), threading.Event()

    def work(db: sqlite3.Connection) -> None:
        schema.ping(db)
        begun.set()
        go_on.wait()

    held = asyncio.ensure_future(database(storage).write(work))
    held.get_loop().call_soon(begun.wait, 10)
    try:
        yield
    finally:
        go_on.set()


Fault = Callable[[SqliteStorage], AbstractAsyncContextManager[None]]

# -- durability ------------------------------------------------------------------------------------


async def test_the_writer_syncs_the_log_at_every_commit(storage: SqliteStorage) -> None:
    assert await pragma(storage, "journal_mode") == "wal"
    assert await pragma(storage, "synchronous") == 2  # FULL


async def test_what_was_acked_survives_kill_9(io_loop: IOLoop, path: Path) -> None:
    acked: dict[str, tuple[int, str]] = {}
    for _ in range(5):
        acked.update(acked_before_a_kill(path))
        await assert_stored(path, acked)
    assert len(acked) > 100


def acked_before_a_kill(path: Path) -> dict[str, tuple[int, str]]:
    """The seq and the conversation of each message, by id."""
    with start("tests.storage.appender", path) as process:
        assert process.stdout is not None
        # The first line says that it is under way.
        lines = [process.stdout.readline()]
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        lines += process.stdout.readlines()
    # A line that the kill cut short says nothing.
    whole = [line.rstrip("\n").split(" ", 2) for line in lines if line.endswith("\n")]
    return {message_id: (int(seq), conversation) for message_id, seq, conversation in whole}


async def assert_stored(path: Path, acked: dict[str, tuple[int, str]]) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = db.execute(
            "SELECT id, seq, key FROM messages JOIN conversations ON number = conversation"
        ).fetchall()
        counts = db.execute(
            "SELECT count(*), min(seq), max(seq) FROM messages GROUP BY conversation"
        ).fetchall()
    held = {message_id: (seq, key) for message_id, seq, key in found}
    assert acked.items() <= held.items()
    assert all(first == 1 and count == last for count, first, last in counts)
    storage = SqliteStorage(path)
    await storage.start()
    last = await storage.last_seq(ANN_AND_BOB)
    assert stored((await storage.append([draft()]))[0]).seq == last + 1
    await storage.close()


@contextmanager
def start(module: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# -- one server a file -----------------------------------------------------------------------------


async def test_a_second_server_is_refused_until_the_first_has_closed(
    storage: SqliteStorage, path: Path
) -> None:
    with pytest.raises(StorageRefused) as refused:
        await SqliteStorage(path).start()
    assert str(refused.value) == (
        f"{path} is in use by another chatd server (process {os.getpid()}): "
        "stop that one, or give this one a file of its own."
    )
    await storage.append([draft()])
    await storage.close()
    second = SqliteStorage(path)
    await second.start()
    assert await second.last_seq(ANN_AND_BOB) == 1
    await second.close()


async def test_another_path_of_the_same_file_is_the_same_file(
    storage: SqliteStorage, path: Path
) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    for other in (link, path.parent / ".." / path.parent.name / path.name):
        with pytest.raises(StorageRefused):
            await SqliteStorage(other).start()


async def test_the_lock_of_a_killed_server_is_gone_with_it(io_loop: IOLoop, path: Path) -> None:
    with start("tests.storage.appender", path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StorageRefused, match=rf"process {process.pid}\)"):
            await SqliteStorage(path).start()
        process.send_signal(signal.SIGKILL)
        process.wait()
    storage = SqliteStorage(path)
    await storage.start()
    await storage.close()


# -- files -----------------------------------------------------------------------------------------


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


async def test_only_the_owner_can_read_the_files(io_loop: IOLoop, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        storage = SqliteStorage(tmp_path / "var" / "chat.db")
        await storage.start()
        await storage.append([draft()])
        files = sorted((tmp_path / "var").iterdir())
        assert [one.name for one in files] == [
            "chat.db",
            "chat.db-lock",
            "chat.db-shm",
            "chat.db-wal",
        ]
        assert {rights(one) for one in files} == {0o600}
        assert rights(tmp_path / "var") == 0o700
        await storage.close()
    finally:
        os.umask(mask)


async def test_closing_leaves_one_whole_file(storage: SqliteStorage, path: Path) -> None:
    await storage.append([draft()])
    await storage.close()
    assert sorted(one.name for one in path.parent.iterdir()) == ["chat.db", "chat.db-lock"]


async def test_a_newer_schema_is_refused_and_left_alone(storage: SqliteStorage, path: Path) -> None:
    await storage.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = contents(path)
    with pytest.raises(StorageRefused) as refused:
        await SqliteStorage(path).start()
    assert str(refused.value) == (
        f"{path} has schema version 99, made by a newer chatd; "
        "this one knows versions up to 1: run the newer one."
    )
    assert contents(path) == before


def a_text(path: Path) -> None:
    path.write_text("Dear diary, this is no database at all.\n" * 50)


def another_programs_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE messages (text)")


def another_programs_empty_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 12345")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (a_text, "is not a chatd database, nor any SQLite database."),
        (another_programs_tables, "is a SQLite database of another program, not of chatd."),
        (another_programs_empty_database, "is a SQLite database of another program, not of chatd."),
        (Path.mkdir, "can't be opened: Is a directory ({path})."),
    ],
)
async def test_what_is_no_chatd_database_is_refused_and_left_alone(
    io_loop: IOLoop, path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(path)
    before = contents(path)
    with pytest.raises(StorageRefused) as refused:
        await SqliteStorage(path).start()
    assert str(refused.value) == f"{path} {sentence.format(path=path)}"
    assert contents(path) == before


async def test_a_folder_that_cannot_be_made_is_told(io_loop: IOLoop, path: Path) -> None:
    a_text(path)
    with pytest.raises(StorageRefused) as refused:
        await SqliteStorage(path / "chat.db").start()
    assert str(refused.value) == f"{path}/chat.db can't be opened: File exists ({path})."


async def test_a_refused_start_lets_go_of_the_file(io_loop: IOLoop, path: Path) -> None:
    a_text(path)
    storage = SqliteStorage(path)
    with pytest.raises(StorageRefused):
        await storage.start()
    os.truncate(path, 0)
    await storage.start()
    await storage.ping()
    await storage.close()


async def test_an_sqlite_without_strict_tables_is_refused(
    io_loop: IOLoop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageRefused, match=r"chatd needs 3\.37\.0 or newer"):
        await SqliteStorage(path).start()


# -- threads ---------------------------------------------------------------------------------------


async def test_a_read_does_not_wait_for_a_long_write(storage: SqliteStorage) -> None:
    await storage.append(drafts(3))
    with writer_held_up(storage):
        late = asyncio.ensure_future(storage.append([draft()]))
        for _ in range(5):
            assert len(await storage.history(ANN_AND_BOB, limit=9)) == 3
        assert not late.done()
    await late
    assert len(await storage.history(ANN_AND_BOB, limit=9)) == 4


async def test_a_reader_cannot_write(storage: SqliteStorage) -> None:
    with pytest.raises(Unavailable) as refused:
        await database(storage).read(schema.ping)
    assert "readonly" in str(refused.value.__cause__)


async def test_writes_that_wait_share_a_commit(storage: SqliteStorage) -> None:
    statements: list[str] = []
    await database(storage).write(lambda db: db.set_trace_callback(statements.append))
    statements.clear()
    with writer_held_up(storage):
        appends = [asyncio.ensure_future(storage.append([one])) for one in drafts(20)]
        advance = asyncio.ensure_future(storage.advance([delivered(BOB, 20)]))
        await asyncio.sleep(0.01)
    await asyncio.gather(advance, *appends)
    assert statements.count("COMMIT") == 2
    assert [one.delivered_at for one in await storage.history(ANN_AND_BOB, limit=30)] == [50] * 20


async def test_a_write_that_fails_takes_no_other_along(storage: SqliteStorage) -> None:
    def fail(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO conversations (key) VALUES ('half')")
        db.execute("SELECT * FROM missing")

    with writer_held_up(storage):
        before = asyncio.ensure_future(storage.append(drafts(2)))
        failing = asyncio.ensure_future(database(storage).write(fail))
        behind = asyncio.ensure_future(storage.append(drafts(2)))
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await failing
    assert [stored(one).seq for one in await before] == [1, 2]
    assert [stored(one).seq for one in await behind] == [3, 4]
    rows = await database(storage).read(
        lambda db: db.execute("SELECT key FROM conversations").fetchall()
    )
    assert rows == [(ANN_AND_BOB,)]


async def test_a_caller_that_gave_up_disturbs_nobody(storage: SqliteStorage) -> None:
    with writer_held_up(storage):
        given_up = asyncio.ensure_future(storage.append([draft()]))
        await asyncio.sleep(0.01)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        waiting = asyncio.ensure_future(storage.append([draft(CLUB)]))
    assert stored((await waiting)[0]).seq == 1
    await storage.ping()


# -- faults ----------------------------------------------------------------------------------------


def log_size(storage: SqliteStorage) -> int:
    return Path(f"{storage._path}-wal").stat().st_size


@asynccontextmanager
async def no_more_pages(storage: SqliteStorage) -> AsyncIterator[None]:
    """The database may not grow: statements fail."""
    used = await pragma(storage, "page_count")
    assert await pragma(storage, f"max_page_count = {used}") == used
    yield
    await pragma(storage, "max_page_count = 4294967294")


@asynccontextmanager
async def no_longer_log(storage: SqliteStorage) -> AsyncIterator[None]:
    """The log may not grow: commits fail, with an error of the file system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_size(storage), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fault", [no_more_pages, no_longer_log])
async def test_a_full_disk_refuses_writes_whole_serves_reads_and_heals(
    storage: SqliteStorage, fault: Fault
) -> None:
    await storage.create_group(group("club"))
    await storage.append([*drafts(3), *drafts(2, CLUB)])
    history = await storage.history(ANN_AND_BOB, limit=10)
    positions = await storage.positions(ANN)
    big = [draft(text="x" * 5000) for _ in range(50)]
    bigger = [*big, draft(CLUB), *(draft(ANN_HERSELF) for _ in range(50))]
    async with fault(storage):
        for batch in (big, bigger, big):
            with pytest.raises(Unavailable) as refused:
                await storage.append(batch)
            assert isinstance(refused.value.__cause__, sqlite3.Error)
            assert "disk" not in refused.value.detail
            assert await storage.history(ANN_AND_BOB, limit=10) == history
            assert await storage.last_seq(CLUB) == 2
            assert await storage.positions(ANN) == positions
    outcomes = await storage.append(bigger)
    assert [stored(one).seq for one in outcomes] == [*range(4, 54), 3, *range(1, 51)]
    assert await storage.append(big[:1]) == [Duplicate(stored(outcomes[0]))]
    assert await pragma(storage, "integrity_check") == "ok"


async def test_a_full_disk_fails_a_ping_and_moves_no_mark(storage: SqliteStorage) -> None:
    await storage.append(drafts(3))
    async with no_longer_log(storage):
        with pytest.raises(Unavailable):
            await storage.ping()
        with pytest.raises(Unavailable):
            await storage.advance([read(BOB, 3)])
        assert [one.read_at for one in await storage.history(ANN_AND_BOB, limit=5)] == [None] * 3
    await storage.ping()
    assert [one.seq for one in await storage.advance([read(BOB, 3)])] == [3, 3]


async def test_a_foreign_program_that_holds_the_file_makes_writes_unavailable_for_so_long(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.append([draft()])
    await pragma(storage, "busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await storage.append([draft()])
        assert await storage.last_seq(ANN_AND_BOB) == 1
        foreign.execute("ROLLBACK")
    assert stored((await storage.append([draft()]))[0]).seq == 2


# -- growth ----------------------------------------------------------------------------------------


async def test_seqs_go_on_where_the_cache_of_conversations_is_full(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MOST_KNOWN", 2)
    names = [group_conversation(f"group-{number}") for number in range(5)]
    for _ in range(3):
        await storage.append([draft(name) for name in names * 2])
        await storage.append([draft(names[0])])
    for name in names:
        found = await storage.history(name, limit=50)
        expected = 9 if name == names[0] else 6
        assert [one.seq for one in found] == list(range(1, expected + 1))


async def test_no_statement_reads_a_whole_table(storage: SqliteStorage) -> None:
    statements: set[str] = set()
    await trace(storage, statements.add)
    await storage.create_user(user(ANN))
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    await storage.append([draft(client_id="1"), draft(CLUB)])
    await storage.advance([read(BOB, 1), read(BOB, 1, CLUB), delivered(CAT, 1)])
    await storage.reassign(ANN_AND_BOB, ANN, CAT, blank=False)
    await storage.load([user(BOB), group("club"), *await storage.history(CLUB, limit=9)])
    await storage.load([*await storage.places(CLUB, limit=9), RevokedToken("1", 1)])
    await storage.append([draft()])
    for name, call in CALLS.items():
        if name != "check":  # which is there to read everything
            await call(storage)
    await trace(storage, None)
    assert len(statements) > 30
    for statement in statements - {"BEGIN IMMEDIATE", "COMMIT"}:
        for step in await plan(storage, statement):
            scanned = step.split(" ")[1] if step.startswith("SCAN ") else ""
            assert scanned not in {"messages", "marks", "users", "conversations"}, statement


async def trace(storage: SqliteStorage, callback: Callable[[str], object] | None) -> None:
    """Have each statement of every connection told."""
    both_readers = threading.Barrier(2)

    def trace_reader(db: sqlite3.Connection) -> None:
        both_readers.wait(10)
        db.set_trace_callback(callback)

    opened = database(storage)
    await asyncio.gather(opened.read(trace_reader), opened.read(trace_reader))
    await opened.write(lambda db: db.set_trace_callback(callback))


async def plan(storage: SqliteStorage, statement: str) -> list[str]:
    def explain(db: sqlite3.Connection) -> list[str]:
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]

    return await database(storage).read(explain)
