"""Moving delivered and read marks in MongoDB, hundreds at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from bson.datetime_ms import DatetimeMS
from pymongo import UpdateMany, UpdateOne

from chatd.models import Advance, Conversation, Mark, ReceiptKind, group_of, other_of
from chatd.storage.mongo.collections import BY_ID, MESSAGES_BY_SENDER, MESSAGES_BY_SEQ
from chatd.storage.mongo.documents import Db, Document, collection_of, place_id
from chatd.storage.mongo.messages import last_seqs
from chatd.storage.mongo.tails import Tails
from chatd.storage.moves import moves

_Key = tuple[Conversation, str]
"""A conversation and the user who stands in it."""


_CALLS_KEPT: Final = 4
"""Others may move a place on before a server looks whether it was its own call that moved it."""


class _Range(NamedTuple):
    """The messages of a conversation behind ``old``, up to ``seq``."""

    conversation: Conversation
    old: int
    seq: int


class _Standing(msgspec.Struct):
    """How far a user's marks stand, and are moved, in one conversation."""

    delivered_seq: int
    read_seq: int


class _Move(NamedTuple):
    """A mark that moves; ``old`` is where it stood."""

    mark: Mark
    kind: ReceiptKind
    old: int

    @property
    def key(self) -> _Key:
        return _key(self.mark)

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


class _Call(NamedTuple):
    """What one write is to move. Each place keeps the names of the last calls that moved it."""

    name: str
    advances: Sequence[tuple[_Key, Advance]]

    async def moved(self, db: Db) -> set[_Key]:
        """The places that this call has moved."""
        found = await _find(db, {key for key, _ in self.advances})
        return {key for key, place in found.items() if self.name in place.get("moved_by", ())}


class Advancer:
    """Moves the marks of one batch after the other: those of one server need not race.

    A move that was stored and not told, as the storage broke off after it, is told with the
    next batch.
    """

    def __init__(self, tails: Tails) -> None:
        self._tails = tails
        self.turn = asyncio.Lock()
        self._untold: list[Advance] = []
        self._doubtful: _Call | None = None

    async def advance(self, db: Db, marks: Sequence[Mark]) -> list[Advance]:
        async with self.turn:
            if self._doubtful is not None:
                self._settle(self._doubtful, await self._doubtful.moved(db))
            waiting = await _within(db, self._tails, marks)
            while waiting:
                lost = await self._move(db, waiting)
                waiting = [mark for mark in waiting if _key(mark) in lost]
            told, self._untold = self._untold, []
        return told

    async def _move(self, db: Db, marks: Sequence[Mark]) -> set[_Key]:
        """Move what may move; which places another server moved meanwhile: look at them again."""
        before = await _find(db, set(map(_key, marks)))
        after = {
            key: _Standing(document["delivered_seq"], document["read_seq"])
            for key, document in before.items()
        }
        moved = list(_moves(marks, after))
        writers = await _writers(db, moved)
        await _store_receipts(db, moved)
        call = _Call(
            secrets.token_hex(8), [(one.key, one.told(writers[one.range])) for one in moved]
        )
        keys = {key for key, _ in call.advances}
        self._doubtful = call
        all_stored = await _store_places(db, before, {key: after[key] for key in keys}, call.name)
        stored = keys if all_stored else await call.moved(db)
        self._settle(call, stored)
        return keys - stored

    def _settle(self, call: _Call, moved: set[_Key]) -> None:
        self._untold += [advance for key, advance in call.advances if key in moved]
        self._doubtful = None


def _key(mark: Mark) -> _Key:
    return mark.conversation, mark.user


async def _within(db: Db, tails: Tails, marks: Sequence[Mark]) -> list[Mark]:
    """Those marks that are not beyond their conversation's end."""
    tails.make_room()
    # Whoever appends may forget these while this waits.
    ends = {mark.conversation: tails.last_seq(mark.conversation) for mark in marks}
    beyond = {mark.conversation for mark in marks if mark.seq > ends[mark.conversation]}
    for conversation, seq in (await last_seqs(db, beyond)).items():
        tails.learn(conversation, seq)
        ends[conversation] = max(seq, ends[conversation])
    return [mark for mark in marks if mark.seq <= ends[mark.conversation]]


async def _find(db: Db, keys: Iterable[_Key]) -> dict[_Key, Document]:
    """The documents of the places that there are."""
    ids: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for conversation, user in keys:
        ids[collection_of(conversation)].append(place_id(conversation, user))
    return {
        (document["_id"]["conversation"], document["_id"]["user"]): document
        for collection, wanted in ids.items()
        async for document in db[collection].find({"_id": {"$in": wanted}}, hint=BY_ID)
    }


def _moves(marks: Sequence[Mark], standings: Mapping[_Key, _Standing]) -> Iterator[_Move]:
    """The moves that the marks may make, in order; the standings are moved along."""
    for mark in marks:
        standing = standings.get(_key(mark))
        if standing is not None:
            for kind, old in moves(mark, standing):
                yield _Move(mark, kind, old)


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
    db: Db, before: Mapping[_Key, Document], after: Mapping[_Key, _Standing], call: str
) -> bool:
    """Store each place that stands where it stood before; whether that was so for all."""
    changes: defaultdict[str, list[UpdateOne]] = defaultdict(list)
    for key, standing in after.items():
        stood = {name: before[key][name] for name in ("_id", "delivered_seq", "read_seq")}
        change = {
            "$set": {"delivered_seq": standing.delivered_seq, "read_seq": standing.read_seq},
            "$push": {"moved_by": {"$each": [call], "$slice": -_CALLS_KEPT}},
        }
        changes[collection_of(key[0])].append(UpdateOne(stood, change, hint=BY_ID))
    matched = 0
    for collection, operations in changes.items():
        matched += (await db[collection].bulk_write(operations, ordered=False)).matched_count
    return matched == len(after)


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
