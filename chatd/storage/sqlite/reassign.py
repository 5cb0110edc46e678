"""Putting an author in a user's place in SQLite.

It goes over a conversation piece by piece, each a transaction of its own, so that live chat goes
on in between. A pair has its old name until the last piece, and so is found again where it broke
off: begun anew, it finds done what was done.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from chatd.models import Conversation, pair_conversation, pair_of
from chatd.storage.sqlite.conversations import Conversations, Known
from chatd.storage.sqlite.removal import AT_ONCE


class Reassignment(NamedTuple):
    """``author`` is to take the place of ``user``."""

    conversation: Conversation
    user: str
    author: str
    blank: bool


_FIRST: Final = "SELECT min(seq) FROM messages WHERE conversation = ? AND seq > ?"

# Each of the two counts its own messages at any time, whatever happens between two pieces.
_MAKE_PLACE: Final = """
    INSERT INTO marks
    SELECT conversation, :author, joined_at, delivered_seq, read_seq, 0
    FROM marks WHERE conversation = :number AND user = :user
    ON CONFLICT DO NOTHING
"""

_COUNT_OWN_OVER: Final = """
    UPDATE marks
    SET own_after_read =
        own_after_read + CASE user WHEN :author THEN own.messages ELSE -own.messages END
    FROM (
        SELECT user AS owner, count(*) AS messages
        FROM marks CROSS JOIN messages ON messages.conversation = :number
        AND seq > max(:after, read_seq) AND seq <= :last AND sender = :user
        WHERE marks.conversation = :number AND user IN (:user, :author)
        GROUP BY user
    ) AS own
    WHERE conversation = :number AND user = owner
"""

_PUT_AUTHOR: Final = """
    UPDATE messages
    SET sender = :author, client_id = NULL, text = CASE WHEN :blank THEN '' ELSE text END
    WHERE conversation = :number AND seq > :after AND seq <= :last AND sender = :user
"""

_PUT_MAKER: Final = """
    UPDATE groups SET created_by = :author WHERE conversation = :number AND created_by = :user
"""

# A receipt of the user's may have come since the author's place was made.
_MOVE_MARKS_ALONG: Final = """
    UPDATE marks
    SET delivered_seq = theirs.delivered_seq, read_seq = theirs.read_seq,
        own_after_read = marks.own_after_read - (
            SELECT count(*) FROM messages
            WHERE messages.conversation = :number AND sender = :author
            AND seq > marks.read_seq AND seq <= theirs.read_seq
        )
    FROM marks AS theirs
    WHERE marks.conversation = :number AND marks.user = :author
    AND theirs.conversation = :number AND theirs.user = :user
"""

_DROP_PLACE: Final = "DELETE FROM marks WHERE conversation = :number AND user = :user"


def reassign(
    db: sqlite3.Connection, conversations: Conversations, change: Reassignment, after: int
) -> int | None:
    """Do the piece behind ``after``; the last seq of it, or None where that was all."""
    known = conversations.find(db, change.conversation)
    if known is None:
        return None
    last = _last_of_piece(db, known, after)
    values = {
        "number": known.number,
        "user": change.user,
        "author": change.author,
        "blank": change.blank,
        "after": after,
        "last": last,
    }
    is_pair = pair_of(change.conversation) is not None
    if is_pair:
        db.execute(_MAKE_PLACE, values)
    db.execute(_COUNT_OWN_OVER, values)
    db.execute(_PUT_AUTHOR, values)
    if last < known.last_seq:
        return last
    if is_pair:
        db.execute(_MOVE_MARKS_ALONG, values)
        db.execute(_DROP_PLACE, values)
        conversations.rename(db, change.conversation, _renamed(change))
    else:
        db.execute(_PUT_MAKER, values)
    return None


def _last_of_piece(db: sqlite3.Connection, known: Known, after: int) -> int:
    (first,) = db.execute(_FIRST, (known.number, after)).fetchone()
    return known.last_seq if first is None else int(first) - 1 + AT_ONCE


def _renamed(change: Reassignment) -> Conversation:
    sides = pair_of(change.conversation) or ()
    return pair_conversation(*(change.author if one == change.user else one for one in sides))
