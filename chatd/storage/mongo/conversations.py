"""Which conversations there are in MongoDB, and who stands where in them."""

from __future__ import annotations

from typing import Final

from pymongo import ASCENDING

from chatd.models import Conversation, Place, group_conversation, group_of
from chatd.storage.mongo import groups
from chatd.storage.mongo.collections import BY_ID, MESSAGES_BY_SEQ
from chatd.storage.mongo.documents import Db, collection_of, place_of, places_in
from chatd.storage.mongo.messages import last_seq
from chatd.storage.ranges import end_of

_GROUPS: Final = group_conversation("")

_LOOKS: Final = 200
"""How many looks are safely done within the time of one call."""


async def of_groups(db: Db, prefix: str, after: str, limit: int) -> list[Conversation]:
    """Those of groups whose key starts with ``prefix`` and is greater than ``after``, ascending."""
    if not prefix.startswith(_GROUPS) and not _GROUPS.startswith(prefix):
        return []
    if after > _GROUPS and not after.startswith(_GROUPS):
        return []
    name_after = after.removeprefix(_GROUPS) if after.startswith(_GROUPS) else ""
    found = await groups.names(db, prefix[len(_GROUPS) :], name_after, limit)
    return [group_conversation(name) for name in found]


async def with_messages(db: Db, prefix: str, after: str, limit: int) -> list[Conversation]:
    """The first of those with messages, ascending, and as above; none only at the end.

    One look at the index for each: MongoDB can't skip through it and stop at a limit.
    """
    found: list[Conversation] = []
    while len(found) < min(limit, _LOOKS):
        chosen = {"$gte": prefix, "$gt": found[-1] if found else after, "$lt": end_of(prefix)}
        message = await db.messages.find_one(
            {"conversation": chosen},
            {"_id": False, "conversation": True},
            sort=[("conversation", ASCENDING)],
            hint=MESSAGES_BY_SEQ,
        )
        if message is None:
            break
        found.append(message["conversation"])
    return found


async def places(db: Db, conversation: Conversation, after: str, limit: int) -> list[Place]:
    if group_of(conversation) is None and not await last_seq(db, conversation):
        return []  # the marks of a pair that is not begun mean nothing
    collection = db[collection_of(conversation)]
    found = collection.find(places_in(conversation, after), hint=BY_ID)
    return [place_of(document) async for document in found.sort("_id", ASCENDING).limit(limit)]
