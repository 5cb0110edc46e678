"""Groups and their members in MongoDB.

A member's document holds the member's marks, so that joining and leaving are one write each.
A group's count of members follows: counted anew after each, never added to, so that what was
broken off is right again after the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from chatd.models import (
    Group,
    GroupCursor,
    GroupSort,
    Member,
    Place,
    group_conversation,
    group_of,
)
from chatd.storage.mongo.collections import (
    BY_ID,
    GROUPS_BY_MEMBERS,
    GROUPS_BY_MESSAGES,
    MEMBERS_BY_USER,
)
from chatd.storage.mongo.documents import (
    Db,
    group_document,
    group_from,
    member_of,
    place_document,
    place_id,
    places_in,
)
from chatd.storage.mongo.messages import last_seq
from chatd.storage.ranges import end_of, within_64_bits

_INDEXES: Final = MappingProxyType(
    {
        GroupSort.NAME: BY_ID,
        GroupSort.MEMBERS: GROUPS_BY_MEMBERS,
        GroupSort.MESSAGES: GROUPS_BY_MESSAGES,
    }
)


async def create_group(db: Db, group: Group) -> bool:
    messages = await last_seq(db, group_conversation(group.name))
    try:
        await db.groups.insert_one(group_document(group, messages))
        made = True
    except DuplicateKeyError:
        made = False
    await _found(db, group.name)
    return made


async def _found(db: Db, name: str) -> None:
    """Make the founder a member, unless that has been done: a making may have broken off."""
    unfounded = {"_id": name, "founded": False}
    group = await db.groups.find_one(unfounded, hint=BY_ID)
    if group is not None:
        await join(db, name, group["created_by"], int(group["created_at"]))
        await db.groups.update_one(unfounded, {"$set": {"founded": True}}, hint=BY_ID)


async def group(db: Db, name: str) -> Group | None:
    document = await db.groups.find_one({"_id": name}, hint=BY_ID)
    return None if document is None else group_from(document)


async def list_groups(
    db: Db,
    *,
    sort: GroupSort,
    prefix: str,
    member: str | None,
    after: GroupCursor | None,
    limit: int,
) -> list[Group]:
    names: dict[str, Any] = {"$gte": prefix, "$lt": end_of(prefix)}
    index = _INDEXES[sort]
    if member is not None:
        names["$in"] = await group_names_of(db, member)
        index = BY_ID
    chosen: dict[str, Any] = {"_id": names}
    if after is not None:
        chosen = {"$and": [chosen, _behind(sort, after)]}
    order = [("_id", ASCENDING)]
    if sort is not GroupSort.NAME:
        order.insert(0, (sort.value, DESCENDING))
    found = db.groups.find(chosen, hint=index).sort(order).limit(limit)
    return [group_from(document) async for document in found]


def _behind(sort: GroupSort, after: GroupCursor) -> Mapping[str, Any]:
    """What comes behind the cursor; each branch is one range of the index."""
    behind = {"$gt": after.name}
    if sort is GroupSort.NAME:
        return {"_id": behind}
    count = within_64_bits(after.count)
    return {"$or": [{sort.value: {"$lt": count}}, {sort.value: count, "_id": behind}]}


async def group_names_of(db: Db, user: str) -> list[str]:
    found = db.members.find({"_id.user": user}, {"_id": True}, hint=MEMBERS_BY_USER)
    conversations = [one["_id"]["conversation"] async for one in found]
    return sorted(name for name in map(group_of, conversations) if name is not None)


async def names(db: Db, prefix: str, after: str, limit: int) -> list[str]:
    """Names that start with ``prefix`` and are greater than ``after``, ascending."""
    chosen = {"$gte": prefix, "$gt": after, "$lt": end_of(prefix)}
    found = db.groups.find({"_id": chosen}, {"_id": True}, hint=BY_ID)
    return [one["_id"] async for one in found.sort("_id", ASCENDING).limit(limit)]


async def join(db: Db, group: str, user: str, at: int) -> bool:
    conversation = group_conversation(group)
    if await db.groups.find_one({"_id": group}, {"_id": True}, hint=BY_ID) is not None:
        seq = await last_seq(db, conversation)
        try:
            await db.members.insert_one(place_document(Place(conversation, user, at, seq, seq)))
            joined = True
        except DuplicateKeyError:
            joined = False
        if await count(db, group):
            return joined
    # If it was deleted just now, who deleted it may not have seen this member.
    await db.members.delete_one({"_id": place_id(conversation, user)}, hint=BY_ID)
    return False


async def leave(db: Db, group: str, user: str) -> bool:
    left = await db.members.delete_one(
        {"_id": place_id(group_conversation(group), user)}, hint=BY_ID
    )
    await count(db, group, left=user)
    return left.deleted_count == 1


async def delete_group(db: Db, name: str) -> bool:
    """Members go first: without any, a group that is still there means no harm.

    And once more: somebody may have joined until the group was gone. Who joins later sees that.
    """
    members = places_in(group_conversation(name))
    await db.members.delete_many(members, hint=BY_ID)
    deleted = await db.groups.delete_one({"_id": name}, hint=BY_ID)
    await db.members.delete_many(members, hint=BY_ID)
    # If it was made anew meanwhile, its founder went with the others.
    await db.groups.update_one({"_id": name}, {"$set": {"founded": False}}, hint=BY_ID)
    await _found(db, name)
    return deleted.deleted_count == 1


async def count(db: Db, name: str, *, left: str | None = None) -> bool:
    """Count the members of a group, which ``left`` is not in any more, though it were the founder.

    False where there is no such group.

    Whoever changed the members before somebody else counted is in that count; whoever changed
    them later counts later. So the last count is right, and ``counts`` tells which is the last.
    """
    members = places_in(group_conversation(name))
    while True:
        group = await db.groups.find_one({"_id": name}, hint=BY_ID)
        if group is None:
            return False
        founded = group["founded"] or group["created_by"] == left
        counted = await db.members.count_documents(members, hint=BY_ID)
        stored = await db.groups.update_one(
            {"_id": name, "counts": group["counts"]},
            {"$set": {"members": counted, "founded": founded}, "$inc": {"counts": 1}},
            hint=BY_ID,
        )
        if stored.matched_count:
            return True


async def member(db: Db, group: str, user: str) -> Member | None:
    chosen = {"_id": place_id(group_conversation(group), user)}
    document = await db.members.find_one(chosen, hint=BY_ID)
    return None if document is None else member_of(document)


async def members(db: Db, group: str, after: str, limit: int) -> list[Member]:
    chosen = places_in(group_conversation(group), after)
    found = db.members.find(chosen, hint=BY_ID).sort("_id", ASCENDING).limit(limit)
    return [member_of(document) async for document in found]
