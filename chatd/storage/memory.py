"""The store that lives and dies with the process: for trying things out, and for tests.

Every method runs to its end without an await, so each is atomic on the event loop's thread.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
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
    Place,
    Position,
    Record,
    RevokedToken,
    Stored,
    Summary,
    SummaryCursor,
    User,
    group_conversation,
    group_of,
    other_of,
    pair_conversation,
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
        self._index(log, message)
        return Stored(message)

    def _index(self, log: Log, message: Message) -> None:
        self._by_id[message.id] = (log, message.seq)
        if message.client_id is not None:
            self._by_client_id[message.sender, message.client_id] = (log, message.seq)

    def _forget_client_ids(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.client_id is not None:
                self._by_client_id.pop((message.sender, message.client_id), None)

    def _forget(self, messages: Iterable[Message]) -> None:
        for message in messages:
            del self._by_id[message.id]

    def _first(self, draft: Draft) -> Message | None:
        """The message that holds the draft's ``client_id``, or else its id."""
        at = self._by_id.get(draft.id)
        if draft.client_id is not None:
            at = self._by_client_id.get((draft.sender, draft.client_id), at)
        return None if at is None else at[0].message(at[1])

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
        end = log.last_seq + 1 if before_seq is None else min(before_seq, log.last_seq + 1)
        if after_seq is None:
            return log.between(end - 1 - limit, end)
        start = max(after_seq, log.first_seq - 1)
        return log.between(start, min(end, start + 1 + limit))

    async def message(self, message_id: str) -> Message | None:
        self._opened()
        at = self._by_id.get(message_id)
        return None if at is None else at[0].message(at[1])

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

    async def revoked_tokens(self, now: int) -> list[RevokedToken]:
        self._opened()
        self._revoked = {token: at for token, at in self._revoked.items() if at > now}
        return [RevokedToken(token, at) for token, at in sorted(self._revoked.items())]

    # -- taking away -------------------------------------------------------------------------

    async def prune(self, conversation: Conversation, before: int, limit: int) -> int:
        self._opened()
        log = self._logs.get(conversation)
        if log is None:
            return 0
        removed = log.prune(before, limit)
        self._forget_client_ids(removed)
        self._forget(message for message in removed if message.seq < log.first_seq)
        return len(removed)

    async def reassign(
        self, conversation: Conversation, user: str, author: str, *, blank: bool
    ) -> None:
        self._opened()
        log = self._logs.get(conversation)
        if log is None:
            return
        self._forget_client_ids(log.reassign(user, author, blank=blank))
        name = group_of(conversation)
        if name is None:
            self._rename_pair(log, user, author)
        elif (group := self._groups.get(name)) and group.created_by == user:
            self._groups[name] = msgspec.structs.replace(group, created_by=author)

    def _rename_pair(self, log: Log, user: str, author: str) -> None:
        other = other_of(log.conversation, user)
        old, new = log.conversation, pair_conversation(author, author if other == user else other)
        log.rename(new)
        log.marks[author] = log.marks.pop(user)
        self._logs[new] = self._logs.pop(old)
        for one, to in ((user, author), (other, author if other == user else other)):
            self._logs_of[one].pop(old, None)
            self._logs_of[to][new] = log

    async def delete_conversation(self, conversation: Conversation) -> None:
        self._opened()
        log = self._logs.pop(conversation, None)
        if log is not None:
            self._forget_client_ids(log.messages)
            self._forget(log.messages)
            for user in log.marks:
                del self._logs_of[user][conversation]

    async def delete_group(self, name: str) -> bool:
        self._opened()
        if self._groups.pop(name, None) is None:
            return False
        log = self._logs[group_conversation(name)]
        for user in log.marks:
            del self._logs_of[user][log.conversation]
        log.marks.clear()
        return True

    async def delete_user(self, email: str) -> bool:
        self._opened()
        user = self._users.pop(email, None)
        if user is not None:
            del self._emails[user.id]
        return user is not None

    async def forget(self) -> None:
        pass  # there is no other server

    # -- everything there is -----------------------------------------------------------------

    async def conversations(
        self, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Conversation]:
        self._opened()
        found = {group_conversation(name) for name in self._groups}
        found |= {key for key, log in self._logs.items() if log.messages}
        return sorted(key for key in found if key > after and key.startswith(prefix))[:limit]

    async def places(
        self, conversation: Conversation, *, after: str = "", limit: int
    ) -> list[Place]:
        self._opened()
        log = self._logs.get(conversation)
        users = sorted(user for user in log.marks if user > after) if log else []
        return [log.place(user) for user in users[:limit] if log]

    async def written_by(
        self, user: str, conversation: Conversation, *, after_seq: int = 0, limit: int
    ) -> list[Message]:
        self._opened()
        log = self._logs.get(conversation)
        if log is None:
            return []
        seqs = log.seqs_by_sender.get(user, [])
        first = bisect_right(seqs, after_seq)
        found = map(log.message, seqs[first : first + limit])
        return [message for message in found if message is not None]

    async def load(self, records: Sequence[Record]) -> None:
        self._opened()
        for record in records:
            self._load(record)

    def _load(self, record: Record) -> None:
        if isinstance(record, User):
            if record.email in self._users:
                del self._emails[self._users[record.email].id]
            self._users[record.email] = record
            self._emails[record.id] = record.email
        elif isinstance(record, Group):
            self._log(group_conversation(record.name))
            self._groups[record.name] = record
        elif isinstance(record, Message):
            log = self._log(record.conversation)
            log.put(record)
            self._index(log, record)
        elif isinstance(record, Place):
            log = self._log(record.conversation)
            log.marks[record.user] = Marks(record.joined_at, record.delivered_seq, record.read_seq)
            self._logs_of[record.user][record.conversation] = log
        else:
            self._revoked[record.id] = record.expires_at

    async def check(self) -> list[str]:
        self._opened()
        return []


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
