"""How far a walk through everything has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chatd.models import Conversation, Message, Record, User

OnSteps = Callable[[int], None]
"""Told of steps, as they are made."""


class Progress:
    """Counts a step for each user and each number of a conversation, taken away or still there."""

    def __init__(self, on_steps: OnSteps) -> None:
        self._on_steps = on_steps
        self._conversation: Conversation | None = None
        self._seq = 0

    def passed(self, records: Iterable[Record]) -> None:
        """These records are done."""
        steps = 0
        for record in records:
            if isinstance(record, Message):
                if record.conversation != self._conversation:
                    self._conversation, self._seq = record.conversation, 0
                steps += record.seq - self._seq
                self._seq = record.seq
            elif isinstance(record, User):
                steps += 1
        self._on_steps(steps)
