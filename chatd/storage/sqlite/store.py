"""The storage contract over one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from chatd.errors import Unavailable
from chatd.models import (
    Advance,
    Conversation,
    Draft,
    Group,
    GroupCursor,
    GroupSort,
    Mark,
    Member,
    Message,
    Outcome,
    Place,
    Position,
    Record,
    RevokedToken,
    Summary,
    SummaryCursor,
    User,
)
from chatd.storage.base import Storage
from chatd.storage.sqlite import everything, groups, messages, removal, schema, users
from chatd.storage.sqlite.append import append
from chatd.storage.sqlite.check import check
from chatd.storage.sqlite.conversations import Conversations
from chatd.storage.sqlite.database import Database
from chatd.storage.sqlite.load import load
from chatd.storage.sqlite.marks import advance
from chatd.storage.sqlite.reassign import Reassignment, reassign

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStorage(Storage):
    """Everything in one file, which no other server may have open."""

    def __init__(self, path: Path) -> None:
        """``path``: the database file. `start` makes it, and its folder, where there is none."""
        self._path = path.absolute()
        self._database: Database | None = None
        self._conversations = Conversations()
        self._tokens_expired_by = 0

    @property
    def promise(self) -> str:
        return (
            f"Everything is kept in {self._path}; what is confirmed is on the disk, "
            "and survives a crash of the server and a power cut."
        )

    async def start(self) -> None:
        """Raises `StorageRefused` where the file can't or mustn't be opened."""
        self._database = await asyncio.to_thread(Database, self._path, self._conversations.clear)

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close()

    async def epoch(self) -> str:
        return await self._read(schema.epoch)

    async def ping(self) -> None:
        await self._read(schema.epoch)
        await self._write(schema.ping)

    async def _write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._opened().write(lambda db: work(db, *args, **kwargs))

    async def _read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._opened().read(lambda db: work(db, *args, **kwargs))

    def _opened(self) -> Database:
        if self._database is None:
            raise Unavailable("the message store is not open")
        return self._database

    # -- users -------------------------------------------------------------------------------

    async def create_user(self, user: User) -> bool:
        return await self._write(users.create_user, user)

    async def user_by_email(self, email: str) -> User | None:
        return await self._read(users.user_by_email, email)

    async def user_by_id(self, user_id: str) -> User | None:
        return await self._read(users.user_by_id, user_id)

    async def users_by_email(self, emails: Sequence[str]) -> list[User]:
        return await self._read(users.users_by_email, emails)

    async def list_users(self, *, prefix: str = "", after: str = "", limit: int) -> list[User]:
        return await self._read(users.list_users, prefix, after, limit)

    async def set_password(self, email: str, password_hash: str, generation: int) -> None:
        await self._write(users.set_password, email, password_hash, generation)

    async def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        await self._write(users.touch_last_seen, dict(seen))

    # -- groups ------------------------------------------------------------------------------

    async def create_group(self, group: Group) -> bool:
        return await self._write(groups.create_group, group)

    async def group(self, name: str) -> Group | None:
        return await self._read(groups.group, name)

    async def list_groups(
        self,
        *,
        sort: GroupSort = GroupSort.NAME,
        prefix: str = "",
        member: str | None = None,
        after: GroupCursor | None = None,
        limit: int,
    ) -> list[Group]:
        return await self._read(
            groups.list_groups, sort=sort, prefix=prefix, member=member, after=after, limit=limit
        )

    async def group_names_of(self, user: str) -> list[str]:
        return await self._read(groups.group_names_of, user)

    async def join(self, group: str, user: str, at: int) -> bool:
        return await self._write(groups.join, group, user, at)

    async def leave(self, group: str, user: str) -> bool:
        return await self._write(groups.leave, group, user)

    async def member(self, group: str, user: str) -> Member | None:
        return await self._read(groups.member, group, user)

    async def members(self, group: str, *, after: str = "", limit: int) -> list[Member]:
        return await self._read(groups.members, group, after, limit)

    # -- messages ----------------------------------------------------------------------------

    async def append(self, batch: Sequence[Draft]) -> list[Outcome]:
        return await self._write(append, self._conversations, tuple(batch))

    async def history(
        self,
        conversation: Conversation,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int,
    ) -> list[Message]:
        return await self._read(messages.history, conversation, after_seq, before_seq, limit)

    async def message(self, message_id: str) -> Message | None:
        return await self._read(messages.message, message_id)

    async def last_seq(self, conversation: Conversation) -> int:
        return await self._read(messages.last_seq, conversation)

    async def positions(self, user: str) -> list[Position]:
        return await self._read(messages.positions, user)

    async def summaries(
        self, user: str, *, after: SummaryCursor | None = None, limit: int
    ) -> list[Summary]:
        return await self._read(messages.summaries, user, after, limit)

    # -- receipts ----------------------------------------------------------------------------

    async def advance(self, marks: Sequence[Mark]) -> list[Advance]:
        return await self._write(advance, self._conversations, tuple(marks))

    # -- revoked tokens ----------------------------------------------------------------------

    async def revoke_token(self, token_id: str, expires_at: int) -> None:
        await self._write(users.revoke_token, token_id, expires_at, self._tokens_expired_by)

    async def revoked_tokens(self, now: int) -> list[RevokedToken]:
        self._tokens_expired_by = max(now, self._tokens_expired_by)
        return await self._read(users.revoked_tokens, now)

    # -- taking away -------------------------------------------------------------------------

    async def prune(self, conversation: Conversation, before: int, limit: int) -> int:
        return await self._write(removal.prune, self._conversations, conversation, before, limit)

    async def reassign(
        self, conversation: Conversation, user: str, author: str, *, blank: bool
    ) -> None:
        change = Reassignment(conversation, user, author, blank)
        done: int | None = 0
        while done is not None:
            done = await self._write(reassign, self._conversations, change, done)

    async def delete_conversation(self, conversation: Conversation) -> None:
        while await self._write(removal.delete_conversation, self._conversations, conversation):
            pass

    async def delete_group(self, name: str) -> bool:
        return await self._write(groups.delete_group, self._conversations, name)

    async def delete_user(self, email: str) -> bool:
        return await self._write(users.delete_user, email)

    async def forget(self) -> None:
        pass  # no other server has the file open

    # -- everything there is -----------------------------------------------------------------

    async def conversations(
        self, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Conversation]:
        return await self._read(everything.conversations, prefix, after, limit)

    async def places(
        self, conversation: Conversation, *, after: str = "", limit: int
    ) -> list[Place]:
        return await self._read(everything.places, conversation, after, limit)

    async def written_by(
        self, user: str, conversation: Conversation, *, after_seq: int = 0, limit: int
    ) -> list[Message]:
        return await self._read(messages.written_by, user, conversation, after_seq, limit)

    async def load(self, records: Sequence[Record]) -> None:
        await self._write(load, self._conversations, tuple(records))

    async def check(self) -> list[str]:
        return await self._read(check)
