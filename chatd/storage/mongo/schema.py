"""Laying down the database: whose it is, its version, its collections and their indexes."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from pymongo.errors import CollectionInvalid, OperationFailure
from pymongo.read_concern import ReadConcern

from chatd.errors import Unavailable
from chatd.storage.mongo.collections import BY_ID, Collection, collections
from chatd.storage.mongo.connection import Deployment
from chatd.storage.mongo.documents import Db, Document
from chatd.storage.refused import StorageRefused

VERSION: Final = 1
"""The version of the documents and indexes; a database with a newer one is refused."""

STORE: Final = "chatd"
"""The ``_id`` of the one document of ``meta``."""

_NAMESPACE_EXISTS: Final = 48
_OTHER_INDEX: Final = frozenset({85, 86})
"""Error codes of MongoDB: NamespaceExists; IndexOptionsConflict and IndexKeySpecsConflict."""


async def prepare(db: Db, deployment: Deployment) -> None:
    """Make what is missing, and bring up to date what has changed; may be repeated.

    Raises `StorageRefused` where the database is not chatd's, or a newer chatd's.
    """
    wanted = collections(sharded=deployment.sharded)
    existing = {one["name"]: one async for one in await db.list_collections()}
    store = await _store(db, existing.keys() & {one.name for one in wanted})
    if store["version"] > VERSION:
        raise StorageRefused(
            f"the database {db.name} has schema version {store['version']}, made by a newer chatd; "
            f"this one knows versions up to {VERSION}: run the newer one."
        )
    prepared = await asyncio.gather(
        *(_prepare(db, one, existing.get(one.name)) for one in wanted), return_exceptions=True
    )
    for failure in filter(None, prepared):
        raise failure


async def _store(db: Db, ours: set[str]) -> Document:
    """The document that says whose database this is; made before anything else.

    ``ours``: which collections with names of chatd's there are.
    """
    # What another server has written just now, a majority need not have yet.
    meta = db.get_collection("meta", read_concern=ReadConcern("local"))
    store = await meta.find_one({"_id": STORE}, hint=BY_ID) if "meta" in ours else None
    if store is not None:
        return store
    if ours - {"meta"} or ("meta" in ours and await meta.find_one({}, hint=BY_ID)):
        raise StorageRefused(
            f"the database {db.name} holds {', '.join(sorted(ours))} of another program: "
            "name a database of chatd's own, as in mongodb://HOST/DATABASE."
        )
    new = {"version": VERSION, "epoch": secrets.token_hex(8), "pings": 0}
    await meta.update_one({"_id": STORE}, {"$setOnInsert": new}, upsert=True)
    store = await meta.find_one({"_id": STORE}, hint=BY_ID)
    assert store is not None, "it was written just now, and nobody deletes it"
    return store


async def _prepare(db: Db, collection: Collection, existing: Document | None) -> None:
    validator = {"$jsonSchema": collection.schema}
    if existing is None:
        try:
            await db.create_collection(collection.name, validator=validator)
        except (CollectionInvalid, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code != _NAMESPACE_EXISTS:
                raise
            existing = {}  # another server has made it just now, or `_store` has
    if existing is not None and existing.get("options", {}).get("validator") != validator:
        await db.command("collMod", collection.name, validator=validator)
    if collection.indexes:
        await _make_indexes(db, collection)


async def _make_indexes(db: Db, collection: Collection) -> None:
    try:
        await db[collection.name].create_indexes(list(collection.indexes))
    except OperationFailure as error:
        if error.code not in _OTHER_INDEX:
            raise
        raise StorageRefused(
            f"the database {db.name} has another index on {collection.name} than chatd makes; "
            f"drop it, and chatd makes its own. MongoDB says: {(error.details or {}).get('errmsg')}"
        ) from error


async def epoch(db: Db) -> str:
    store = await db.meta.find_one({"_id": STORE}, hint=BY_ID)
    if store is None:
        raise Unavailable("the message store has lost its beginning: its database was dropped")
    return str(store["epoch"])


async def ping(db: Db) -> None:
    """Change something, and have a majority confirm it."""
    await db.meta.update_one({"_id": STORE}, {"$inc": {"pings": 1}}, hint=BY_ID)
