"""Users and revoked tokens in SQLite."""

# Statements are put together from constants; every value is bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from chatd.models import RevokedToken, User
from chatd.storage.ranges import behind, end_of
from chatd.storage.sqlite.rows import as_json, fetch

_USERS: Final = msgspec.json.Decoder(list[User])
_TOKENS: Final = msgspec.json.Decoder(list[RevokedToken])

_SELECT: Final = """
    SELECT json_group_array(json_object(
        'id', id, 'email', email, 'password_hash', password_hash, 'created_at', created_at,
        'generation', generation, 'last_seen_at', last_seen_at
    )) FROM
"""


def create_user(db: sqlite3.Connection, user: User) -> bool:
    made = db.execute(
        "INSERT INTO users (email, id, password_hash, created_at, generation, last_seen_at)"
        " VALUES (:email, :id, :password_hash, :created_at, :generation, :last_seen_at)"
        " ON CONFLICT DO NOTHING",
        msgspec.structs.asdict(user),
    )
    return made.rowcount == 1


def user_by_email(db: sqlite3.Connection, email: str) -> User | None:
    return _one(db, f"{_SELECT} users WHERE email = :email", {"email": email})


def user_by_id(db: sqlite3.Connection, user_id: str) -> User | None:
    return _one(db, f"{_SELECT} users WHERE id = :id", {"id": user_id})


def _one(db: sqlite3.Connection, sql: str, values: Mapping[str, Any]) -> User | None:
    users = fetch(db, _USERS, sql, values)
    return users[0] if users else None


def users_by_email(db: sqlite3.Connection, emails: Sequence[str]) -> list[User]:
    sql = f"""
        {_SELECT} (
            SELECT * FROM users WHERE email IN (SELECT value FROM json_each(:emails))
            ORDER BY email
        )
    """
    return fetch(db, _USERS, sql, {"emails": as_json(emails)})


def list_users(db: sqlite3.Connection, prefix: str, after: str, limit: int) -> list[User]:
    sql = f"""
        {_SELECT} (
            SELECT * FROM users WHERE email >= :first AND email < :end ORDER BY email LIMIT :limit
        )
    """
    values = {"first": max(prefix, behind(after)), "end": end_of(prefix), "limit": limit}
    return fetch(db, _USERS, sql, values)


def set_password(db: sqlite3.Connection, email: str, password_hash: str, generation: int) -> None:
    db.execute(
        "UPDATE users SET password_hash = ?, generation = ? WHERE email = ?",
        (password_hash, generation, email),
    )


def delete_user(db: sqlite3.Connection, email: str) -> bool:
    return db.execute("DELETE FROM users WHERE email = ?", (email,)).rowcount == 1


def touch_last_seen(db: sqlite3.Connection, seen: Mapping[str, int]) -> None:
    db.execute(
        """
        UPDATE users SET last_seen_at = max(coalesce(last_seen_at, seen.at), seen.at)
        FROM (
            SELECT json_extract(value, '$[0]') AS email, json_extract(value, '$[1]') AS at
            FROM json_each(?)
        ) AS seen
        WHERE users.email = seen.email
        """,
        (as_json(list(seen.items())),),
    )


def revoke_token(
    db: sqlite3.Connection, token_id: str, expires_at: int, forget_before: int
) -> None:
    """Remember a token, and forget those that had expired by ``forget_before``."""
    db.execute("DELETE FROM revoked_tokens WHERE expires_at <= ?", (forget_before,))
    db.execute(
        "INSERT INTO revoked_tokens (id, expires_at) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        (token_id, expires_at),
    )


def revoked_tokens(db: sqlite3.Connection, now: int) -> list[RevokedToken]:
    sql = """
        SELECT json_group_array(json_object('id', id, 'expires_at', expires_at)) FROM (
            SELECT * FROM revoked_tokens WHERE expires_at > :now ORDER BY id
        )
    """
    return fetch(db, _TOKENS, sql, {"now": now})
