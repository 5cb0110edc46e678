"""Databases that released versions have left: the current chatd opens them, and goes on.

``released/mongo-N.json`` has what a store of schema version N is, with a bit of everything:
each collection's options, indexes and documents, as MongoDB's extended JSON. A new version's is
made by ``python -m tests.storage.test_mongo_released URL``, of a database that is not there yet.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from bson import json_util
from pymongo import MongoClient
from pymongo.database import Database
from tornado.ioloop import IOLoop

from chatd.models import (
    Duplicate,
    Group,
    GroupSort,
    Member,
    Message,
    Place,
    Position,
    RevokedToken,
    User,
    group_conversation,
    pair_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.mongo.address import address_of
from chatd.storage.mongo.schema import VERSION
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    delivered,
    draft,
    read,
    stored,
)

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]

RELEASED: Final = Path(__file__).parent / "released"
FILES: Final = sorted(RELEASED.glob("mongo-*.json"))

NOBODY: Final = "erased-1a2b@erased.invalid"
EMPTY: Final = group_conversation("empty")
BOB_AND_NOBODY: Final = pair_conversation(BOB, NOBODY)

LATE: Final = 2**42
"""A time after every test: tokens that end then are not forgotten."""

USERS: Final = (
    User("id of ann", ANN, "hash of ann", 1, generation=2, last_seen_at=9),
    User("id of bob", BOB, "!hash of bob", 2),
    User("id of nobody", NOBODY, "!", 3),
)


async def fill(storage: Storage) -> None:
    """A bit of everything, from CAT too, who is erased in the end."""
    for user in (*USERS, User("id of cat", CAT, "hash of cat", 3)):
        await storage.create_user(user)
    await storage.create_group(Group("club", "The Club", CAT, 4))
    await storage.create_group(Group("empty", None, BOB, 5))
    await storage.join("club", ANN, 6)
    await storage.join("club", BOB, 7)
    await storage.append(
        [
            draft(CLUB, (ANN, BOB, CAT)[at % 3], f"text {at}", client_id=str(at), sent_at=at)
            for at in range(10, 20)
        ]
    )
    await storage.append(
        [
            draft(ANN_AND_BOB, ANN, "hello", client_id="c", sent_at=30),
            draft(ANN_AND_BOB, BOB, "hi", sent_at=31),
            draft(ANN_AND_BOB, ANN, "how are you?", sent_at=32),
            draft(ANN_HERSELF, ANN, "a note", sent_at=33),
            draft(pair_conversation(BOB, CAT), CAT, "bye", client_id="bye", sent_at=34),
            draft(pair_conversation(BOB, CAT), BOB, "bye bye", client_id="bye", sent_at=35),
        ]
    )
    await storage.advance([read(BOB, 1), delivered(BOB, 3), read(BOB, 4, CLUB), read(ANN, 9, CLUB)])
    await storage.prune(CLUB, 13, 100)
    await storage.prune(ANN_HERSELF, 99, 100)
    await storage.leave("club", CAT)
    await storage.reassign(CLUB, CAT, NOBODY, blank=False)
    await storage.reassign(pair_conversation(BOB, CAT), CAT, NOBODY, blank=True)
    await storage.delete_user(CAT)
    await storage.revoke_token("token", LATE)


def dumped(db: Db) -> str:
    """The database as text, a line for each index and document."""
    collections = [
        f"{json_util.dumps(one['name'])}: {{\n"
        f'"options": {json_util.dumps(one["options"])},\n'
        f'"indexes": {_lines(db[one["name"]].list_indexes())},\n'
        f'"documents": {_lines(db[one["name"]].find().sort("_id"))}}}'
        for one in sorted(db.list_collections(), key=lambda one: str(one["name"]))
    ]
    return "{\n" + ",\n".join(collections) + "\n}\n"


def _lines(documents: Iterable[Mapping[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(json_util.dumps, documents)) + "\n]"


def restore(db: Db, text: str) -> None:
    for name, collection in json_util.loads(text).items():
        db.create_collection(name, **collection["options"])
        db.command("createIndexes", name, indexes=collection["indexes"])
        if collection["documents"]:
            db[name].insert_many(collection["documents"])


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
async def storage(
    request: pytest.FixtureRequest, io_loop: IOLoop, mongo_client: Client, mongo_url: str
) -> AsyncIterator[Storage]:
    restore(mongo_client[address_of(mongo_url).database], request.param.read_text("utf-8"))
    async with opened(mongo_url) as storage:
        yield storage


def test_this_version_has_left_one() -> None:
    assert RELEASED / f"mongo-{VERSION}.json" in FILES


def _texts(messages: list[Message]) -> list[tuple[int, str, str]]:
    return [(one.seq, one.sender, one.text) for one in messages]


async def test_what_a_released_version_has_left_is_all_there(
    storage: Storage, mongo_client: Client, mongo_url: str
) -> None:
    (meta,) = mongo_client[address_of(mongo_url).database].meta.find()
    assert await storage.epoch() == meta["epoch"]
    assert meta["version"] == VERSION
    assert await storage.check() == []
    assert await storage.list_users(limit=9) == sorted(USERS, key=lambda user: user.email)
    assert await storage.user_by_id("id of ann") == USERS[0]
    assert await storage.list_groups(sort=GroupSort.MESSAGES, limit=9) == [
        Group("club", "The Club", NOBODY, 4, members=2, messages=10),
        Group("empty", None, BOB, 5, members=1, messages=0),
    ]
    assert await storage.members("club", limit=9) == [
        Member("club", ANN, 6, 9, 9),
        Member("club", BOB, 7, 4, 4),
    ]
    assert await storage.group_names_of(BOB) == ["club", "empty"]
    assert await storage.conversations(limit=9) == [
        CLUB,
        EMPTY,
        ANN_HERSELF,
        ANN_AND_BOB,
        BOB_AND_NOBODY,
    ]
    assert _texts(await storage.history(CLUB, limit=9)) == [
        (at - 9, (ANN, BOB, NOBODY)[at % 3], f"text {at}") for at in range(13, 20)
    ]
    assert _texts(await storage.history(ANN_HERSELF, limit=9)) == [(1, ANN, "")]
    assert _texts(await storage.history(BOB_AND_NOBODY, limit=9)) == [
        (1, NOBODY, ""),
        (2, BOB, "bye bye"),
    ]
    hello, hi, how = await storage.history(ANN_AND_BOB, limit=9)
    assert (hello.sent_at, hello.delivered_at, hello.read_at, hello.client_id) == (30, 60, 60, "c")
    assert (hi.text, hi.delivered_at) == ("hi", None)
    assert (how.delivered_at, how.read_at) == (50, None)
    assert await storage.positions(ANN) == [
        Position(CLUB, 10, 9, 9),
        Position(ANN_HERSELF, 1, 0, 0),
        Position(ANN_AND_BOB, 3, 0, 0),
    ]
    lines = await storage.summaries(BOB, limit=9)
    assert [(one.conversation, one.unread) for one in lines] == [
        (BOB_AND_NOBODY, 1),
        (ANN_AND_BOB, 1),
        (CLUB, 4),
        (EMPTY, 0),
    ]
    assert await storage.revoked_tokens(LATE - 1) == [RevokedToken("token", LATE)]


async def test_what_a_released_version_has_left_goes_on(storage: Storage) -> None:
    (again,) = await storage.append([draft(text="hello", client_id="c")])
    assert isinstance(again, Duplicate)
    drafts = [draft(one, BOB, "new") for one in (CLUB, EMPTY, ANN_AND_BOB)]
    assert [stored(one).seq for one in await storage.append(drafts)] == [11, 1, 4]
    told = await storage.advance([read(ANN, 4), read(BOB, 11, CLUB)])
    assert [(one.user, one.old, one.seq) for one in told] == [
        *([(ANN, 0, 4)] * 2),
        *([(BOB, 4, 11)] * 2),
    ]
    (_, hi, _, new) = await storage.history(ANN_AND_BOB, limit=9)
    assert hi.read_at == new.read_at == 60
    assert await storage.join("club", NOBODY, 99)
    assert await storage.leave("club", ANN)
    found = await storage.group("club")
    assert found is not None
    assert (found.members, found.messages) == (2, 11)
    assert Place(CLUB, NOBODY, 99, 11, 11) in await storage.places(CLUB, limit=9)
    await storage.touch_last_seen({BOB: 77})
    await storage.set_password(ANN, "another", 3)
    await storage.revoke_token("another", LATE)
    assert await storage.create_user(User("id of cat", CAT, "hash", 99))
    assert await storage.prune(CLUB, 16, 100) == 3
    await storage.reassign(ANN_AND_BOB, ANN, CAT, blank=False)
    (line,) = await storage.summaries(CAT, limit=9)
    assert (line.conversation, line.last_seq, line.unread) == (pair_conversation(BOB, CAT), 4, 0)


async def _leave_one(url: str) -> None:
    async with opened(url) as storage:
        await fill(storage)
    with MongoClient[dict[str, Any]](url) as client:
        sys.stdout.write(dumped(client[address_of(url).database]))


if __name__ == "__main__":
    asyncio.run(_leave_one(sys.argv[1]))
