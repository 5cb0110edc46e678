"""Taking messages away in MongoDB: old ones, and those of a pair, a piece at a time.

From the front, so that what is left has no hole, wherever it breaks off. A pair's marks go behind
its messages: as long as there are any, who stands there finds them, and marks alone mean nothing.
"""

from __future__ import annotations

from typing import Final

from bson.datetime_ms import DatetimeMS
from pymongo import ASCENDING

from chatd.models import Conversation
from chatd.storage.mongo.collections import BY_ID, MARKS_BY_USER, MESSAGES_BY_SEQ
from chatd.storage.mongo.documents import Db, places_in
from chatd.storage.mongo.messages import first_seqs, last_seq, last_seqs

_PIECE: Final = 200
"""How many messages are safely changed one by one within the time of a call."""


async def prune(db: Db, conversation: Conversation, before: int, limit: int) -> int:
    front = await db.messages.find_one(
        {"conversation": conversation},
        {"_id": False, "seq": True, "sent_at": True},
        sort=[("seq", ASCENDING)],
        hint=MESSAGES_BY_SEQ,
    )
    if front is None or int(front["sent_at"]) >= before:
        return 0
    first = front["seq"]
    end = await _first_since(db, conversation, before, range(first + 1, first + limit))
    # Others may append: then this is not the last any more, and there is one behind it.
    last = await last_seq(db, conversation)
    old = {"conversation": conversation, "sent_at": {"$lt": DatetimeMS(before)}}
    removed = 0
    if first < min(end, last):
        deleted = await db.messages.delete_many(
            {**old, "seq": {"$lt": min(end, last)}}, hint=MESSAGES_BY_SEQ
        )
        removed = deleted.deleted_count
    if last < end:
        blanked = await db.messages.update_one(
            {**old, "seq": last, "text": {"$ne": ""}},
            {"$set": {"text": ""}, "$unset": {"client_id": ""}},
            hint=MESSAGES_BY_SEQ,
        )
        removed += blanked.modified_count
    return removed


async def _first_since(db: Db, conversation: Conversation, at: int, seqs: range) -> int:
    """The first of these seqs whose message was sent at that time or later, or else their end."""
    if not seqs:
        return seqs.stop
    found = await db.messages.find_one(
        {
            "conversation": conversation,
            "seq": {"$gte": seqs.start, "$lt": seqs.stop},
            "sent_at": {"$gte": DatetimeMS(at)},
        },
        {"_id": False, "seq": True},
        sort=[("seq", ASCENDING)],
        hint=MESSAGES_BY_SEQ,
    )
    return seqs.stop if found is None else int(found["seq"])


async def front_piece(db: Db, conversation: Conversation, *, last_too: bool) -> range:
    """Seqs of the first messages that are there; with or without the last of all."""
    first = (await first_seqs(db, [conversation])).get(conversation)
    if first is None:
        return range(0)
    last = await last_seq(db, conversation)
    return range(first, min(first + _PIECE, last + last_too))


async def delete_some(db: Db, conversation: Conversation, *, last_too: bool = False) -> bool:
    """Delete the first messages; whether there were any, beside the last of all."""
    seqs = await front_piece(db, conversation, last_too=last_too)
    if seqs:
        chosen = {"conversation": conversation, "seq": {"$lt": seqs.stop}}
        await db.messages.delete_many(chosen, hint=MESSAGES_BY_SEQ)
    return bool(seqs)


async def delete_rest(db: Db, conversation: Conversation) -> None:
    """Delete what `delete_some` has left of a pair, places and all."""
    there_may_be_more = True
    while there_may_be_more:
        while await delete_some(db, conversation, last_too=True):
            pass
        deleted = await db.marks.delete_many(places_in(conversation), hint=BY_ID)
        there_may_be_more = deleted.deleted_count > 0


async def delete_unbegun(db: Db, user: str) -> None:
    """Delete the marks of the user's pairs without a message: something has broken off there."""
    found = db.marks.find({"_id.user": user}, {"_id": True}, hint=MARKS_BY_USER)
    pairs = [place["_id"]["conversation"] async for place in found]
    begun = await last_seqs(db, pairs)
    for pair in pairs:
        if pair not in begun:
            await db.marks.delete_many(places_in(pair), hint=BY_ID)
