"""How many messages each group has, for lists that are sorted by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from pymongo import UpdateOne

from chatd.models import Conversation, group_of
from chatd.storage.mongo.collections import BY_ID
from chatd.storage.mongo.documents import Db
from chatd.storage.mongo.messages import last_seqs


class Counts:
    """Brings the groups' counts along behind the messages, so that no message waits for them."""

    def __init__(self) -> None:
        self._behind: set[Conversation] = set()
        self._turn = asyncio.Lock()

    def note(self, conversations: Iterable[Conversation]) -> bool:
        """Something may have been stored in these; whether there is now anything to catch up on."""
        self._behind.update(one for one in conversations if group_of(one) is not None)
        return bool(self._behind)

    async def catch_up(self, db: Db) -> None:
        """Return once every count is what it was at the time of the call, or more."""
        async with self._turn:
            while self._behind:
                behind, self._behind = self._behind, set()
                try:
                    await _store(db, await last_seqs(db, behind))
                except BaseException:
                    self._behind |= behind
                    raise


async def _store(db: Db, seqs: Mapping[Conversation, int]) -> None:
    """A count never goes back: another server may have been faster with a higher one."""
    if seqs:
        await db.groups.bulk_write(
            [
                UpdateOne({"_id": group_of(conversation)}, {"$max": {"messages": seq}}, hint=BY_ID)
                for conversation, seq in seqs.items()
            ],
            ordered=False,
        )
