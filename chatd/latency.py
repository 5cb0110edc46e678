"""How long messages take to arrive: from being sent to the first receipt of another user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from chatd.models import Conversation, Message

_MOST: Final = 10_000
"""Conversations whose latest message is waited for."""


class _Latest(NamedTuple):
    seq: int
    sender: str
    sent_at: int


class Latency:
    """Looks at the latest message of each conversation: one that was written meanwhile takes its
    place, and its receipt is theirs as well."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        """``observe`` hears of seconds."""
        self._observe = observe
        self._latest: dict[Conversation, _Latest] = {}

    def told(self, message: Message) -> None:
        """A message goes out to those who are there."""
        self._latest.pop(message.conversation, None)
        if len(self._latest) >= _MOST:
            del self._latest[next(iter(self._latest))]
        latest = _Latest(message.seq, message.sender, message.sent_at)
        self._latest[message.conversation] = latest

    def confirmed(self, conversation: Conversation, user: str, seq: int, at: int) -> None:
        """A device of ``user`` has everything up to ``seq``, as of the time ``at``."""
        latest = self._latest.get(conversation)
        if latest is None or latest.seq > seq or latest.sender == user:
            return
        del self._latest[conversation]
        # By the wall clock, which may have been set back meanwhile.
        self._observe(max(0, at - latest.sent_at) / 1000)
