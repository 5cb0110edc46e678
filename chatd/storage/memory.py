"""The store that lives and dies with the process: for trying things out, and for tests.

Every method runs to its end without an await, so each is atomic on the event loop's thread.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

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
    Position,
    Stored,
    Summary,
    SummaryCursor,
    User,
    group_conversation,
    group_of,
    pair_of,
)
from chatd.storage.base import Storage
from chatd.storage.memory_log import Log, Marks
from chatd.storage.repeats import repeated


class MemoryStorage(Storage):
    """Everything in dictionaries of this process."""

    def __init__(self) -> None:
        self._epoch: str | None = None
        self._users: dict[str, User] = {}
        self._emails: dict[str, str] = {}
        self._groups: dict[str, Group] = {}
        self._logs: dict[Conversation, Log] = {}
        self._logs_of: defaultdict[str, dict[Conversation, Log]] = defaultdict(dict)
        self._by_id: dict[str, tuple[Log, int]] = {}
        self._by_client_id: dict[tuple[str, str], tuple[Log, int]] = {}
        self._revoked: dict[str, int] = {}

    @property
    def promise(self) -> str:
        return "Everything is kept in this process's memory only, and ends with the process."

    async def start(self) -> None:
        self._epoch = secrets.token_hex(8)

    async def close(self) -> None:
        self._epoch = None

    async def epoch(self) -> str:
        return self._opened()

    async def ping(self) -> None:
        self._opened()

    def _opened(self) -> str:
        if self._epoch is None:
            raise Unavailable("the message store is not open")
        return self._epoch

    # -- users -------------------------------------------------------------------------------

    async def create_user(self, user: User) -> bool:
        self._opened()
        if user.email in self._users or user.id in self._emails:
            return False
        self._users[user.email] = user
        self._emails[user.id] = user.email
        return True

    async def user_by_email(self, email: str) -> User | None:
        self._opened()
        return self._users.get(email)

    async def user_by_id(self, user_id: str) -> User | None:
        self._opened()
        email = self._emails.get(user_id)
        return None if email is None else self._users[email]

    async def users_by_email(self, emails: Sequence[str]) -> list[User]:
        self._opened()
        return [self._users[email] for email in sorted(set(emails)) if email in self._users]

    async def list_users(self, *, prefix: str = "", after: str = "", limit: int) -> list[User]:
        self._opened()
        found = (email for email in self._users if email > after and email.startswith(prefix))
        return [self._users[email] for email in sorted(found)[:limit]]

    async def set_password(self, email: str, password_hash: str, generation: int) -> None:
        self._opened()
        if user := self._users.get(email):
            self._users[email] = msgspec.structs.replace(
                user, password_hash=password_hash, generation=generation
            )

    async def touch_last_seen(self, seen: Mapping[str, int]) -> None:
        self._opened()
        for email, at in seen.items():
            user = self._users.get(email)
            if user and (user.last_seen_at is None or user.last_seen_at < at):
                self._users[email] = msgspec.structs.replace(user, last_seen_at=at)

    # -- groups ------------------------------------------------------------------------------

    async def create_group(self, group: Group) -> bool:
        self._opened()
        if group.name in self._groups:
            return False
        self._groups[group.name] = group
        self._add_marks(group_conversation(group.name), group.created_by, group.created_at)
        return True

    async def group(self, name: str) -> Group | None:
        self._opened()
        return self._counted(self._groups[name]) if name in self._groups else None

    async def list_groups(
        self,
        *,
        sort: GroupSort = GroupSort.NAME,
        prefix: str = "",
        member: str | None = None,
        after: GroupCursor | None = None,
        limit: int,
    ) -> list[Group]:
        self._opened()
        names: Iterable[str] = self._groups if member is None else self._group_names(member)
        found = [
            (_rank(sort, group), group)
            for group in (self._counted(self._groups[n]) for n in names if n.startswith(prefix))
        ]
        if after is not None:
            behind = (0 if sort is GroupSort.NAME else -after.count, after.name)
            found = [(rank, group) for rank, group in found if rank > behind]
        return [group for _, group in sorted(found, key=lambda pair: pair[0])[:limit]]

    async def group_names_of(self, user: str) -> list[str]:
        self._opened()
        return sorted(self._group_names(user))

    async def join(self, group: str, user: str, at: int) -> bool:
        self._opened()
        conversation = group_conversation(group)
        if group not in self._groups or user in self._logs[conversation].marks:
            return False
        self._add_marks(conversation, user, at)
        return True

    async def leave(self, group: str, user: str) -> bool:
        self._opened()
        conversation = group_conversation(group)
        if self._logs_of.get(user, {}).pop(conversation, None) is None:
            return False
        del self._logs[conversation].marks[user]
        return True

    async def member(self, group: str, user: str) -> Member | None:
        self._opened()
        log = self._logs.get(group_conversation(group))
        return None if log is None or user not in log.marks else _member(group, log, user)

    async def members(self, group: str, *, after: str = "", limit: int) -> list[Member]:
        self._opened()
        log = self._logs.get(group_conversation(group))
        users = sorted(user for user in log.marks if user > after) if log else []
        return [_member(group, log, user) for user in users[:limit] if log]

    def _counted(self, group: Group) -> Group:
        log = self._logs[group_conversation(group.name)]
        return msgspec.structs.replace(group, members=len(log.marks), messages=log.last_seq)

    def _group_names(self, user: str) -> Iterator[str]:
        for conversation in self._logs_of.get(user, {}):
            if name := group_of(conversation):
                yield name

    def _log(self, conversation: Conversation) -> Log:
        log = self._logs.get(conversation)
        if log is None:
            log = self._logs[conversation] = Log(conversation)
        return log

    def _add_marks(self, conversation: Conversation, user: str, at: int) -> None:
        log = self._log(conversation)
        log.marks[user] = Marks(at, log.last_seq, log.last_seq)
        self._logs_of[user][conversation] = log

    # -- messages ----------------------------------------------------------------------------

    async def append(self, batch: Sequence[Draft]) -> list[Outcome]:
        self._opened()
        return [self._append(draft) for draft in batch]

    def _append(self, draft: Draft) -> Outcome:
        first = self._first(draft)
        if first is not None:
            return repeated(draft, first)
        log = self._log(draft.conversation)
        if not log.messages:
            for user in pair_of(draft.conversation) or ():
                self._add_marks(draft.conversation, user, draft.sent_at)
        message = log.add(draft)
        self._by_id[message.id] = (log, message.seq)
        if message.client_id is not None:
            self._by_client_id[message.sender, message.client_id] = (log, message.seq)
        return Stored(message)

    def _first(self, draft: Draft) -> Message | None:
        """The message that holds the draft's ``client_id``, or else its id."""
        at = self._by_id.get(draft.id)
        if draft.client_id is not None:
            at = self._by_client_id.get((draft.sender, draft.client_id), at)
        return None if at is None else at[0].messages[at[1] - 1]

    async def history(
        self,
        conversation: Conversation,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int,
    ) -> list[Message]:
        self._opened()
        log = self._logs.get(conversation)
        if log is None:
            return []
        end = log.last_seq if before_seq is None else max(0, min(before_seq - 1, log.last_seq))
        if after_seq is None:
            return log.messages[max(0, end - limit) : end]
        start = max(0, after_seq)
        return log.messages[start : min(end, start + limit)]

    async def message(self, message_id: str) -> Message | None:
        self._opened()
        at = self._by_id.get(message_id)
        return None if at is None else at[0].messages[at[1] - 1]

    async def last_seq(self, conversation: Conversation) -> int:
        self._opened()
        log = self._logs.get(conversation)
        return 0 if log is None else log.last_seq

    async def positions(self, user: str) -> list[Position]:
        self._opened()
        found = self._logs_of.get(user, {})
        return [found[conversation].position(user) for conversation in sorted(found)]

    async def summaries(
        self, user: str, *, after: SummaryCursor | None = None, limit: int
    ) -> list[Summary]:
        self._opened()
        found = [log.summary(user) for log in self._logs_of.get(user, {}).values()]
        if after is not None:
            behind = (-after.active_at, after.conversation)
            found = [line for line in found if (-line.active_at, line.conversation) > behind]
        return sorted(found, key=lambda line: (-line.active_at, line.conversation))[:limit]

    # -- receipts ----------------------------------------------------------------------------

    async def advance(self, marks: Sequence[Mark]) -> list[Advance]:
        self._opened()
        return [
            advance
            for mark in marks
            if (log := self._logs.get(mark.conversation))
            for advance in log.advance(mark)
        ]

    # -- revoked tokens ----------------------------------------------------------------------

    async def revoke_token(self, token_id: str, expires_at: int) -> None:
        self._opened()
        self._revoked[token_id] = max(expires_at, self._revoked.get(token_id, expires_at))

    async def revoked_tokens(self, now: int) -> list[str]:
        self._opened()
        self._revoked = {token: at for token, at in self._revoked.items() if at > now}
        return list(self._revoked)


def _rank(sort: GroupSort, group: Group) -> tuple[int, str]:
    """Where a group stands in the order of a list; the least comes first."""
    counts = {
        GroupSort.NAME: 0,
        GroupSort.MEMBERS: -group.members,
        GroupSort.MESSAGES: -group.messages,
    }
    return counts[sort], group.name


def _member(group: str, log: Log, user: str) -> Member:
    marks = log.marks[user]
    return Member(group, user, marks.joined_at, marks.delivered_seq, marks.read_seq)
