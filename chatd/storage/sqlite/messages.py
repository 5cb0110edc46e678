"""Reading messages and conversations in SQLite."""

# Statements are put together from constants; every value is bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from chatd.models import Conversation, Message, Position, Summary, SummaryCursor
from chatd.storage.ranges import ENDLESS, within_64_bits
from chatd.storage.sqlite.rows import fetch

MESSAGES: Final = msgspec.json.Decoder(list[Message])
_POSITIONS: Final = msgspec.json.Decoder(list[Position])
_SUMMARIES: Final = msgspec.json.Decoder(list[Summary])

_MESSAGE: Final = """
    json_object(
        'id', id, 'conversation', key, 'seq', seq, 'sender', sender, 'text', text,
        'sent_at', sent_at, 'client_id', client_id, 'delivered_at', delivered_at,
        'read_at', read_at
    )
"""

SELECT_MESSAGES: Final = f"SELECT json_group_array({_MESSAGE}) FROM"

_NUMBER: Final = "(SELECT number FROM conversations WHERE key = :key)"

_FIRST_SEQ: Final = "(SELECT min(seq) FROM messages WHERE conversation = number)"

_LAST_SEQ: Final = "(SELECT coalesce(max(seq), 0) FROM messages WHERE conversation = number)"


def history(
    db: sqlite3.Connection,
    conversation: Conversation,
    after_seq: int | None,
    before_seq: int | None,
    limit: int,
) -> list[Message]:
    chosen = f"""
        SELECT *, :key AS key FROM messages
        WHERE conversation = {_NUMBER} AND seq > :after AND seq < :before
    """
    if after_seq is None:
        last = f"{chosen} ORDER BY seq DESC LIMIT :limit"
        sql = f"{SELECT_MESSAGES} (SELECT * FROM ({last}) ORDER BY seq)"
    else:
        sql = f"{SELECT_MESSAGES} ({chosen} ORDER BY seq LIMIT :limit)"
    values = {
        "key": conversation,
        "after": 0 if after_seq is None else within_64_bits(after_seq),
        "before": ENDLESS if before_seq is None else within_64_bits(before_seq),
        "limit": limit,
    }
    return fetch(db, MESSAGES, sql, values)


def written_by(
    db: sqlite3.Connection, user: str, conversation: Conversation, after_seq: int, limit: int
) -> list[Message]:
    sql = f"""
        {SELECT_MESSAGES} (
            SELECT *, :key AS key FROM messages
            WHERE conversation = {_NUMBER} AND seq > :after AND sender = :user
            ORDER BY seq LIMIT :limit
        )
    """
    values = {"key": conversation, "after": after_seq, "user": user, "limit": limit}
    return fetch(db, MESSAGES, sql, values)


def message(db: sqlite3.Connection, message_id: str) -> Message | None:
    sql = f"{SELECT_MESSAGES} messages JOIN conversations ON number = conversation WHERE id = :id"
    messages = fetch(db, MESSAGES, sql, {"id": message_id})
    return messages[0] if messages else None


def last_seq(db: sqlite3.Connection, conversation: Conversation) -> int:
    row = db.execute(f"SELECT {_LAST_SEQ} FROM conversations WHERE key = ?", (conversation,))
    (seq,) = row.fetchone() or (0,)
    return int(seq)


def positions(db: sqlite3.Connection, user: str) -> list[Position]:
    sql = f"""
        SELECT json_group_array(json_object(
            'conversation', key, 'last_seq', last_seq,
            'delivered_seq', delivered_seq, 'read_seq', read_seq
        )) FROM (
            SELECT key, {_LAST_SEQ} AS last_seq, delivered_seq, read_seq
            FROM marks JOIN conversations ON number = conversation
            WHERE user = :user ORDER BY key
        )
    """
    return fetch(db, _POSITIONS, sql, {"user": user})


def summaries(
    db: sqlite3.Connection, user: str, after: SummaryCursor | None, limit: int
) -> list[Summary]:
    sql = f"""
        WITH mine AS (
            SELECT number, key, joined_at, read_seq, own_after_read, {_LAST_SEQ} AS last_seq
            FROM marks JOIN conversations ON number = conversation
            WHERE user = :user
        ), page AS (
            SELECT mine.*, coalesce(sent_at, joined_at) AS active_at
            FROM mine LEFT JOIN messages ON conversation = number AND seq = last_seq
            WHERE (-active_at, key) > (-:active_at, :key)
            ORDER BY -active_at, key LIMIT :limit
        )
        SELECT json_group_array(json_object(
            'conversation', key, 'last_seq', last_seq, 'read_seq', read_seq,
            'unread', last_seq - max(read_seq, first_seq - 1) - own_after_read,
            'active_at', active_at,
            'last_message', json(CASE WHEN id IS NOT NULL THEN {_MESSAGE} END)
        )) FROM (
            SELECT *, coalesce({_FIRST_SEQ}, 1) AS first_seq
            FROM page LEFT JOIN messages ON conversation = number AND seq = last_seq
            ORDER BY -active_at, key
        )
    """
    values = {
        "user": user,
        "active_at": ENDLESS if after is None else within_64_bits(after.active_at),
        "key": "" if after is None else after.conversation,
        "limit": limit,
    }
    return fetch(db, _SUMMARIES, sql, values)
