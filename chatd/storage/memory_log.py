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
    Place,
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
    """One conversation: its messages by ``seq``, who wrote which, and everyone's marks.

    Messages were only ever removed from the front: ``first_seq`` is that of the first still there.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.first_seq = 1
        self.messages: list[Message] = []
        self.seqs_by_sender: defaultdict[str, list[int]] = defaultdict(list)
        self.marks: dict[str, Marks] = {}

    @property
    def last_seq(self) -> int:
        return self.first_seq - 1 + len(self.messages)

    def message(self, seq: int) -> Message | None:
        index = seq - self.first_seq
        return self.messages[index] if 0 <= index < len(self.messages) else None

    def between(self, after_seq: int, before_seq: int) -> list[Message]:
        """The messages behind the one and in front of the other."""
        return self.messages[
            max(0, after_seq + 1 - self.first_seq) : max(0, before_seq - self.first_seq)
        ]

    def add(self, draft: Draft) -> Message:
        message = draft.numbered(self.last_seq + 1)
        self.put(message)
        return message

    def put(self, message: Message) -> None:
        """Store a message in its place, or behind the last."""
        if not self.messages:
            self.first_seq = message.seq
        if message.seq > self.last_seq:
            self.messages.append(message)
            self.seqs_by_sender[message.sender].append(message.seq)
        else:
            self.messages[message.seq - self.first_seq] = message

    def prune(self, before: int, limit: int) -> list[Message]:
        """Remove from the front, and of the last message the text; these, as they were."""
        removed: list[Message] = []
        for message in self.messages[:limit]:
            if message.sent_at >= before:
                break
            removed.append(message)
        if removed and removed[-1].seq == self.last_seq:
            last = removed[-1]
            self.messages[-1] = msgspec.structs.replace(last, text="", client_id=None)
            if not last.text:
                del removed[-1]
        gone = max(0, min(len(removed), len(self.messages) - 1))
        del self.messages[:gone]
        self.first_seq += gone
        self._note_senders()
        return removed

    def reassign(self, user: str, author: str, *, blank: bool) -> list[Message]:
        """Put ``author`` in the place of ``user``; the messages as they were."""
        changed = [message for message in self.messages if message.sender == user]
        for message in changed:
            text = "" if blank else message.text
            self.messages[message.seq - self.first_seq] = msgspec.structs.replace(
                message, sender=author, client_id=None, text=text
            )
        self._note_senders()
        return changed

    def rename(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.messages = [
            msgspec.structs.replace(message, conversation=conversation) for message in self.messages
        ]

    def _note_senders(self) -> None:
        self.seqs_by_sender.clear()
        for message in self.messages:
            self.seqs_by_sender[message.sender].append(message.seq)

    def position(self, user: str) -> Position:
        marks = self.marks[user]
        return Position(self.conversation, self.last_seq, marks.delivered_seq, marks.read_seq)

    def place(self, user: str) -> Place:
        marks = self.marks[user]
        return Place(self.conversation, user, marks.joined_at, marks.delivered_seq, marks.read_seq)

    def unread(self, user: str) -> int:
        """What others wrote after the user's read mark, as far as it is still there."""
        read_seq = max(self.marks[user].read_seq, self.first_seq - 1)
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
        covered = self.between(old, mark.seq + 1)
        if pair_of(self.conversation):
            other = other_of(self.conversation, mark.user)
            for message in covered:
                if message.sender == other:
                    self.put(_with_receipt(message, kind, mark.at))
        senders = frozenset(message.sender for message in covered) - {mark.user}
        return Advance(mark.conversation, mark.user, kind, old, mark.seq, mark.at, senders)


def _with_receipt(message: Message, kind: ReceiptKind, at: int) -> Message:
    if kind is ReceiptKind.READ:
        return msgspec.structs.replace(message, read_at=at)
    return msgspec.structs.replace(message, delivered_at=at)
