"""Whether the database is laid out as this version lays it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pymongo import IndexModel

from chatd.storage.mongo.collections import Collection, collections
from chatd.storage.mongo.documents import Db, Document


async def check(db: Db, *, sharded: bool) -> list[str]:
    """What is missing or differs, a sentence each, with how to mend it."""
    existing = {one["name"]: one async for one in await db.list_collections()}
    found: list[str] = []
    for collection in collections(sharded=sharded):
        name = collection.name
        if name not in existing:
            found.append(f"the collection {name} is missing: restart chatd, which makes it.")
        else:
            indexes = await db[name].index_information()
            found += _differences(collection, existing[name], indexes)
    return found


def _differences(
    collection: Collection, existing: Document, indexes: Mapping[str, Any]
) -> Iterator[str]:
    name = collection.name
    if existing.get("options", {}).get("validator") != {"$jsonSchema": collection.schema}:
        yield (
            f"the validator of the collection {name} is not chatd's: restart chatd, which sets it."
        )
    for wanted in collection.indexes:
        index = wanted.document["name"]
        if index not in indexes:
            yield (
                f"the index {index} of the collection {name} is missing: "
                "restart chatd, which makes it."
            )
        elif _options(indexes[index]) != _wanted(wanted):
            yield (
                f"the index {index} of the collection {name} is not as chatd makes it: "
                "drop it and restart chatd, which makes its own."
            )


def _wanted(index: IndexModel) -> dict[str, Any]:
    return _options({**index.document, "key": list(index.document["key"].items())})


def _options(index: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of an index: its keys in order, and what is set of its options."""
    return {
        name: value
        for name, value in index.items()
        if name not in {"name", "v"} and value is not False
    }
