"""Which receipts were told here, so that none goes back or comes twice."""

from __future__ import annotations

from typing import Final

import msgspec

from chatd.models import Advance, Conversation, ReceiptKind

_MOST_KNOWN: Final = 200_000

_Key = tuple[Conversation, str, ReceiptKind, str]


class ToldReceipts:
    """How far each sender was told that somebody has got. What servers tell may come late, and
    what the store knows may have been told before."""

    def __init__(self) -> None:
        self._told: dict[_Key, int] = {}

    def fresh(self, advance: Advance) -> Advance | None:
        """The advance for those senders to whom it is news, who are told now; None where it is
        news to nobody."""
        senders = frozenset(one for one in advance.senders if self._is_news(advance, one))
        if not senders:
            return None
        return msgspec.structs.replace(advance, senders=senders)

    def forget(self, user: str) -> None:
        """The address may be somebody else's from now on, whose conversations begin anew."""
        gone = [key for key in self._told if user in (key[1], key[3])]
        for key in gone:
            del self._told[key]

    def _is_news(self, advance: Advance, sender: str) -> bool:
        key = (advance.conversation, advance.user, advance.kind, sender)
        if advance.seq <= self._told.get(key, 0):
            return False
        self._told.pop(key, None)
        if len(self._told) >= _MOST_KNOWN:
            del self._told[next(iter(self._told))]
        self._told[key] = advance.seq
        return True
