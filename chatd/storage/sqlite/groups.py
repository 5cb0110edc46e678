"""Groups and their members in SQLite. A member is a row of ``marks``."""

# Statements are put together from constants; every value is bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from types import MappingProxyType
from typing import Final

import msgspec

from chatd.models import Group, GroupCursor, GroupSort, Member, group_conversation
from chatd.storage.ranges import behind, end_of, within_64_bits
from chatd.storage.sqlite.conversations import Conversations
from chatd.storage.sqlite.rows import fetch

_GROUPS: Final = msgspec.json.Decoder(list[Group])
_MEMBERS: Final = msgspec.json.Decoder(list[Member])
_TEXTS: Final = msgspec.json.Decoder(list[str])

_SELECT_GROUPS: Final = """
    SELECT json_group_array(json_object(
        'name', name, 'title', title, 'created_by', created_by, 'created_at', created_at,
        'members', members, 'messages', messages
    )) FROM
"""

_SELECT_MEMBERS: Final = """
    SELECT json_group_array(json_object(
        'group', :group, 'email', user, 'joined_at', joined_at,
        'delivered_seq', delivered_seq, 'read_seq', read_seq
    )) FROM
"""

_CONVERSATION: Final = "(SELECT conversation FROM groups WHERE name = :group)"

_LAST_SEQ: Final = """
    (SELECT coalesce(max(seq), 0) FROM messages WHERE messages.conversation = groups.conversation)
"""

_ORDERS: Final = MappingProxyType(
    {
        GroupSort.NAME: "name",
        GroupSort.MEMBERS: "members_rank, name",
        GroupSort.MESSAGES: "messages_rank, name",
    }
)


def create_group(db: sqlite3.Connection, group: Group) -> bool:
    key = group_conversation(group.name)
    db.execute("INSERT INTO conversations (key) VALUES (?) ON CONFLICT DO NOTHING", (key,))
    made = db.execute(
        "INSERT INTO groups SELECT number, :name, :title, :created_by, :created_at, 0, 0"
        " FROM conversations WHERE key = :key ON CONFLICT DO NOTHING",
        {**msgspec.structs.asdict(group), "key": key},
    )
    if made.rowcount == 0:
        return False
    db.execute(f"UPDATE groups SET messages = {_LAST_SEQ} WHERE name = ?", (group.name,))
    return join(db, group.name, group.created_by, group.created_at)


def group(db: sqlite3.Connection, name: str) -> Group | None:
    groups = fetch(db, _GROUPS, f"{_SELECT_GROUPS} groups WHERE name = :name", {"name": name})
    return groups[0] if groups else None


def list_groups(
    db: sqlite3.Connection,
    *,
    sort: GroupSort,
    prefix: str,
    member: str | None,
    after: GroupCursor | None,
    limit: int,
) -> list[Group]:
    order = _ORDERS[sort]
    conditions = ["TRUE"]
    first = prefix
    if after is not None and sort is GroupSort.NAME:
        first = max(prefix, behind(after.name))
    elif after is not None:
        conditions.append(f"({order}) > (-:count, :name)")
    if first:
        conditions.append("name >= :first AND name < :end")
    if member is not None:
        conditions.append("conversation IN (SELECT conversation FROM marks WHERE user = :member)")
    where = " AND ".join(conditions)
    sql = f"{_SELECT_GROUPS} (SELECT * FROM groups WHERE {where} ORDER BY {order} LIMIT :limit)"
    values = {
        "first": first,
        "end": end_of(prefix),
        "count": within_64_bits(after.count) if after else 0,
        "name": after.name if after else "",
        "member": member,
        "limit": limit,
    }
    return fetch(db, _GROUPS, sql, values)


def group_names_of(db: sqlite3.Connection, user: str) -> list[str]:
    sql = """
        SELECT json_group_array(name) FROM (
            SELECT name FROM groups
            WHERE conversation IN (SELECT conversation FROM marks WHERE user = :user) ORDER BY name
        )
    """
    return fetch(db, _TEXTS, sql, {"user": user})


def join(db: sqlite3.Connection, group: str, user: str, at: int) -> bool:
    joined = db.execute(
        "INSERT INTO marks SELECT conversation, :user, :at, messages, messages, 0"
        " FROM groups WHERE name = :group ON CONFLICT DO NOTHING",
        {"group": group, "user": user, "at": at},
    )
    return _counted(db, group, joined.rowcount)


def leave(db: sqlite3.Connection, group: str, user: str) -> bool:
    left = db.execute(
        f"DELETE FROM marks WHERE conversation = {_CONVERSATION} AND user = :user",
        {"group": group, "user": user},
    )
    return _counted(db, group, -left.rowcount)


def delete_group(db: sqlite3.Connection, conversations: Conversations, name: str) -> bool:
    if db.execute("DELETE FROM groups WHERE name = ?", (name,)).rowcount == 0:
        return False
    conversation = group_conversation(name)
    known = conversations.find(db, conversation)
    assert known is not None, "a group has a conversation"
    db.execute("DELETE FROM marks WHERE conversation = ?", (known.number,))
    if not known.last_seq:
        conversations.delete(db, conversation)
    return True


def _counted(db: sqlite3.Connection, group: str, more: int) -> bool:
    """Count members that came or went; whether there were any."""
    if more == 0:
        return False
    db.execute("UPDATE groups SET members = members + ? WHERE name = ?", (more, group))
    return True


def member(db: sqlite3.Connection, group: str, user: str) -> Member | None:
    sql = f"{_SELECT_MEMBERS} marks WHERE conversation = {_CONVERSATION} AND user = :user"
    members = fetch(db, _MEMBERS, sql, {"group": group, "user": user})
    return members[0] if members else None


def members(db: sqlite3.Connection, group: str, after: str, limit: int) -> list[Member]:
    sql = f"""
        {_SELECT_MEMBERS} (
            SELECT * FROM marks WHERE conversation = {_CONVERSATION} AND user > :after
            ORDER BY user LIMIT :limit
        )
    """
    return fetch(db, _MEMBERS, sql, {"group": group, "after": after, "limit": limit})
