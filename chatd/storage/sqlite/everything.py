"""Going through all conversations in SQLite, and who stands where in them."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from chatd.models import Conversation, Place
from chatd.storage.ranges import behind, end_of
from chatd.storage.sqlite.rows import fetch

_KEYS: Final = msgspec.json.Decoder(list[Conversation])
_PLACES: Final = msgspec.json.Decoder(list[Place])


def conversations(
    db: sqlite3.Connection, prefix: str, after: str, limit: int
) -> list[Conversation]:
    sql = """
        SELECT json_group_array(key) FROM (
            SELECT key FROM conversations
            WHERE key >= :first AND key < :end AND (
                EXISTS (SELECT 1 FROM groups WHERE conversation = number)
                OR EXISTS (SELECT 1 FROM messages WHERE conversation = number)
            )
            ORDER BY key LIMIT :limit
        )
    """
    values = {"first": max(prefix, behind(after)), "end": end_of(prefix), "limit": limit}
    return fetch(db, _KEYS, sql, values)


def places(
    db: sqlite3.Connection, conversation: Conversation, after: str, limit: int
) -> list[Place]:
    sql = """
        SELECT json_group_array(json_object(
            'conversation', :key, 'user', user, 'joined_at', joined_at,
            'delivered_seq', delivered_seq, 'read_seq', read_seq
        )) FROM (
            SELECT * FROM marks
            WHERE conversation = (SELECT number FROM conversations WHERE key = :key)
            AND user > :after
            ORDER BY user LIMIT :limit
        )
    """
    return fetch(db, _PLACES, sql, {"key": conversation, "after": after, "limit": limit})
