"""The storage contract over one MongoDB database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

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
    group_of,
)
from chatd.storage.base import Storage
from chatd.storage.mongo import (
    check,
    conversations,
    groups,
    load,
    messages,
    reassign,
    removal,
    schema,
    users,
)
from chatd.storage.mongo.address import address_of
from chatd.storage.mongo.append import Appender
from chatd.storage.mongo.counts import Counts
from chatd.storage.mongo.database import Database
from chatd.storage.mongo.documents import Db
from chatd.storage.mongo.marks import Advancer
from chatd.storage.mongo.reassign import Reassignment
from chatd.storage.mongo.tails import Tails

P = ParamSpec("P")
T = TypeVar("T")

_LOADED_TOGETHER: Final = 1000
"""How many records are safely stored within the time of one call."""


class MongoStorage(Storage):
    """Everything in one database, which several servers may share."""

    def __init__(self, url: str) -> None:
        """``url``: a MongoDB connection string, as MongoDB's manual has them."""
        self._url = url
        self._database: Database | None = None
        self._tails = Tails()
        self._appender = Appender(self._tails, look_first=False)
        self._advancer = Advancer(self._tails)
        self._counts = Counts()

    @property
    def promise(self) -> str:
        address = address_of(self._url)
        if self._database is None:
            return f"Everything is kept in {address}, database {address.database}."
        return self._database.deployment.promise(address)

    async def start(self) -> None:
        """Raises `StorageRefused` where trying again won't help, `Unavailable` where it may."""
        self._database = await Database.open(self._url, schema.prepare)
        self._appender = Appender(self._tails, look_first=self._database.deployment.sharded)

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close(self._counts.catch_up)

    async def epoch(self) -> str:
        return await self._run(schema.epoch)

    async def ping(self) -> None:
        await self._run(schema.ping)

    async def _run(
        self, work: Callable[Concatenate[Db, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._opened().run(lambda db: work(db, *args, **kwargs))

    def _opened(self) -> Database:
        if self._database is None:
            raise Unavailable("the message store is not open")
        return self._database

    # -- users -------------------------------------------------------------------------------

    async def create_user(self, user: User) -> bool:
        return await self._run(users.create_user, user)

    async def user_by_email(self, email: str) -> User | None:
        return await self._run(users.user_by_email, email)

    async def user_by_id(self, user_id: str) -> User | None:
        return await self._run(users.user_by_id, user_id)

    async def users_by_email(self, emails: Sequence[str]) -> list[User]:
        return await self._run(users.users_by_email, emails)

    async def list_users(self, *, prefix: str = "", after: str = "", limit: int) -> list[User]:
        return await self._run(users.list_users, prefix, after, limit)

    async def set_password(self, email: str, password_hash: str, generation: int) -> None:
        await self._run(users.set_password, email, password_hash, generation)

    async def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        await self._run(users.touch_last_seen, dict(seen))

    # -- groups ------------------------------------------------------------------------------

    async def create_group(self, group: Group) -> bool:
        return await self._run(groups.create_group, group)

    async def group(self, name: str) -> Group | None:
        await self._run(self._counts.catch_up)
        return await self._run(groups.group, name)

    async def list_groups(
        self,
        *,
        sort: GroupSort = GroupSort.NAME,
        prefix: str = "",
        member: str | None = None,
        after: GroupCursor | None = None,
        limit: int,
    ) -> list[Group]:
        await self._run(self._counts.catch_up)
        return await self._run(
            groups.list_groups, sort=sort, prefix=prefix, member=member, after=after, limit=limit
        )

    async def group_names_of(self, user: str) -> list[str]:
        return await self._run(groups.group_names_of, user)

    async def join(self, group: str, user: str, at: int) -> bool:
        return await self._run(groups.join, group, user, at)

    async def leave(self, group: str, user: str) -> bool:
        return await self._run(groups.leave, group, user)

    async def member(self, group: str, user: str) -> Member | None:
        return await self._run(groups.member, group, user)

    async def members(self, group: str, *, after: str = "", limit: int) -> list[Member]:
        return await self._run(groups.members, group, after, limit)

    # -- messages ----------------------------------------------------------------------------

    async def append(self, batch: Sequence[Draft]) -> list[Outcome]:
        database = self._opened()
        try:
            return await self._run(self._appender.append, tuple(batch))
        finally:
            # Also where it failed: some of the batch may be stored.
            if self._counts.note(draft.conversation for draft in batch):
                database.run_behind(self._counts.catch_up)

    async def history(
        self,
        conversation: Conversation,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int,
    ) -> list[Message]:
        return await self._run(messages.history, conversation, after_seq, before_seq, limit)

    async def message(self, message_id: str) -> Message | None:
        return await self._run(messages.message, message_id)

    async def last_seq(self, conversation: Conversation) -> int:
        return await self._run(messages.last_seq, conversation)

    async def positions(self, user: str) -> list[Position]:
        return await self._run(messages.positions, user)

    async def summaries(
        self, user: str, *, after: SummaryCursor | None = None, limit: int
    ) -> list[Summary]:
        return await self._run(messages.summaries, user, after, limit)

    # -- receipts ----------------------------------------------------------------------------

    async def advance(self, marks: Sequence[Mark]) -> list[Advance]:
        return await self._run(self._advancer.advance, tuple(marks))

    # -- revoked tokens ----------------------------------------------------------------------

    async def revoke_token(self, token_id: str, expires_at: int) -> None:
        await self._run(users.revoke_token, token_id, expires_at)

    async def revoked_tokens(self, now: int) -> list[RevokedToken]:
        return await self._run(users.revoked_tokens, now)

    # -- taking away -------------------------------------------------------------------------

    async def prune(self, conversation: Conversation, before: int, limit: int) -> int:
        return await self._run(removal.prune, conversation, before, limit)

    async def reassign(
        self, conversation: Conversation, user: str, author: str, *, blank: bool
    ) -> None:
        one = Reassignment(conversation, user, author, blank)
        if group_of(conversation) is None:
            await self._reassign_pair(one)
        else:
            while await self._run(reassign.reassign_some, one):
                pass
            await self._run(reassign.reassign_group, one)

    async def _reassign_pair(self, one: Reassignment) -> None:
        one_by_one = self._opened().deployment.sharded
        if one.is_of_nobody:
            return
        while await self._run(reassign.move_some, one, one_by_one=one_by_one):
            pass
        async with self._forgetting(one.conversation, one.renamed):
            await self._run(reassign.move_rest, one, one_by_one=one_by_one)

    async def delete_conversation(self, conversation: Conversation) -> None:
        while await self._run(removal.delete_some, conversation):
            pass
        async with self._forgetting(conversation):
            await self._run(removal.delete_rest, conversation)

    @asynccontextmanager
    async def _forgetting(self, *conversations: Conversation) -> AsyncIterator[None]:
        """What this server knows of their ends is void; inside, it neither writes nor marks."""
        async with self._appender.turn, self._advancer.turn:
            try:
                yield
            finally:
                self._tails.forget(conversations)

    async def delete_group(self, name: str) -> bool:
        return await self._run(groups.delete_group, name)

    async def delete_user(self, email: str) -> bool:
        # What nobody can see names the user too.
        await self._run(removal.delete_unbegun, email)
        return await self._run(users.delete_user, email)

    async def forget(self) -> None:
        async with self._appender.turn, self._advancer.turn:
            self._tails.clear()

    # -- everything there is -----------------------------------------------------------------

    async def conversations(
        self, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Conversation]:
        found = await self._run(conversations.of_groups, prefix, after, limit)
        begun: list[Conversation] = []
        while some := await self._run(
            conversations.with_messages,
            prefix,
            begun[-1] if begun else after,
            limit - len(begun),
        ):
            begun += some
        return sorted({*found, *begun})[:limit]

    async def places(
        self, conversation: Conversation, *, after: str = "", limit: int
    ) -> list[Place]:
        return await self._run(conversations.places, conversation, after, limit)

    async def written_by(
        self, user: str, conversation: Conversation, *, after_seq: int = 0, limit: int
    ) -> list[Message]:
        return await self._run(messages.written_by, user, conversation, after_seq, limit)

    async def load(self, records: Sequence[Record]) -> None:
        for start in range(0, len(records), _LOADED_TOGETHER):
            await self._run(load.load, records[start : start + _LOADED_TOGETHER])
        self._counts.note(load.conversations_in(records))
        await self._run(self._counts.catch_up)
        for name in load.groups_joined_in(records):
            await self._run(groups.count, name)

    async def check(self) -> list[str]:
        return await self._run(check.check, sharded=self._opened().deployment.sharded)
