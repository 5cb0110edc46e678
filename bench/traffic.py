"""Conversations, and messages for them as clients send them."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Sequence
from itertools import cycle
from typing import Final

import uuid_utils

from chatd.models import (
    Conversation,
    Draft,
    group_conversation,
    now_ms,
    pair_conversation,
    pair_of,
)

MEMBERS: Final = tuple(f"member-{n}@example.org" for n in range(20))


class Traffic:
    """Drafts of 200 bytes with client ids, for the conversations in turn."""

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self._random = random.Random(1)
        self._letters = "".join(self._random.choices(string.ascii_letters + " ", k=100_000))
        self._conversations = cycle(conversations)

    def batch(self, size: int) -> list[Draft]:
        return [self._draft(next(self._conversations)) for _ in range(size)]

    def _draft(self, conversation: Conversation) -> Draft:
        start = self._random.randrange(len(self._letters) - 200)
        return Draft(
            id=str(uuid_utils.uuid7()),
            conversation=conversation,
            sender=self._random.choice(pair_of(conversation) or MEMBERS),
            text=self._letters[start : start + 200],
            sent_at=now_ms(),
            client_id=uuid.uuid4().hex,
        )


def conversations(count: int, topic: str, user: str | None = None) -> list[Conversation]:
    """Half pairs, half groups; one side of each pair is ``user``, where given."""
    pairs = [
        pair_conversation(user or f"one-{topic}-{n}@example.org", f"{topic}-{n}@example.org")
        for n in range(count // 2)
    ]
    return pairs + [group_conversation(f"{topic}-{n}") for n in range(count - count // 2)]
