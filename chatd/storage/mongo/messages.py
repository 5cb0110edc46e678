"""Reading messages and conversations in MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING

from chatd.models import Conversation, Message, Place, Position, Summary, SummaryCursor
from chatd.storage.mongo.collections import (
    BY_ID,
    MARKS_BY_USER,
    MEMBERS_BY_USER,
    MESSAGES_BY_SENDER,
    MESSAGES_BY_SEQ,
)
from chatd.storage.mongo.documents import Db, Document, message_of, place_of
from chatd.storage.ranges import ENDLESS, within_64_bits

_TOGETHER: Final = 1000
"""How many conversations one query asks for."""


async def history(
    db: Db,
    conversation: Conversation,
    after_seq: int | None,
    before_seq: int | None,
    limit: int,
) -> list[Message]:
    behind = 0 if after_seq is None else within_64_bits(after_seq)
    end = ENDLESS if before_seq is None else within_64_bits(before_seq)
    chosen = {"conversation": conversation, "seq": {"$gt": behind, "$lt": end}}
    direction = DESCENDING if after_seq is None else ASCENDING
    found = db.messages.find(chosen, hint=MESSAGES_BY_SEQ).sort("seq", direction).limit(limit)
    messages = [message_of(document) async for document in found]
    return messages[::-1] if after_seq is None else messages


async def written_by(
    db: Db, user: str, conversation: Conversation, after_seq: int, limit: int
) -> list[Message]:
    behind = {"$gt": within_64_bits(after_seq)}
    chosen = {"conversation": conversation, "sender": user, "seq": behind}
    found = db.messages.find(chosen, hint=MESSAGES_BY_SENDER).sort("seq", ASCENDING).limit(limit)
    return [message_of(document) async for document in found]


async def message(db: Db, message_id: str) -> Message | None:
    document = await db.messages.find_one({"_id": message_id}, hint=BY_ID)
    return None if document is None else message_of(document)


async def last_seq(db: Db, conversation: Conversation) -> int:
    found = await last_seqs(db, [conversation])
    return found.get(conversation, 0)


async def last_seqs(db: Db, conversations: Iterable[Conversation]) -> dict[Conversation, int]:
    """The last seq of each conversation in which something was written."""
    return {one["_id"]: one["seq"] async for one in _end_messages(db, conversations, "seq")}


async def first_seqs(db: Db, conversations: Iterable[Conversation]) -> dict[Conversation, int]:
    """The first seq that is still there, of each conversation in which something was written."""
    found = _end_messages(db, conversations, "seq", direction=ASCENDING)
    return {one["_id"]: one["seq"] async for one in found}


async def _end_messages(
    db: Db, conversations: Iterable[Conversation], *fields: str, direction: int = DESCENDING
) -> AsyncIterator[Document]:
    """``fields`` of the last message of each conversation, whose key is ``_id``; or of the first.

    MongoDB skips through the index: one look for each conversation, however long it is.
    """
    group = {"_id": "$conversation", **{field: {"$first": f"${field}"} for field in fields}}
    remaining = iter(conversations)
    while some := list(islice(remaining, _TOGETHER)):
        pipeline: list[dict[str, Any]] = [
            {"$match": {"conversation": {"$in": some}}},
            {"$sort": {"conversation": direction, "seq": direction}},
            {"$group": group},
        ]
        async for document in db.messages.aggregate(pipeline, hint=MESSAGES_BY_SEQ):
            yield document


async def _places(db: Db, user: str) -> list[Place]:
    """Where the user stands, by conversation ascending: groups come before pairs."""
    return [
        place_of(document)
        for collection, index in ((db.members, MEMBERS_BY_USER), (db.marks, MARKS_BY_USER))
        async for document in collection.find({"_id.user": user}, hint=index).sort(
            [("_id.user", ASCENDING), ("_id.conversation", ASCENDING)]
        )
    ]


def _is_begun(place: Place, last_seq: int) -> bool:
    """A pair's marks are made just before its first message, and alone they mean nothing."""
    return last_seq > 0 or place.conversation.startswith("g:")


async def positions(db: Db, user: str) -> list[Position]:
    places = await _places(db, user)
    last = await last_seqs(db, (place.conversation for place in places))
    return [
        Position(place.conversation, seq, place.delivered_seq, place.read_seq)
        for place in places
        if _is_begun(place, seq := last.get(place.conversation, 0))
    ]


async def summaries(db: Db, user: str, after: SummaryCursor | None, limit: int) -> list[Summary]:
    places = await _places(db, user)
    conversations = (place.conversation for place in places)
    last = {
        one["_id"]: (one["seq"], int(one["sent_at"]))
        async for one in _end_messages(db, conversations, "seq", "sent_at")
    }
    lines = [
        _Line(place, seq, at)
        for place in places
        for seq, at in [last.get(place.conversation, (0, place.joined_at))]
        if _is_begun(place, seq)
    ]
    if after is not None:
        behind = (-after.active_at, after.conversation)
        lines = [line for line in lines if line.rank > behind]
    page = sorted(lines, key=lambda line: line.rank)[:limit]
    messages = await _messages_at(db, page)
    unread = [line for line in page if line.place.read_seq < line.last_seq]
    first = await first_seqs(db, (line.place.conversation for line in unread))
    own = await _own_unread(db, user, unread)
    return [line.summary(messages, first, own) for line in page]


class _Line:
    """A conversation on its way to a `Summary`."""

    def __init__(self, place: Place, last_seq: int, active_at: int) -> None:
        self.place = place
        self.last_seq = last_seq
        self.active_at = active_at
        self.rank = (-active_at, place.conversation)

    def summary(
        self,
        messages: dict[Conversation, Message],
        first: dict[Conversation, int],
        own: dict[Conversation, int],
    ) -> Summary:
        conversation, read_seq = self.place.conversation, self.place.read_seq
        # A mark is beyond the end while the last message of a pair is on its way to another key.
        unread = max(0, self.last_seq - max(read_seq, first.get(conversation, 1) - 1))
        return Summary(
            conversation=conversation,
            last_message=messages.get(conversation),
            last_seq=self.last_seq,
            read_seq=read_seq,
            unread=unread - own.get(conversation, 0),
            active_at=self.active_at,
        )


async def _messages_at(db: Db, lines: Sequence[_Line]) -> dict[Conversation, Message]:
    """The last message of each conversation."""
    wanted = [
        {"conversation": line.place.conversation, "seq": line.last_seq}
        for line in lines
        if line.last_seq
    ]
    if not wanted:
        return {}
    found = db.messages.find({"$or": wanted}, hint=MESSAGES_BY_SEQ)
    return {document["conversation"]: message_of(document) async for document in found}


async def _own_unread(db: Db, user: str, lines: Sequence[_Line]) -> dict[Conversation, int]:
    """How many messages behind each read mark are the user's own: counted in the index alone."""
    wanted = [
        {
            "conversation": line.place.conversation,
            "sender": user,
            "seq": {"$gt": line.place.read_seq, "$lte": line.last_seq},
        }
        for line in lines
    ]
    if not wanted:
        return {}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"$or": wanted}},
        {"$group": {"_id": "$conversation", "messages": {"$sum": 1}}},
    ]
    counted = db.messages.aggregate(pipeline, hint=MESSAGES_BY_SENDER)
    return {one["_id"]: one["messages"] async for one in counted}
