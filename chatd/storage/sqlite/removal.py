"""Removing messages in SQLite: from the front of a conversation, a few at a time, or all of a pair.

The writer's thread is shared with live chat, so each call is one piece of the work.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from chatd.models import Conversation
from chatd.storage.ranges import ENDLESS
from chatd.storage.sqlite.conversations import Conversations, Known

AT_ONCE: Final = 1000
"""Messages that one transaction goes over, where the caller sets no limit."""

_END: Final = """
    SELECT coalesce(
        (
            SELECT seq FROM messages
            WHERE conversation = :number AND seq < first + :limit AND sent_at >= :before
            ORDER BY seq LIMIT 1
        ),
        min(first + :limit, :last + 1),
        :last + 1
    )
    FROM (SELECT min(seq) AS first FROM messages WHERE conversation = :number)
"""

# Each message is looked at once, however many members there are.
_COUNT_OWN_OFF: Final = """
    UPDATE marks SET own_after_read = own_after_read - own.messages
    FROM (
        SELECT user AS owner, count(*) AS messages
        FROM messages CROSS JOIN marks ON marks.conversation = :number AND user = sender
        WHERE messages.conversation = :number AND seq < :end AND seq > read_seq
        GROUP BY user
    ) AS own
    WHERE conversation = :number AND user = owner
"""

_REMOVE: Final = "DELETE FROM messages WHERE conversation = :number AND seq < :end"

_BLANK: Final = """
    UPDATE messages SET text = '', client_id = NULL
    WHERE conversation = ? AND seq = ? AND text <> ''
"""


def prune(
    db: sqlite3.Connection,
    conversations: Conversations,
    conversation: Conversation,
    before: int,
    limit: int,
) -> int:
    """Remove up to ``limit`` messages; the last keeps its place."""
    known = conversations.find(db, conversation)
    if known is None:
        return 0
    end = _end(db, known, before, limit)
    removed = _remove(db, known.number, min(end, known.last_seq))
    if end > known.last_seq:
        removed += db.execute(_BLANK, (known.number, known.last_seq)).rowcount
    return removed


def delete_conversation(
    db: sqlite3.Connection, conversations: Conversations, conversation: Conversation
) -> bool:
    """Remove the next messages, and with the last of them the pair; whether anything is left.

    In between it is a pair whose first messages were removed.
    """
    known = conversations.find(db, conversation)
    if known is None:
        return False
    end = _end(db, known, ENDLESS, AT_ONCE)
    _remove(db, known.number, end)
    if end <= known.last_seq:
        return True
    db.execute("DELETE FROM marks WHERE conversation = ?", (known.number,))
    conversations.delete(db, conversation)
    return False


def _end(db: sqlite3.Connection, known: Known, before: int, limit: int) -> int:
    """The seq behind the first messages that were sent before a time, ``limit`` of them at most."""
    values = {"number": known.number, "last": known.last_seq, "before": before, "limit": limit}
    (end,) = db.execute(_END, values).fetchone()
    return int(end)


def _remove(db: sqlite3.Connection, number: int, end: int) -> int:
    """Remove all messages in front of ``end``; how many."""
    values = {"number": number, "end": end}
    db.execute(_COUNT_OWN_OFF, values)
    return db.execute(_REMOVE, values).rowcount
