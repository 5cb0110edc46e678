"""Putting an author in the place of a user in MongoDB, a piece at a time.

A pair gets another key by that. Its messages go there from the front, and all but the last while
there are no marks: to readers the old pair looks as if it had been pruned, and appends go on
behind its end. Then the marks are copied, the last message moves, and the old marks go, which mean
nothing by then. So as long as there are messages under the old key they have marks, by which
whoever stands there finds them, and each step may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, DeleteOne, UpdateOne

from chatd.models import Conversation, group_of, other_of, pair_conversation, pair_of
from chatd.storage.mongo.collections import BY_ID, MESSAGES_BY_SENDER, MESSAGES_BY_SEQ
from chatd.storage.mongo.documents import Db, Document, place_id, places_in
from chatd.storage.mongo.messages import last_seq
from chatd.storage.mongo.removal import front_piece

_PIECE: Final = 1000
"""How many messages of a group are changed in one write."""


class Reassignment(NamedTuple):
    """``author`` is put in the place of ``user`` in ``conversation``."""

    conversation: Conversation
    user: str
    author: str
    blank: bool

    @property
    def is_of_nobody(self) -> bool:
        """Whether nothing changes, as ``user`` is no side of the pair."""
        return self.user == self.author or self.user not in (pair_of(self.conversation) or ())

    @property
    def renamed(self) -> Conversation:
        """The key that a pair gets."""
        return pair_conversation(self.author, self.now(other_of(self.conversation, self.user)))

    def now(self, user: str) -> str:
        """Who a side of the pair is from now on."""
        return self.author if user == self.user else user

    @property
    def change(self) -> Mapping[str, Any]:
        """What becomes of the user's messages."""
        changed = {"sender": self.author, **({"text": ""} if self.blank else {})}
        return {"$set": changed, "$unset": {"client_id": ""}}


async def reassign_some(db: Db, one: Reassignment) -> bool:
    """Put the author on some messages of the user in a group; whether there were any."""
    theirs = {"conversation": one.conversation, "sender": one.user}
    found = db.messages.find(theirs, {"_id": False, "seq": True}, hint=MESSAGES_BY_SENDER)
    seqs = [message["seq"] async for message in found.sort("seq", ASCENDING).limit(_PIECE)]
    if seqs:
        chosen = {**theirs, "seq": {"$lte": seqs[-1]}}
        await db.messages.update_many(chosen, one.change, hint=MESSAGES_BY_SENDER)
    return bool(seqs)


async def reassign_group(db: Db, one: Reassignment) -> None:
    """Make the author the one who made the group: a making that broke off ends by that."""
    theirs = {"_id": group_of(one.conversation), "created_by": one.user}
    change = {"$set": {"created_by": one.author, "founded": True}}
    await db.groups.update_one(theirs, change, hint=BY_ID)


async def move_some(db: Db, one: Reassignment, *, one_by_one: bool, last_too: bool = False) -> bool:
    """Move the first messages of a pair; whether there were any, beside the last of all.

    ``one_by_one``: as a sharded cluster wants it where a document may move to another shard.
    """
    # In this order: the new end may be an older one than the old beginning, never a later one,
    # and so nothing is moved too far where another server moves it too.
    end = await last_seq(db, one.renamed)
    seqs = await front_piece(db, one.conversation, last_too=last_too)
    if not seqs:
        return False
    chosen = {
        "conversation": one.conversation,
        "seq": {"$gte": seqs.start, "$lt": seqs.stop},
    }
    await db.messages.update_many(
        {**chosen, "sender": one.user}, one.change, hint=MESSAGES_BY_SENDER
    )
    # What was written under the old key when all had been moved began there with 1.
    move = {"$set": {"conversation": one.renamed}, "$inc": {"seq": max(0, end + 1 - seqs.start)}}
    if not one_by_one:
        await db.messages.update_many(chosen, move, hint=MESSAGES_BY_SEQ)
        return True
    found = db.messages.find(chosen, {"_id": True}, hint=MESSAGES_BY_SEQ).sort("seq", ASCENDING)
    for message in await found.to_list(None):
        this = {"_id": message["_id"], "conversation": one.conversation}
        await db.messages.update_one(this, move, hint=BY_ID)
    return True


async def move_rest(db: Db, one: Reassignment, *, one_by_one: bool) -> None:
    """Move what `move_some` has left of a pair, places and all."""
    there_may_be_more = True
    while there_may_be_more:
        found = await db.marks.find(places_in(one.conversation), hint=BY_ID).to_list(None)
        if found:
            await db.marks.bulk_write([_copied(one, place) for place in found])
        there_may_be_more = await move_some(db, one, one_by_one=one_by_one, last_too=True)
        if found and not there_may_be_more:
            await db.marks.bulk_write([_gone(place) for place in found])
            there_may_be_more = True


def _copied(one: Reassignment, place: Document) -> UpdateOne:
    """It may stand there already, and further."""
    change = {
        "$max": {name: place[name] for name in ("delivered_seq", "read_seq")},
        "$setOnInsert": {"joined_at": place["joined_at"]},
    }
    there = place_id(one.renamed, one.now(place["_id"]["user"]))
    return UpdateOne({"_id": there}, change, upsert=True, hint=BY_ID)


def _gone(place: Document) -> DeleteOne:
    """It goes unless another server has moved it since it was copied."""
    copied = {name: place[name] for name in ("_id", "delivered_seq", "read_seq")}
    return DeleteOne(copied, hint=BY_ID)
