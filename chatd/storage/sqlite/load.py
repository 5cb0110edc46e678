"""Taking records of another store into SQLite: a statement for all of a kind, however many."""

# Statements are put together from constants; every value is bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from chatd.errors import Conflict
from chatd.models import (
    Conversation,
    Group,
    Message,
    Place,
    Record,
    RevokedToken,
    User,
    group_conversation,
    group_of,
)
from chatd.storage.sqlite.conversations import Conversations
from chatd.storage.sqlite.rows import as_json


def _fields(*names: str) -> str:
    """These fields of each record; ``json_each`` has it as its value."""
    return ", ".join(f"json_extract(value, '$.{name}')" for name in names)


_USER: Final = ("email", "id", "password_hash", "created_at", "generation", "last_seen_at")

# Neither an address nor an id is that of two: who else had it here is replaced.
_PUT_USERS: Final = f"""
    INSERT OR REPLACE INTO users ({", ".join(_USER)}) SELECT {_fields(*_USER)} FROM json_each(?)
"""

_MAKE_CONVERSATIONS: Final = """
    INSERT INTO conversations (key) SELECT value FROM json_each(?) WHERE TRUE
    ON CONFLICT DO NOTHING
"""

_NUMBER: Final = "(SELECT number FROM conversations WHERE key = {})"

_GROUP_KEY: Final = f"'{group_conversation('')}' || {_fields('name')}"

_PUT_GROUPS: Final = f"""
    INSERT INTO groups (conversation, name, title, created_by, created_at, members, messages)
    SELECT {_NUMBER.format(_GROUP_KEY)},
           {_fields("name", "title", "created_by", "created_at")}, 0, 0
    FROM json_each(?) WHERE TRUE
    ON CONFLICT (conversation) DO UPDATE
    SET title = excluded.title, created_by = excluded.created_by, created_at = excluded.created_at
"""

_CONTENT: Final = (
    "id",
    "sender",
    "text",
    "sent_at",
    "client_id",
    "delivered_at",
    "read_at",
)

_PUT_MESSAGES: Final = f"""
    INSERT INTO messages (conversation, seq, {", ".join(_CONTENT)})
    SELECT {_NUMBER.format(_fields("conversation"))}, {_fields("seq", *_CONTENT)}
    FROM json_each(?) WHERE TRUE
    ON CONFLICT (conversation, seq) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _CONTENT)}
"""

_PUT_PLACES: Final = f"""
    INSERT INTO marks (conversation, user, joined_at, delivered_seq, read_seq, own_after_read)
    SELECT {_NUMBER.format(_fields("conversation"))},
           {_fields("user", "joined_at", "delivered_seq", "read_seq")}, 0
    FROM json_each(?) WHERE TRUE
    ON CONFLICT (conversation, user) DO UPDATE
    SET joined_at = excluded.joined_at, delivered_seq = excluded.delivered_seq,
        read_seq = excluded.read_seq, own_after_read = 0
"""

# Each message is looked at once, however many places there are.
_COUNT_OWN: Final = """
    UPDATE marks SET own_after_read = own.messages
    FROM (
        SELECT number, user AS owner, count(*) AS messages
        FROM (
            SELECT number, (SELECT min(read_seq) FROM marks WHERE conversation = number) AS least
            FROM conversations WHERE key IN (SELECT value FROM json_each(?))
        )
        CROSS JOIN messages ON messages.conversation = number AND seq > least
        CROSS JOIN marks ON marks.conversation = number AND user = sender AND seq > read_seq
        GROUP BY number, user
    ) AS own
    WHERE conversation = number AND user = owner
"""

_COUNT_GROUPS: Final = """
    UPDATE groups
    SET members = (SELECT count(*) FROM marks WHERE marks.conversation = groups.conversation),
        messages = (
            SELECT coalesce(max(seq), 0) FROM messages
            WHERE messages.conversation = groups.conversation
        )
    WHERE name IN (SELECT value FROM json_each(?))
"""

_PUT_TOKENS: Final = f"""
    INSERT INTO revoked_tokens (id, expires_at)
    SELECT {_fields("id", "expires_at")} FROM json_each(?) WHERE TRUE
    ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at
"""


_TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


def load(db: sqlite3.Connection, conversations: Conversations, records: Sequence[Record]) -> None:
    """Kind by kind, so that what something counts or names is there before it."""
    conversations.clear()
    groups = [one for one in records if isinstance(one, Group)]
    messages = [one for one in records if isinstance(one, Message)]
    places = [one for one in records if isinstance(one, Place)]
    placed = {one.conversation for one in places}
    touched = placed | {one.conversation for one in messages}
    touched |= {group_conversation(one.name) for one in groups}
    db.execute(_MAKE_CONVERSATIONS, (_listed(touched),))
    _put(db, _PUT_USERS, [one for one in records if isinstance(one, User)])
    _put(db, _PUT_GROUPS, groups)
    _put(db, _PUT_MESSAGES, messages)
    _put(db, _PUT_PLACES, places)
    _put(db, _PUT_TOKENS, [one for one in records if isinstance(one, RevokedToken)])
    db.execute(_COUNT_OWN, (_listed(placed),))
    db.execute(_COUNT_GROUPS, (as_json([name for name in map(group_of, touched) if name]),))


def _put(db: sqlite3.Connection, statement: str, records: Sequence[Record]) -> None:
    if not records:
        return
    try:
        db.execute(statement, (as_json(records),))
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode not in _TAKEN:
            raise
        raise Conflict("a record with the same id is there in another place") from error


def _listed(conversations: set[Conversation]) -> str:
    return as_json(sorted(conversations))
