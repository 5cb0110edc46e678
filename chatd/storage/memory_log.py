"""One conversation of the store in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from chatd.models import (
    Advance,
    Conversation,
    Draft,
    Mark,
    Message,
    Position,
    ReceiptKind,
    Summary,
    other_of,
    pair_of,
)
from chatd.storage.moves import moves


class Marks(msgspec.Struct):
    """One user's place in one conversation."""

    joined_at: int
    delivered_seq: int
    read_seq: int


class Log:
    """One conversation: its messages by ``seq``, who wrote which, and everyone's marks."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.messages: list[Message] = []
        self.seqs_by_sender: defaultdict[str, list[int]] = defaultdict(list)
        self.marks: dict[str, Marks] = {}

    @property
    def last_seq(self) -> int:
        return len(self.messages)

    def add(self, draft: Draft) -> Message:
        message = draft.numbered(self.last_seq + 1)
        self.messages.append(message)
        self.seqs_by_sender[message.sender].append(message.seq)
        return message

    def position(self, user: str) -> Position:
        marks = self.marks[user]
        return Position(self.conversation, self.last_seq, marks.delivered_seq, marks.read_seq)

    def unread(self, user: str) -> int:
        """What others wrote after the user's read mark."""
        read_seq = self.marks[user].read_seq
        own = self.seqs_by_sender.get(user, [])
        return (self.last_seq - read_seq) - (len(own) - bisect_right(own, read_seq))

    def summary(self, user: str) -> Summary:
        last = self.messages[-1] if self.messages else None
        return Summary(
            conversation=self.conversation,
            last_message=last,
            last_seq=self.last_seq,
            read_seq=self.marks[user].read_seq,
            unread=self.unread(user),
            active_at=self.marks[user].joined_at if last is None else last.sent_at,
        )

    def advance(self, mark: Mark) -> Iterator[Advance]:
        marks = self.marks.get(mark.user)
        if marks is not None and mark.seq <= self.last_seq:
            for kind, old in moves(mark, marks):
                yield self._move(mark, kind, old)

    def _move(self, mark: Mark, kind: ReceiptKind, old: int) -> Advance:
        covered = range(old, mark.seq)
        if pair_of(self.conversation):
            other = other_of(self.conversation, mark.user)
            for index in covered:
                if self.messages[index].sender == other:
                    self.messages[index] = _with_receipt(self.messages[index], kind, mark.at)
        senders = frozenset(self.messages[index].sender for index in covered) - {mark.user}
        return Advance(mark.conversation, mark.user, kind, old, mark.seq, mark.at, senders)


def _with_receipt(message: Message, kind: ReceiptKind, at: int) -> Message:
    if kind is ReceiptKind.READ:
        return msgspec.structs.replace(message, read_at=at)
    return msgspec.structs.replace(message, delivered_at=at)
