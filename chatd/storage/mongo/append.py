"""Storing messages in MongoDB, without a counter that all writers would have to share.

A message takes the number behind the last one, and a unique index on (conversation, seq) lets
one writer have it. Drafts go in order, and what follows one that is refused is not tried: so
the messages of a conversation never change their order, and nothing is stored behind a hole.
Whoever loses a number reads where the conversation ends by now and goes on from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pymongo.errors import BulkWriteError

from chatd.models import (
    Conversation,
    Draft,
    Message,
    Outcome,
    Place,
    Stored,
    pair_of,
)
from chatd.storage.mongo.collections import BY_ID, MESSAGES_BY_CLIENT_ID
from chatd.storage.mongo.documents import Db, message_document, message_of, place_document
from chatd.storage.mongo.tails import Tails
from chatd.storage.repeats import Earlier, repeated

DUPLICATE_KEY: Final = 11000

_SEQ_KEY: Final = {"conversation", "seq"}

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
"""Seconds; a majority mostly follows within a few milliseconds."""


class Appender:
    """Appends one batch after the other: those of one server had better not race each other."""

    def __init__(self, tails: Tails, *, look_first: bool) -> None:
        """``look_first``: no index tells of every repeat, so they are looked for beforehand."""
        self._tails = tails
        self._look_first = look_first
        self.turn = asyncio.Lock()

    async def append(self, db: Db, batch: Sequence[Draft]) -> list[Outcome]:
        async with self.turn:
            self._tails.make_room()
            try:
                drafts = _Batch(db, self._tails, batch)
                if self._look_first:
                    await drafts.look_for_repeats()
                return await drafts.store()
            except BaseException:
                # How much of it is stored, only the database knows.
                self._tails.forget(draft.conversation for draft in batch)
                raise


class _Waiting(NamedTuple):
    """A draft that is neither stored nor known to be a repeat; the ``nth`` of the batch."""

    nth: int
    draft: Draft


class _Refusal(NamedTuple):
    """Where MongoDB stopped, and which unique index that draft ran into."""

    at: int
    key: set[str]


class _Batch:
    """Drafts on their way in, and what has become of them."""

    def __init__(self, db: Db, tails: Tails, batch: Sequence[Draft]) -> None:
        self._db = db
        self._tails = tails
        self._waiting = [_Waiting(nth, draft) for nth, draft in enumerate(batch)]
        self._outcomes: dict[int, Outcome] = {}
        self._earlier = Earlier()

    async def store(self) -> list[Outcome]:
        pause = _FIRST_PAUSE
        while self._waiting:
            refusal = await self._insert()
            if refusal is None:
                self._set_repeats_aside()
            elif not await self._understand(refusal):
                # Another writer's messages stand in the way, and a majority has them not yet.
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
        return [self._outcomes[nth] for nth in range(len(self._outcomes))]

    async def _insert(self) -> _Refusal | None:
        """Number what waits and store it, up to the first draft that is refused."""
        distinct = self._distinct()
        ends = await self._tails.read(self._db, (draft.conversation for draft in distinct))
        messages = _numbered(distinct, ends)
        await _make_marks(self._db, messages)
        refusal = await _insert(self._db, messages)
        stored = messages if refusal is None else messages[: refusal.at]
        for one, message in zip(self._waiting, stored, strict=False):
            self._outcomes[one.nth] = Stored(message)
            self._earlier.add(message)
            self._tails.learn(message.conversation, message.seq)
        del self._waiting[: len(stored)]
        return refusal

    def _distinct(self) -> list[Draft]:
        """What waits, up to the first draft that repeats another one of it."""
        seen: set[str | tuple[str, str]] = set()
        distinct = []
        for _, draft in self._waiting:
            keys: set[str | tuple[str, str]] = {draft.id}
            if draft.client_id is not None:
                keys.add((draft.sender, draft.client_id))
            if not seen.isdisjoint(keys):
                break
            seen |= keys
            distinct.append(draft)
        return distinct

    async def _understand(self, refusal: _Refusal) -> bool:
        """Look at what the refused draft ran into; False where that can't be seen yet."""
        refused = self._waiting[0]
        if refusal.key == _SEQ_KEY:
            return await self._moved_on(refused.draft.conversation)
        await self.look_for_repeats()
        return refused.nth in self._outcomes

    async def _moved_on(self, conversation: Conversation) -> bool:
        """Read anew where conversations end; whether this one ends further on than was known."""
        known = self._tails.last_seq(conversation)
        waiting = {one.draft.conversation for one in self._waiting}
        self._tails.forget(waiting)
        ends = await self._tails.read(self._db, waiting)
        return ends[conversation] > known

    async def look_for_repeats(self) -> None:
        """Set aside what repeats a stored message."""
        for message in await _repeated(self._db, [one.draft for one in self._waiting]):
            self._earlier.add(message)
        self._set_repeats_aside()

    def _set_repeats_aside(self) -> None:
        waiting = []
        for one in self._waiting:
            first = self._earlier.first(one.draft)
            if first is None:
                waiting.append(one)
            else:
                self._outcomes[one.nth] = repeated(one.draft, first)
        self._waiting = waiting


def _numbered(drafts: Sequence[Draft], last: dict[Conversation, int]) -> list[Message]:
    """The messages that these are to become, behind ``last``."""
    messages = []
    for draft in drafts:
        last[draft.conversation] += 1
        messages.append(draft.numbered(last[draft.conversation]))
    return messages


async def _make_marks(db: Db, messages: Sequence[Message]) -> None:
    """Make both users' marks before the first message of a pair: whoever is to get it has them."""
    places = [
        place_document(Place(message.conversation, user, message.sent_at, 0, 0))
        for message in messages
        if message.seq == 1
        for user in sorted(set(pair_of(message.conversation) or ()))
    ]
    if not places:
        return
    try:
        await db.marks.insert_many(places, ordered=False)
    except BulkWriteError as error:
        if any(one["code"] != DUPLICATE_KEY for one in _write_errors(error)):
            raise


async def _insert(db: Db, messages: Sequence[Message]) -> _Refusal | None:
    try:
        await db.messages.insert_many([message_document(message) for message in messages])
    except BulkWriteError as error:
        (first,) = _write_errors(error)
        if first["code"] != DUPLICATE_KEY:
            raise
        return _Refusal(first["index"], set(first["keyPattern"]))
    return None


def _write_errors(error: BulkWriteError) -> Sequence[Mapping[str, Any]]:
    """What was refused; raises ``error`` where the rest may not be safe either."""
    details = error.details or {}
    if details.get("writeConcernErrors") or not details.get("writeErrors"):
        raise error
    return list(details["writeErrors"])


async def _repeated(db: Db, drafts: Sequence[Draft]) -> list[Message]:
    """The stored messages that hold an id or a client id of the drafts."""
    found = db.messages.find({"_id": {"$in": [draft.id for draft in drafts]}}, hint=BY_ID)
    messages = [message_of(document) async for document in found]
    client_ids = [
        {"sender": draft.sender, "client_id": draft.client_id}
        for draft in drafts
        if draft.client_id is not None
    ]
    if client_ids:
        found = db.messages.find({"$or": client_ids}, hint=MESSAGES_BY_CLIENT_ID)
        messages += [message_of(document) async for document in found]
    return messages
