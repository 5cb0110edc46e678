"""What MongoDB's adapter finds wrong with its database's layout, and how it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from pymongo import ASCENDING, MongoClient
from pymongo.database import Database
from tornado.ioloop import IOLoop

from chatd.storage.base import Storage
from chatd.storage.mongo.address import address_of
from tests.storage.openings import opened
from tests.storage.test_mongo import INDEXES

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


@pytest.fixture
def db(mongo_client: Client, mongo_url: str) -> Db:
    return mongo_client[address_of(mongo_url).database]


async def _assert_mended(storage: Storage, url: str) -> None:
    """A restart has mended it, as was said."""
    async with opened(url) as another:
        assert await another.check() == []
    assert await storage.check() == []


@pytest.mark.parametrize("collection", [name for name in INDEXES if name != "meta"])
async def test_a_missing_collection_is_named(
    storage: Storage, mongo_url: str, db: Db, collection: str
) -> None:
    db.drop_collection(collection)
    assert await storage.check() == [
        f"the collection {collection} is missing: restart chatd, which makes it."
    ]
    await _assert_mended(storage, mongo_url)


@pytest.mark.parametrize("collection", INDEXES)
async def test_another_validator_is_told(
    storage: Storage, mongo_url: str, db: Db, collection: str
) -> None:
    told = (
        f"the validator of the collection {collection} is not chatd's: "
        "restart chatd, which sets it."
    )
    db.command("collMod", collection, validator={"_id": {"$exists": True}})
    assert await storage.check() == [told]
    db.command("collMod", collection, validator={})
    assert await storage.check() == [told]
    await _assert_mended(storage, mongo_url)


@pytest.mark.parametrize(
    ("collection", "index"), [(name, index) for name in INDEXES for index in INDEXES[name]]
)
async def test_a_missing_index_is_named(
    storage: Storage, mongo_url: str, db: Db, collection: str, index: str
) -> None:
    db[collection].drop_index(index)
    (told,) = await storage.check()
    assert told == (
        f"the index {index} of the collection {collection} is missing: "
        "restart chatd, which makes it."
    )
    await _assert_mended(storage, mongo_url)


BY_CLIENT_ID = [("sender", ASCENDING), ("client_id", ASCENDING)]
HAS_ONE = {"client_id": {"$exists": True}}


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        (BY_CLIENT_ID, {"unique": True}),
        (BY_CLIENT_ID, {"partialFilterExpression": HAS_ONE}),
        (BY_CLIENT_ID[::-1], {"unique": True, "partialFilterExpression": HAS_ONE}),
        (BY_CLIENT_ID, {"unique": True, "partialFilterExpression": HAS_ONE, "hidden": True}),
    ],
    ids=["not partial", "not unique", "other order", "hidden"],
)
async def test_an_index_that_differs_is_named(
    storage: Storage,
    mongo_url: str,
    db: Db,
    keys: Sequence[tuple[str, int]],
    options: Mapping[str, Any],
) -> None:
    index = "messages_by_client_id"
    db.messages.drop_index(index)
    db.messages.create_index(keys, name=index, **options)
    (told,) = await storage.check()
    assert told == (
        f"the index {index} of the collection messages is not as chatd makes it: "
        "drop it and restart chatd, which makes its own."
    )
    db.messages.drop_index(index)
    await _assert_mended(storage, mongo_url)


async def test_indexes_and_collections_of_an_administrators_own_are_no_matter(
    storage: Storage, db: Db
) -> None:
    db.messages.create_index([("sent_at", ASCENDING)], name="mine")
    db["notes"].insert_one({"text": "mine"})
    assert await storage.check() == []


async def test_everything_that_is_wrong_is_told(storage: Storage, db: Db) -> None:
    db.users.drop_index("users_by_id")
    db.command("collMod", "users", validator={})
    db.drop_collection("marks")
    assert len(await storage.check()) == 3
