"""Where conversations end, as far as this server knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chatd.models import Conversation
from chatd.storage.mongo.documents import Db
from chatd.storage.mongo.messages import last_seqs

MOST_KNOWN: Final = 100_000


class Tails:
    """Last seqs that a majority of the servers has: they may have grown, and never shrink.

    Numbering on from anything less certain could leave a hole: a message that only a primary has
    had is gone when another one is elected.
    """

    def __init__(self) -> None:
        self._known: dict[Conversation, int] = {}

    async def read(self, db: Db, conversations: Iterable[Conversation]) -> dict[Conversation, int]:
        """The last seqs of these; learned where they are not known."""
        wanted = set(conversations)
        ends = {one: self._known[one] for one in wanted if one in self._known}
        unknown = wanted - ends.keys()
        if unknown:
            found = await last_seqs(db, unknown)
            for conversation in unknown:
                self.learn(conversation, found.get(conversation, 0))
                ends[conversation] = self.last_seq(conversation)
        return ends

    def last_seq(self, conversation: Conversation) -> int:
        return self._known.get(conversation, 0)

    def learn(self, conversation: Conversation, seq: int) -> None:
        self._known[conversation] = max(seq, self.last_seq(conversation))

    def forget(self, conversations: Iterable[Conversation]) -> None:
        for conversation in conversations:
            self._known.pop(conversation, None)

    def clear(self) -> None:
        self._known.clear()

    def make_room(self) -> None:
        """Bound what is known."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
