"""Storing messages in SQLite: the way that every message takes, kept short."""

# Statements are put together from constants; every value is bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from chatd.models import Draft, Message, Outcome, Stored, group_of
from chatd.storage.repeats import Earlier, repeated
from chatd.storage.sqlite.conversations import Conversations
from chatd.storage.sqlite.messages import MESSAGES, SELECT_MESSAGES
from chatd.storage.sqlite.rows import Row, Rows, as_json, fetch

# OR ROLLBACK: with OR ABORT, the default, each statement of many rows keeps an undo log of the
# pages it touches. Nothing here may fail anyway, and if it does, all is undone.
_INSERT: Final = Rows.of(
    "INSERT OR ROLLBACK INTO messages (conversation, seq, id, sender, text, sent_at, client_id)",
    width=7,
)

_FIND_REPEATED: Final = f"""
    {SELECT_MESSAGES} (
        SELECT messages.*, conversations.key
        FROM json_each(:ids)
        JOIN messages ON messages.id = json_each.value
        JOIN conversations ON number = conversation
        UNION
        SELECT messages.*, conversations.key
        FROM json_each(:client_ids)
        JOIN messages ON client_id = json_extract(json_each.value, '$[0]')
                     AND sender = json_extract(json_each.value, '$[1]')
        JOIN conversations ON number = conversation
    )
"""

_COUNT_OWN: Final = """
    UPDATE marks SET own_after_read = own_after_read + own.messages
    FROM (
        SELECT json_extract(value, '$[0]') AS conversation, json_extract(value, '$[1]') AS user,
               json_extract(value, '$[2]') AS messages
        FROM json_each(?)
    ) AS own
    WHERE marks.conversation = own.conversation AND marks.user = own.user
"""

_COUNT_GROUPS: Final = """
    UPDATE groups SET messages = counted.messages
    FROM (
        SELECT json_extract(value, '$[0]') AS conversation,
               json_extract(value, '$[1]') AS messages
        FROM json_each(?)
    ) AS counted
    WHERE groups.conversation = counted.conversation
"""


def append(
    db: sqlite3.Connection, conversations: Conversations, batch: Sequence[Draft]
) -> list[Outcome]:
    conversations.make_room()
    earlier = Earlier(_repeated(db, batch))
    outcomes: list[Outcome] = []
    rows: list[Row] = []
    own: Counter[tuple[int, str]] = Counter()
    groups: dict[int, int] = {}
    for draft in batch:
        first = earlier.first(draft)
        if first is not None:
            outcomes.append(repeated(draft, first))
            continue
        known = conversations.find_or_make(db, draft.conversation, draft.sent_at)
        known.last_seq += 1
        message = draft.numbered(known.last_seq)
        earlier.add(message)
        outcomes.append(Stored(message))
        rows.append(_row(known.number, message))
        own[known.number, message.sender] += 1
        if group_of(message.conversation):
            groups[known.number] = known.last_seq
    _INSERT.insert(db, rows)
    db.execute(_COUNT_OWN, (as_json([(*key, count) for key, count in own.items()]),))
    if groups:
        db.execute(_COUNT_GROUPS, (as_json(list(groups.items())),))
    return outcomes


def _repeated(db: sqlite3.Connection, batch: Sequence[Draft]) -> list[Message]:
    """The stored messages that hold an id or a client id of the batch."""
    values = {
        "ids": as_json([draft.id for draft in batch]),
        "client_ids": as_json(
            [(draft.client_id, draft.sender) for draft in batch if draft.client_id is not None]
        ),
    }
    return fetch(db, MESSAGES, _FIND_REPEATED, values)


def _row(number: int, message: Message) -> Row:
    return (
        number,
        message.seq,
        message.id,
        message.sender,
        message.text,
        message.sent_at,
        message.client_id,
    )
