"""Whether a store is sound: what must hold in it, looked at through the storage contract alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from chatd.errors import Unavailable
from chatd.models import (
    Conversation,
    Group,
    GroupCursor,
    Message,
    Place,
    Position,
    User,
    group_conversation,
    group_of,
    pair_of,
)
from chatd.storage.base import Storage

_PAGE: Final = 500
_MAKE_AND_DELETE: Final = "make the group anew and delete it with chatd group delete"
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

    def __init__(
        self, storage: Storage, is_being_erased: Callable[[str], bool] = lambda _: False
    ) -> None:
        """``is_being_erased``: whether a server erases that user at this moment."""
        self._storage = storage
        self._is_being_erased = is_being_erased
        self._findings: list[Finding] = []
        self._users: set[str] = set()
        self._groups: list[Group] = []
        self._conversations = 0
        self._messages = 0

    async def examine(self) -> Report:
        """Look at all of it, as far as it can be read."""
        for sentence in await self._storage.check():
            what, _, mend = sentence.rstrip(".").partition(": ")
            self._find("the store", what, mend or _FROM_A_BACKUP)
        try:
            await self._look_at_everything()
        except (Unavailable, ValueError) as error:
            # A store that is sound is just not there.
            if not self._findings:
                raise
            what = f"can't be read any further ({error.__cause__ or error})"
            self._find("the store", what, f"try again, and where it stays so {_FROM_A_BACKUP}")
        return Report(
            users=len(self._users),
            groups=len(self._groups),
            conversations=self._conversations,
            messages=self._messages,
            findings=self._findings,
        )

    async def _look_at_everything(self) -> None:
        users = [user async for user in self._all_users()]
        self._users = {user.email for user in users}
        for user in users:
            await self._look_at_user(user)
        self._groups = [group async for group in self._all_groups()]
        async for conversation in self._all_conversations():
            self._conversations += 1
            await self._look_at_conversation(conversation)
            await self._look_at_messages(conversation)
        for group in self._groups:
            await self._look_at_group(group)
        for user in users:
            await self._look_whether_erased(user)

    def _find(self, where: str, what: str, mend: str = _FROM_A_BACKUP) -> None:
        self._findings.append(Finding(where, what, mend))

    async def _look_at_user(self, user: User) -> None:
        for position in await self._storage.positions(user.email):
            self._look_at_marks(user.email, position)

    def _look_at_marks(self, email: str, position: Position) -> None:
        if not position.read_seq <= position.delivered_seq <= position.last_seq:
            self._find(
                f"{email} in {position.conversation}",
                f"has read up to {position.read_seq} and been delivered up to"
                f" {position.delivered_seq} of {position.last_seq}",
            )

    async def _look_whether_erased(self, user: User) -> None:
        """Whether that began, and neither ended meanwhile nor goes on."""
        if user.author is None or self._is_being_erased(user.email):
            return
        if await self._storage.user_by_id(user.id) is not None:
            self._find(
                user.email, "is being erased", f"if that broke off, run chatd erase {user.email}"
            )

    async def _look_at_conversation(self, conversation: Conversation) -> None:
        """Whether all who stand in it are users, and a pair is one of two who stand in it."""
        sides = _sides(conversation)
        if sides is None:
            self._find(conversation, "is the name of no conversation")
            return
        users = await self._users_in(conversation)
        if not sides <= users and not await self._is_on_the_move(conversation, sides):
            users = await self._users_in(conversation)
            for missing in sorted(sides - users):
                self._find(conversation, f"has no marks of {missing}")
        for user in sorted((sides | users) - self._users):
            if await self._storage.user_by_email(user) is None:
                self._find(conversation, f"has {user} in it, who is no user")

    async def _users_in(self, conversation: Conversation) -> set[str]:
        return {place.user async for place in self._all_places(conversation)}

    async def _is_on_the_move(self, conversation: Conversation, sides: set[str]) -> bool:
        """Whether somebody is erased for whom it gets another name, or is taken away."""
        authors = {user.author async for user in self._all_users()}
        return not authors.isdisjoint(sides) or not await self._storage.last_seq(conversation)

    async def _look_at_messages(self, conversation: Conversation) -> None:
        # What lay in front of the first may have been too old to be kept.
        expected, strangers, texts = 0, set[str](), 0
        async for message in self._all_messages(conversation):
            self._messages += 1
            texts += bool(message.text)
            if expected not in (0, message.seq) and await self._begins_before(message):
                self._find(conversation, f"has {message.seq} where {expected} should be")
            expected = message.seq + 1
            if message.sender not in self._users:
                strangers.add(message.sender)
        for sender in sorted(strangers):
            if await self._storage.user_by_email(sender) is None:
                self._find(conversation, f"has messages of {sender}, who is no user")
        group = group_of(conversation)
        if texts and group is not None and await self._is_left_over(conversation, group):
            self._find(conversation, "has messages, and there is no such group", _MAKE_AND_DELETE)

    async def _is_left_over(self, conversation: Conversation, group: str) -> bool:
        """Whether it has texts without a group; it may have just been taken away with them."""
        if await self._storage.group(group) is not None:
            return False
        last = await self._storage.history(conversation, limit=1)
        return bool(last and last[0].text)

    async def _begins_before(self, message: Message) -> bool:
        """Whether messages are left in front of this one; old ones may have just been removed."""
        before = await self._storage.history(message.conversation, before_seq=message.seq, limit=1)
        return bool(before)

    async def _look_at_group(self, group: Group) -> None:
        last = await self._storage.last_seq(group_conversation(group.name))
        members = len(await self._users_in(group_conversation(group.name)))
        now = await self._storage.group(group.name)
        if now is None:
            return
        if not group.messages <= last <= now.messages:
            self._find(
                group.name, f"counts {group.messages} messages, and its last is number {last}"
            )
        if group.members == now.members != members:
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

    async def _all_conversations(self) -> AsyncIterator[Conversation]:
        after = ""
        while page := await self._storage.conversations(after=after, limit=_PAGE):
            for conversation in page:
                yield conversation
            after = page[-1]

    async def _all_places(self, conversation: Conversation) -> AsyncIterator[Place]:
        after = ""
        while page := await self._storage.places(conversation, after=after, limit=_PAGE):
            for place in page:
                yield place
            after = page[-1].user

    async def _all_messages(self, conversation: Conversation) -> AsyncIterator[Message]:
        after = 0
        while page := await self._storage.history(conversation, after_seq=after, limit=_PAGE):
            for message in page:
                yield message
            after = page[-1].seq


def _sides(conversation: Conversation) -> set[str] | None:
    """Who talks in a pair, nobody special in a group; None where it is neither."""
    if group_of(conversation) is not None:
        return set()
    try:
        pair = pair_of(conversation)
    except ValueError:
        return None
    return None if pair is None else set(pair)
