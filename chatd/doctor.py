"""Whether a store is sound: what must hold in it, looked at through the storage contract alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from chatd.models import (
    Conversation,
    Group,
    GroupCursor,
    Message,
    Position,
    User,
    group_conversation,
    pair_of,
)
from chatd.storage.base import Storage

_PAGE: Final = 500
_FROM_A_BACKUP: Final = "put a backup back, or ask for help with a copy of the store"


class Finding(msgspec.Struct, frozen=True):
    """Something that should not be: where, what, and how to mend it."""

    where: str
    what: str
    mend: str


class Report(msgspec.Struct, frozen=True):
    """What was looked at, and what was found."""

    users: int
    groups: int
    conversations: int
    messages: int
    findings: list[Finding]


class Doctor:
    """Goes through everything once. A server may work on the store meanwhile: what it changes
    under way is no finding."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._findings: list[Finding] = []
        self._users: set[str] = set()
        self._messages = 0

    async def examine(self) -> Report:
        """Look at all of it."""
        conversations: set[Conversation] = set()
        self._users = {user.email async for user in self._all_users()}
        for email in sorted(self._users):
            for position in await self._storage.positions(email):
                await self._look_at_marks(email, position)
                conversations.add(position.conversation)
        groups = [group async for group in self._all_groups()]
        conversations |= {group_conversation(group.name) for group in groups}
        for conversation in sorted(conversations):
            await self._look_at_messages(conversation)
        for group in groups:
            await self._look_at_group(group)
        return Report(
            users=len(self._users),
            groups=len(groups),
            conversations=len(conversations),
            messages=self._messages,
            findings=self._findings,
        )

    def _find(self, where: str, what: str, mend: str = _FROM_A_BACKUP) -> None:
        self._findings.append(Finding(where, what, mend))

    async def _look_at_marks(self, email: str, position: Position) -> None:
        conversation = position.conversation
        if not position.read_seq <= position.delivered_seq <= position.last_seq:
            self._find(
                f"{email} in {conversation}",
                f"has read up to {position.read_seq} and been delivered up to"
                f" {position.delivered_seq} of {position.last_seq}",
            )
        for one in pair_of(conversation) or ():
            if one not in self._users and await self._storage.user_by_email(one) is None:
                self._find(conversation, f"is with {one}, who is no user")

    async def _look_at_messages(self, conversation: Conversation) -> None:
        expected, strangers = 1, set[str]()
        async for message in self._all_messages(conversation):
            self._messages += 1
            if message.seq != expected:
                self._find(conversation, f"has {message.seq} where {expected} should be")
            expected = message.seq + 1
            if message.sender not in self._users:
                strangers.add(message.sender)
        for sender in sorted(strangers):
            if await self._storage.user_by_email(sender) is None:
                self._find(conversation, f"has messages of {sender}, who is no user")

    async def _look_at_group(self, group: Group) -> None:
        last = await self._storage.last_seq(group_conversation(group.name))
        now = await self._storage.group(group.name)
        if now is not None and not group.messages <= last <= now.messages:
            self._find(
                group.name, f"counts {group.messages} messages, and its last is number {last}"
            )
        members = 0
        after = ""
        while page := await self._storage.members(group.name, after=after, limit=_PAGE):
            members += len(page)
            after = page[-1].email
            for member in page:
                if await self._storage.user_by_email(member.email) is None:
                    self._find(group.name, f"has the member {member.email}, who is no user")
        counts = {group.members, now.members if now else group.members}
        if len(counts) == 1 and members not in counts:
            self._find(group.name, f"counts {group.members} members, and has {members}")

    # -- everything there is -----------------------------------------------------------------

    async def _all_users(self) -> AsyncIterator[User]:
        after = ""
        while page := await self._storage.list_users(after=after, limit=_PAGE):
            for user in page:
                yield user
            after = page[-1].email

    async def _all_groups(self) -> AsyncIterator[Group]:
        after: GroupCursor | None = None
        while page := await self._storage.list_groups(after=after, limit=_PAGE):
            for group in page:
                yield group
            after = GroupCursor(page[-1].name)

    async def _all_messages(self, conversation: Conversation) -> AsyncIterator[Message]:
        after = 0
        while page := await self._storage.history(conversation, after_seq=after, limit=_PAGE):
            for message in page:
                yield message
            after = page[-1].seq
