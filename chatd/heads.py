"""How far each conversation has been told to its live connections by this process."""

from __future__ import annotations

from typing import Final

from chatd.models import Conversation, pair_of

MOST_KNOWN: Final = 1_000_000


class Heads:
    """Finds the messages that were stored and yet not told here.

    Another server may have stored them, or this one without learning of it: the storage broke
    off after the fact.
    """

    def __init__(self) -> None:
        self._heads: dict[Conversation, int] = {}

    def head(self, conversation: Conversation) -> int | None:
        """How far it has been told; None where nothing is known of it."""
        return self._heads.get(conversation)

    def seen(self, conversation: Conversation, seq: int, *, first: bool = False) -> None:
        """Somebody has just been given everything up to ``seq``; ``first`` where nobody else is
        here who carries the conversation, so that what was told before does not count."""
        self._make_room()
        if first:
            self._heads[conversation] = seq
        else:
            self._heads.setdefault(conversation, seq)

    def forget(self, conversation: Conversation) -> None:
        """What was told of it says nothing any more."""
        self._heads.pop(conversation, None)

    def forget_pairs(self, user: str) -> None:
        """The same for all one-to-one conversations of a user."""
        for conversation in [one for one in self._heads if user in (pair_of(one) or ())]:
            del self._heads[conversation]

    def missed(self, conversation: Conversation, seq: int) -> int | None:
        """The first seq that is left out where ``seq`` is told next, if any."""
        head = self._heads.get(conversation, seq - 1)
        return head + 1 if seq > head + 1 else None

    def tell(self, conversation: Conversation, seq: int) -> int | None:
        """Note that ``seq`` is told now; what `missed` says of it."""
        missed = self.missed(conversation, seq)
        if seq > self._heads.get(conversation, seq - 1):
            self._make_room()
            self._heads[conversation] = seq
        return missed

    def _make_room(self) -> None:
        if len(self._heads) >= MOST_KNOWN:
            self._heads.clear()
