"""Taking records of another store over into MongoDB, over what is there under their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from bson.datetime_ms import DatetimeMS
from pymongo import ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from chatd.errors import Conflict
from chatd.models import (
    Conversation,
    Group,
    Message,
    Place,
    Record,
    User,
    group_conversation,
    group_of,
)
from chatd.storage.mongo.append import DUPLICATE_KEY
from chatd.storage.mongo.collections import BY_ID
from chatd.storage.mongo.documents import (
    Db,
    collection_of,
    group_document,
    message_document,
    place_document,
    user_document,
)

_Operation = ReplaceOne[dict[str, Any]] | UpdateOne


async def load(db: Db, records: Sequence[Record]) -> None:
    """Counts of groups are not counted by this."""
    operations: defaultdict[str, list[_Operation]] = defaultdict(list)
    for record in records:
        collection, operation = _upsert(record)
        operations[collection].append(operation)
    for collection, some in operations.items():
        try:
            await db[collection].bulk_write(some, ordered=False)
        except BulkWriteError as error:
            if not _is_taken(error):
                raise
            raise Conflict("a record with the same id is there in another place") from error


def _is_taken(error: BulkWriteError) -> bool:
    failed = (error.details or {}).get("writeErrors", ())
    return any(one["code"] == DUPLICATE_KEY for one in failed)


def _upsert(record: Record) -> tuple[str, _Operation]:
    """The collection that the record goes to, and what puts it there."""
    if isinstance(record, User):
        return "users", _replacement(user_document(record))
    if isinstance(record, Group):
        return "groups", _group(record)
    if isinstance(record, Message):
        # A sharded cluster looks on the conversation's shard.
        document = message_document(record)
        return "messages", _replacement(document, conversation=record.conversation)
    if isinstance(record, Place):
        return collection_of(record.conversation), _replacement(place_document(record))
    document = {"_id": record.id, "expires_at": DatetimeMS(record.expires_at)}
    return "revoked_tokens", _replacement(document)


def _replacement(document: dict[str, Any], **where: str) -> _Operation:
    return ReplaceOne({"_id": document["_id"], **where}, document, upsert=True, hint=BY_ID)


def _group(group: Group) -> _Operation:
    """What is counted already stays as it is."""
    document = {**group_document(group, 0), "founded": True}
    name = document.pop("_id")
    new = {key: document.pop(key) for key in ("members", "messages", "counts")}
    change: dict[str, Any] = {"$set": document, "$setOnInsert": new}
    if group.title is None:
        change["$unset"] = {"title": ""}
    return UpdateOne({"_id": name}, change, upsert=True, hint=BY_ID)


def conversations_in(records: Sequence[Record]) -> Iterator[Conversation]:
    """In which something may be written now."""
    for record in records:
        if isinstance(record, Message):
            yield record.conversation
        elif isinstance(record, Group):
            yield group_conversation(record.name)


def groups_joined_in(records: Sequence[Record]) -> list[str]:
    """The names of groups that may have other members now."""
    places = (record.conversation for record in records if isinstance(record, Place))
    return sorted({name for name in map(group_of, places) if name is not None})
