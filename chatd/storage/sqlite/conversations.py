"""The numbers and last seqs of conversations, as the writer knows them."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from chatd.models import Conversation, pair_of

MOST_KNOWN: Final = 100_000

_FIND: Final = """
    SELECT number, (SELECT coalesce(max(seq), 0) FROM messages WHERE conversation = number)
    FROM conversations WHERE key = ?
"""


class Known(msgspec.Struct):
    """A conversation's number in the file, and its last seq in the transaction under way."""

    number: int
    last_seq: int


class Conversations:
    """A cache that belongs to the writer's thread.

    While a transaction runs it may be ahead of the file, and nobody else sees it; when the
    transaction is undone it must be cleared, and so is never ahead of what is committed.
    """

    def __init__(self) -> None:
        self._known: dict[Conversation, Known] = {}

    def clear(self) -> None:
        self._known.clear()

    def find(self, db: sqlite3.Connection, conversation: Conversation) -> Known | None:
        known = self._known.get(conversation)
        if known is None:
            row = db.execute(_FIND, (conversation,)).fetchone()
            known = None if row is None else self._keep(conversation, Known(*row))
        return known

    def find_or_make(self, db: sqlite3.Connection, conversation: Conversation, at: int) -> Known:
        """A pair's first message makes the marks of both."""
        known = self.find(db, conversation)
        if known is not None:
            return known
        made = db.execute("INSERT INTO conversations (key) VALUES (?)", (conversation,))
        assert made.lastrowid is not None
        known = self._keep(conversation, Known(made.lastrowid, 0))
        for user in set(pair_of(conversation) or ()):
            db.execute("INSERT INTO marks VALUES (?, ?, ?, 0, 0, 0)", (known.number, user, at))
        return known

    def rename(self, db: sqlite3.Connection, old: Conversation, new: Conversation) -> None:
        db.execute("UPDATE conversations SET key = ? WHERE key = ?", (new, old))
        self._forget(old, new)

    def delete(self, db: sqlite3.Connection, conversation: Conversation) -> None:
        """Give the number free, which is another's next. Nothing may be left under it."""
        db.execute("DELETE FROM conversations WHERE key = ?", (conversation,))
        self._forget(conversation)

    def make_room(self) -> None:
        """Bound the cache. Call where no `Known` is held: two of one conversation would differ."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()

    def _forget(self, *conversations: Conversation) -> None:
        for conversation in conversations:
            self._known.pop(conversation, None)

    def _keep(self, conversation: Conversation, known: Known) -> Known:
        self._known[conversation] = known
        return known
