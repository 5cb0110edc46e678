"""Taking away from a SQLite store that live chat uses meanwhile: in pieces, each of them right."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

import pytest

from chatd.errors import Unavailable
from chatd.models import (
    Conversation,
    Group,
    Message,
    Position,
    group_conversation,
    pair_conversation,
    pair_of,
)
from chatd.storage.base import Storage
from chatd.storage.sqlite import SqliteStorage, reassign, removal
from tests.counts import Scale
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
)
from tests.storage.test_sqlite import database, path, storage, writer_held_up

__all__ = ["path", "storage"]

NOBODY: Final = "nobody@example.org"
NOBODY_AND_BOB: Final = pair_conversation(NOBODY, BOB)

PIECE: Final = 10


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "AT_ONCE", PIECE)
    monkeypatch.setattr(reassign, "AT_ONCE", PIECE)


# -- what must hold after every transaction --------------------------------------------------------

_WRONG_COUNTS: Final = """
    SELECT key, user, own_after_read, counted FROM (
        SELECT marks.*, (
            SELECT count(*) FROM messages
            WHERE messages.conversation = marks.conversation AND sender = user AND seq > read_seq
        ) AS counted
        FROM marks
    ) JOIN conversations ON number = conversation
    WHERE own_after_read <> counted
    UNION ALL
    SELECT key, 'everybody', members || ' ' || messages, counted FROM (
        SELECT groups.*,
            (SELECT count(*) FROM marks WHERE marks.conversation = groups.conversation)
            || ' ' || coalesce(
                (SELECT max(seq) FROM messages WHERE messages.conversation = groups.conversation), 0
            ) AS counted
        FROM groups
    ) JOIN conversations ON number = conversation
    WHERE members || ' ' || messages <> counted
"""


async def assert_right(storage: SqliteStorage) -> None:
    """The counts are those of the rows, and the writer knows of the file what is there."""

    def look(db: sqlite3.Connection) -> None:
        assert db.execute(_WRONG_COUNTS).fetchall() == []
        for key, known in storage._conversations._known.items():
            there = db.execute("SELECT number FROM conversations WHERE key = ?", (key,))
            assert there.fetchone() == (known.number,), key
            last = db.execute(
                "SELECT coalesce(max(seq), 0) FROM messages WHERE conversation = ?", (known.number,)
            )
            assert last.fetchone() == (known.last_seq,), key
        for table in ("messages", "marks", "groups"):
            strays = f"SELECT conversation FROM {table} EXCEPT SELECT number FROM conversations"
            assert db.execute(strays).fetchall() == [], table

    await database(storage).write(look)


@asynccontextmanager
async def refused_when(storage: SqliteStorage, when: str) -> AsyncIterator[None]:
    """Inside, what a trigger's words tell is refused, and with it the whole transaction."""

    def make(db: sqlite3.Connection) -> None:
        db.execute(f"CREATE TRIGGER refusal {when} BEGIN SELECT RAISE(ABORT, 'refused'); END")

    await database(storage).write(make)
    yield
    await database(storage).write(lambda db: db.execute("DROP TRIGGER refusal"))


async def senders(storage: Storage, conversation: Conversation) -> list[str]:
    return [one.sender for one in await storage.history(conversation, limit=1000)]


# -- a long conversation ---------------------------------------------------------------------------


async def test_live_messages_are_stored_while_a_long_conversation_is_reassigned(
    storage: SqliteStorage,
) -> None:
    """Seen to fail with the whole conversation in one transaction."""
    await storage.create_group(group("club"))
    await storage.append(drafts(30 * PIECE, CLUB))
    reassigned = asyncio.ensure_future(storage.reassign(CLUB, ANN, NOBODY, blank=False))
    live = 0
    while not reassigned.done():
        (outcome,) = await storage.append([draft(CLUB, BOB)])
        live += 1
        assert stored(outcome).seq == 30 * PIECE + live
    await reassigned
    assert live >= 10
    assert await senders(storage, CLUB) == [NOBODY] * 30 * PIECE + [BOB] * live
    await assert_right(storage)


async def test_live_messages_are_stored_while_a_long_pair_is_deleted(
    storage: SqliteStorage,
) -> None:
    """Seen to fail with the whole conversation in one transaction."""
    await storage.append(drafts(30 * PIECE))
    deleted = asyncio.ensure_future(storage.delete_conversation(ANN_AND_BOB))
    live = 0
    while not deleted.done():
        await storage.append([draft(CLUB, BOB)])
        live += 1
    await deleted
    assert live >= 10
    assert await storage.conversations(limit=5) == [CLUB]
    await assert_right(storage)


# -- broken off ------------------------------------------------------------------------------------


async def meanwhile(storage: Storage, conversation: Conversation) -> None:
    """What may happen to a conversation that is half reassigned."""
    await storage.append([draft(conversation, BOB), draft(conversation, BOB)])
    await storage.advance([read(ANN, 33, conversation), read(BOB, 12, conversation)])
    await storage.prune(conversation, 4, 100)
    await storage.append([draft(conversation, BOB)])


@pytest.mark.parametrize("conversation", [CLUB, ANN_AND_BOB])
async def test_a_reassignment_that_broke_off_goes_on_when_it_is_asked_for_again(
    storage: SqliteStorage, path: Path, conversation: Conversation
) -> None:
    """Seen to fail with a pair that is renamed by its first piece, and with marks of the author
    that stay where they stood when it began."""
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    await storage.append(
        [draft(conversation, (ANN, BOB)[at % 2], f"at {at}", sent_at=at) for at in range(1, 51)]
    )
    async with refused_when(storage, "BEFORE UPDATE OF sender ON messages WHEN NEW.seq > 25"):
        with pytest.raises(Unavailable):
            await storage.reassign(conversation, ANN, NOBODY, blank=True)
    assert NOBODY in await senders(storage, conversation)
    assert ANN in await senders(storage, conversation)
    assert conversation in [one.conversation for one in await storage.positions(ANN)]
    await assert_right(storage)
    await meanwhile(storage, conversation)
    await assert_right(storage)
    await storage.close()

    again = SqliteStorage(path)
    await again.start()
    await again.reassign(conversation, ANN, NOBODY, blank=True)
    await assert_right(again)
    there = CLUB if conversation == CLUB else NOBODY_AND_BOB
    found = await again.history(there, limit=100)
    assert [one.seq for one in found] == list(range(4, 54))
    assert {(one.sender, one.text == "") for one in found} == {(NOBODY, True), (BOB, False)}
    assert await again.written_by(ANN, conversation, limit=5) == []
    if conversation == ANN_AND_BOB:
        assert ANN_AND_BOB not in [one.conversation for one in await again.positions(ANN)]
        assert await again.positions(NOBODY) == [Position(NOBODY_AND_BOB, 53, 33, 33)]
    (summary,) = [one for one in await again.summaries(BOB, limit=5) if one.conversation == there]
    assert summary.unread == sum(one.sender == NOBODY and one.seq > 12 for one in found)
    await again.close()


async def test_a_caller_that_gave_up_leaves_whole_pieces(storage: SqliteStorage) -> None:
    await storage.append(drafts(30 * PIECE))
    with writer_held_up(storage):
        given_up = asyncio.ensure_future(storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False))
        await asyncio.sleep(0.01)
        behind = asyncio.ensure_future(storage.append([draft(CLUB)]))
    await behind
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await storage.ping()
    await assert_right(storage)
    changed = len(await storage.written_by(NOBODY, ANN_AND_BOB, limit=1000))
    assert 0 < changed < 30 * PIECE
    assert changed % PIECE == 0
    await storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False)
    assert await senders(storage, NOBODY_AND_BOB) == [NOBODY] * 30 * PIECE
    await assert_right(storage)


async def test_a_deletion_that_broke_off_goes_on_when_it_is_asked_for_again(
    storage: SqliteStorage,
) -> None:
    await storage.append([draft(sender=(ANN, BOB)[number % 2]) for number in range(50)])
    async with refused_when(storage, "BEFORE DELETE ON messages WHEN OLD.seq = 25"):
        with pytest.raises(Unavailable):
            await storage.delete_conversation(ANN_AND_BOB)
    assert [one.seq for one in await storage.history(ANN_AND_BOB, limit=99)] == [*range(21, 51)]
    await assert_right(storage)
    assert stored((await storage.append([draft()]))[0]).seq == 51
    await storage.delete_conversation(ANN_AND_BOB)
    assert await storage.conversations(limit=5) == []
    assert await storage.positions(BOB) == []
    assert stored((await storage.append([draft()]))[0]).seq == 1
    await assert_right(storage)


# -- transactions that are undone ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "when"),
    [
        (
            lambda store: store.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False),
            "AFTER UPDATE ON conversations",
        ),
        (lambda store: store.delete_conversation(ANN_AND_BOB), "AFTER DELETE ON conversations"),
        (lambda store: store.delete_group("empty"), "AFTER DELETE ON conversations"),
        (
            lambda store: store.load([Message("new", ANN_AND_BOB, 4, ANN, "new", 1)]),
            "AFTER INSERT ON messages",
        ),
    ],
    ids=["reassign", "delete_conversation", "delete_group", "load"],
)
async def test_what_failed_never_was(
    storage: SqliteStorage, change: Callable[[Storage], Awaitable[object]], when: str
) -> None:
    empty = group_conversation("empty")
    await storage.create_group(group("empty"))
    await storage.append(drafts(3))
    before = await storage.history(ANN_AND_BOB, limit=9)
    async with refused_when(storage, when):
        with pytest.raises(Unavailable):
            await change(storage)
    await assert_right(storage)
    assert await storage.history(ANN_AND_BOB, limit=9) == before
    assert await storage.conversations(limit=9) == [empty, ANN_AND_BOB]
    outcomes = await storage.append([draft(), draft(empty)])
    assert [stored(one).seq for one in outcomes] == [4, 1]
    await assert_right(storage)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_name_is_another_conversation_from_the_rename_on(
    storage: SqliteStorage, *, broken: bool
) -> None:
    """Seen to fail with a cache that keeps the renamed pair, and, broken, with one that outlives
    the transaction."""

    def fail(db: sqlite3.Connection) -> None:
        if broken:
            db.execute("SELECT * FROM missing")

    await storage.append([draft(sender=BOB), draft()])
    # All of it shares one transaction; where the last fails, each runs again by itself.
    with writer_held_up(storage):
        before = asyncio.ensure_future(storage.append([draft(text="before")]))
        renamed = asyncio.ensure_future(storage.reassign(ANN_AND_BOB, ANN, NOBODY, blank=False))
        behind = asyncio.ensure_future(storage.append([draft(text="behind"), draft()]))
        failing = asyncio.ensure_future(database(storage).write(fail))
        await asyncio.sleep(0.01)
    await asyncio.gather(before, renamed, behind, failing, return_exceptions=True)
    assert isinstance(failing.exception(), Unavailable) == broken
    assert [stored(one).seq for one in before.result()] == [3]
    assert [stored(one).seq for one in behind.result()] == [1, 2]
    await assert_right(storage)
    assert await senders(storage, NOBODY_AND_BOB) == [BOB, NOBODY, NOBODY]
    outcomes = await storage.append([draft(), draft(NOBODY_AND_BOB, BOB)])
    assert [stored(one).seq for one in outcomes] == [3, 4]
    await assert_right(storage)


async def test_a_number_that_is_given_again_is_another_conversations(
    storage: SqliteStorage,
) -> None:
    """Seen to fail with a cache that keeps what was deleted."""
    await storage.create_group(group("club"))
    await storage.append(drafts(3))
    await storage.delete_conversation(ANN_AND_BOB)
    await storage.append([draft(ANN_HERSELF)])
    assert stored((await storage.append([draft()]))[0]).seq == 1
    await storage.delete_group("club")
    assert await storage.create_group(Group("other", None, ANN, 1))
    assert stored((await storage.append([draft(CLUB)]))[0]).seq == 1
    await assert_right(storage)


async def test_what_is_loaded_goes_on_where_the_writer_knew_the_conversation(
    storage: SqliteStorage,
) -> None:
    """Seen to fail with a cache that keeps what it knew."""
    await storage.append(drafts(3))
    await storage.load([Message("loaded", ANN_AND_BOB, 4, BOB, "text", 1)])
    assert stored((await storage.append([draft()]))[0]).seq == 5


# -- any order of things ---------------------------------------------------------------------------

CONVERSATIONS: Final = (CLUB, ANN_AND_BOB, ANN_HERSELF, pair_conversation(BOB, CAT))


async def do_something(storage: SqliteStorage, chance: Random) -> None:
    conversation = chance.choice(CONVERSATIONS)
    user, other = chance.sample(pair_of(conversation) or (ANN, BOB, CAT), 2)
    seq = chance.randint(1, 1 + await storage.last_seq(conversation))
    at = chance.randint(1, 12)
    places = await storage.places(conversation, limit=9)
    deeds: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.append([draft(conversation, user, sent_at=at) for _ in range(2 * at)]),
        lambda: storage.append([draft(conversation, other, sent_at=9)]),
        lambda: storage.advance([read(user, seq, conversation)]),
        lambda: storage.advance([delivered(other, seq, conversation)]),
        lambda: storage.prune(conversation, at, seq),
        lambda: storage.create_group(group("club")),
        lambda: storage.join("club", user, 1),
        lambda: storage.leave("club", other),
        lambda: reassign_in_parts(storage, conversation, user, chance),
        lambda: storage.load(places),
    ]
    seldom: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.delete_group("club"),
        lambda: storage.delete_conversation(ANN_AND_BOB),
    ]
    await chance.choice(seldom if chance.random() < 0.03 else deeds)()


async def reassign_in_parts(
    storage: SqliteStorage, conversation: Conversation, user: str, chance: Random
) -> None:
    author = f"nobody-{chance.getrandbits(32)}@example.org"
    seq = chance.randint(1, 60)
    async with refused_when(storage, f"BEFORE UPDATE OF sender ON messages WHEN NEW.seq > {seq}"):
        with suppress(Unavailable):
            await storage.reassign(conversation, user, author, blank=chance.random() < 0.5)
    await assert_right(storage)
    if chance.random() < 0.5:
        await storage.reassign(conversation, user, author, blank=False)


async def test_whatever_is_done_the_counts_are_those_of_the_rows(
    storage: SqliteStorage, chance: Random, scale: Scale
) -> None:
    """Seen to fail with removed messages that stay counted."""
    for _ in range(scale(300, 5000)):
        await do_something(storage, chance)
        await assert_right(storage)
