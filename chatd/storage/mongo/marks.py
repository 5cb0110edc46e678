"""Moving delivered and read marks in MongoDB, hundreds at a time."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bson.datetime_ms import DatetimeMS
from pymongo import UpdateMany, UpdateOne

from chatd.models import Advance, Conversation, Mark, ReceiptKind, group_of, other_of
from chatd.storage.mongo.collections import BY_ID, MESSAGES_BY_SENDER, MESSAGES_BY_SEQ
from chatd.storage.mongo.documents import Db, Document, Place, place_id, place_of
from chatd.storage.mongo.messages import last_seqs
from chatd.storage.mongo.tails import Tails
from chatd.storage.moves import moves

_Key = tuple[Conversation, str]
"""A conversation and the user who stands in it."""

_Numbered = tuple[int, Mark]
"""A mark and its place in the batch."""


class _Range(NamedTuple):
    """The messages of a conversation behind ``old``, up to ``seq``."""

    conversation: Conversation
    old: int
    seq: int


class _Move(NamedTuple):
    """``nth`` is the mark's place in the batch; ``old`` is where it stood."""

    nth: int
    mark: Mark
    kind: ReceiptKind
    old: int

    @property
    def key(self) -> _Key:
        return self.mark.conversation, self.mark.user

    @property
    def range(self) -> _Range:
        return _Range(self.mark.conversation, self.old, self.mark.seq)

    def told(self, writers: set[str]) -> Advance:
        mark = self.mark
        return Advance(
            conversation=mark.conversation,
            user=mark.user,
            kind=self.kind,
            old=self.old,
            seq=mark.seq,
            at=mark.at,
            senders=frozenset(writers) - {mark.user},
        )


class Advancer:
    """Moves the marks of one batch after the other: those of one server need not race."""

    def __init__(self, tails: Tails) -> None:
        self._tails = tails
        self._turn = asyncio.Lock()

    async def advance(self, db: Db, marks: Sequence[Mark]) -> list[Advance]:
        async with self._turn:
            waiting = await _within(db, self._tails, marks)
            done: list[tuple[int, Advance]] = []
            while waiting:
                moved, waiting = await _advance(db, waiting)
                done += moved
        return [advance for _, advance in sorted(done, key=lambda one: one[0])]


async def _advance(
    db: Db, marks: Sequence[_Numbered]
) -> tuple[list[tuple[int, Advance]], list[_Numbered]]:
    """What moved, and the marks to look at again as another server has moved them meanwhile."""
    before = await _find(db, {(mark.conversation, mark.user) for _, mark in marks})
    after = {key: place_of(document) for key, document in before.items()}
    moved = list(_moves(marks, after))
    writers = await _writers(db, moved)
    await _store_receipts(db, moved)
    lost = await _store_places(db, before, [after[key] for key in {one.key for one in moved}])
    done = [(one.nth, one.told(writers[one.range])) for one in moved if one.key not in lost]
    return done, [one for one in marks if (one[1].conversation, one[1].user) in lost]


async def _within(db: Db, tails: Tails, marks: Sequence[Mark]) -> list[_Numbered]:
    """Those marks that are not beyond their conversation's end."""
    tails.make_room()
    beyond = {m.conversation for m in marks if m.seq > tails.last_seq(m.conversation)}
    for conversation, seq in (await last_seqs(db, beyond)).items():
        tails.learn(conversation, seq)
    return [one for one in enumerate(marks) if one[1].seq <= tails.last_seq(one[1].conversation)]


def _collection(conversation: Conversation) -> str:
    """A group's members keep their marks with their membership."""
    return "marks" if group_of(conversation) is None else "members"


async def _find(db: Db, keys: Iterable[_Key]) -> dict[_Key, Document]:
    """The documents of the places that there are."""
    ids: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for conversation, user in keys:
        ids[_collection(conversation)].append(place_id(conversation, user))
    return {
        (document["_id"]["conversation"], document["_id"]["user"]): document
        for collection, wanted in ids.items()
        async for document in db[collection].find({"_id": {"$in": wanted}}, hint=BY_ID)
    }


def _moves(marks: Sequence[_Numbered], places: Mapping[_Key, Place]) -> Iterator[_Move]:
    """The moves that the marks may make, in order; the places are moved along."""
    for nth, mark in marks:
        place = places.get((mark.conversation, mark.user))
        if place is not None:
            for kind, old in moves(mark, place):
                yield _Move(nth, mark, kind, old)


async def _store_receipts(db: Db, moved: Sequence[_Move]) -> None:
    """Note on a pair's messages when the other side got them.

    Before the marks move: where this breaks off, the marks are claimed again. A message that
    has its time keeps it; it may be another server's, some milliseconds off the receipt's.
    """
    changes = []
    for mark, kind, old in ((one.mark, one.kind, one.old) for one in moved):
        if group_of(mark.conversation) is None:
            field = f"{kind.value}_at"
            covered = {
                "conversation": mark.conversation,
                "sender": other_of(mark.conversation, mark.user),
                "seq": {"$gt": old, "$lte": mark.seq},
                field: None,
            }
            change = {"$set": {field: DatetimeMS(mark.at)}}
            changes.append(UpdateMany(covered, change, hint=MESSAGES_BY_SENDER))
    if changes:
        await db.messages.bulk_write(changes)


async def _store_places(
    db: Db, before: Mapping[_Key, Document], places: Sequence[Place]
) -> set[_Key]:
    """Store each place that stands where it stood before; which ones another server has moved."""
    call = str(uuid.uuid4())
    changes: defaultdict[str, list[UpdateOne]] = defaultdict(list)
    keys: defaultdict[str, list[_Key]] = defaultdict(list)
    for place in places:
        key = (place.conversation, place.user)
        stands = {name: before[key][name] for name in ("_id", "delivered_seq", "read_seq")}
        moved = {
            "delivered_seq": place.delivered_seq,
            "read_seq": place.read_seq,
            "moved_by": call,
        }
        collection = _collection(place.conversation)
        changes[collection].append(UpdateOne(stands, {"$set": moved}, hint=BY_ID))
        keys[collection].append(key)
    lost: set[_Key] = set()
    for collection, operations in changes.items():
        stored = await db[collection].bulk_write(operations, ordered=False)
        if stored.matched_count < len(operations):
            found = await _find(db, keys[collection])
            lost |= {key for key in keys[collection] if found.get(key, {}).get("moved_by") != call}
    return lost


async def _writers(db: Db, moved: Sequence[_Move]) -> dict[_Range, set[str]]:
    """Who wrote what each move covers; many moves have a range in common."""
    writers: dict[_Range, set[str]] = {one.range: set() for one in moved}
    ranges: defaultdict[Conversation, list[_Range]] = defaultdict(list)
    for one in writers:
        ranges[one.conversation].append(one)
    wanted: list[dict[str, Any]] = [
        {
            "conversation": conversation,
            "seq": {"$gt": min(one.old for one in them), "$lte": max(one.seq for one in them)},
        }
        for conversation, them in ranges.items()
    ]
    if wanted:
        fields = {"_id": False, "conversation": True, "seq": True, "sender": True}
        async for message in db.messages.find({"$or": wanted}, fields, hint=MESSAGES_BY_SEQ):
            for one in ranges[message["conversation"]]:
                if one.old < message["seq"] <= one.seq:
                    writers[one].add(message["sender"])
    return writers
