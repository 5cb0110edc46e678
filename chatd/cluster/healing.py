"""What was lost on the way is made good: this server looks into the store for what it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, Protocol

from chatd.cluster.chore import Chore
from chatd.cluster.rooms import Rooms
from chatd.cluster.sequencer import Sequencer
from chatd.cluster.shards import EVERYBODY, shard_of_group, shard_of_user
from chatd.cluster.told import ToldReceipts
from chatd.frames import encode, message_frame
from chatd.heads import Heads
from chatd.models import (
    Advance,
    Conversation,
    Member,
    Message,
    Place,
    ReceiptKind,
    group_conversation,
    group_of,
    now_ms,
    pair_of,
)

_AT_ONCE: Final = 8
_PAGE: Final = 500
_BACK: Final = 200
_LEEWAY_MS: Final = 5_000
"""As far as clocks are apart that nobody need correct."""
_LAST_WRITTEN: Final = 200
_END: Final = 2**53
_FURTHEST_BACK: Final = 100
"""Messages of a conversation that nothing is known of here."""


class Observer(Protocol):
    """Who hears of it."""

    def healed(self, shards: int) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class Healer:
    """Compares what was told here with what the store has.

    Its chores: ``sessions``, which must end in time wherever much is to be looked through;
    ``ill``, the shards that something was lost of; and ``everything``, which is all of them.
    """

    def __init__(
        self,
        rooms: Rooms,
        sequencer: Sequencer,
        listening: Callable[[], Awaitable[None]],
        observer: Observer,
    ) -> None:
        """``listening`` returns once what the others tell of what is carried here is heard."""
        self._storage = rooms.storage
        self._registry = rooms.registry
        self._router = rooms.router
        self._accounts = rooms.accounts
        self._directory = rooms.directory
        self._sequencer = sequencer
        self._listening = listening
        self._observer = observer
        self.told = ToldReceipts()
        self._since: dict[str, int] = {}
        self._ill: set[int] = set()
        self.sessions = Chore(self._catch_up_with_sessions, observer)
        self.ill = Chore(self._heal_ill, observer)
        self.everything = Chore(partial(self._heal, range(EVERYBODY + 1)), observer)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def _heads(self) -> Heads:
        return self._router.heads

    def lost(self, shards: Collection[int]) -> None:
        """Something sent to these shards did not come."""
        self._ill.update(shards)
        self.ill.ask()
        if EVERYBODY in shards:
            self.sessions.ask()

    async def _heal_ill(self) -> None:
        shards, self._ill = self._ill, set()
        try:
            await self._heal(shards)
        except Exception:
            self._ill |= shards
            raise
        self._observer.healed(len(shards))

    async def _heal(self, shards: Collection[int]) -> None:
        """Catch up with what was written, received, joined and left in these shards."""
        if EVERYBODY in shards:
            await self._each(self._memberships, list(self._registry.online_users()))
        groups = [name for name in self._registry.groups() if shard_of_group(name) in shards]
        users = [name for name in self._registry.online_users() if shard_of_user(name) in shards]
        await self._each(self._group, groups)
        await self._each(self._pairs, users)

    async def _each(self, work: Callable[[str], Awaitable[Any]], names: list[str]) -> None:
        async def one(name: str) -> None:
            async with self._turns:
                await work(name)

        tasks = [asyncio.create_task(one(name)) for name in names]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    # -- conversations -----------------------------------------------------------------------

    def person(self, user: str, *, online: bool) -> None:
        """A user has come here, or has gone."""
        if online:
            self._since[user] = now_ms()
        else:
            self._since.pop(user, None)

    async def beginning(self, conversation: Conversation, before: int) -> int:
        """Behind which seq a conversation begins here of which nothing was told before: where
        those who are here stand, and not too far back; or where they came, if that is earlier."""
        here = {
            place.user: place.delivered_seq
            for place in await self._storage.places(conversation, limit=2)
            if pair_of(conversation) and self._registry.is_online(place.user)
        }
        if not here:
            return before
        stand = max(min(here.values()), before - _FURTHEST_BACK)
        since = min(self._since.get(user, now_ms()) for user in here) - _LEEWAY_MS
        return min(stand, await self._end_at(conversation, before, since))

    async def _end_at(self, conversation: Conversation, before: int, at: int) -> int:
        """What was the last message at that time; ``before`` if that was not before it."""
        while page := await self._storage.history(conversation, before_seq=before + 1, limit=_BACK):
            old = [message.seq for message in page if message.sent_at < at]
            if old:
                return old[-1]
            before = page[0].seq - 1
        return before

    async def _group(self, name: str) -> None:
        conversation = group_conversation(name)
        last = await self._storage.last_seq(conversation)
        self._sequencer.reach(conversation, last)
        await self._receipts(conversation)

    async def _pairs(self, user: str) -> None:
        for position in await self._storage.positions(user):
            if group_of(position.conversation) is None and position.last_seq:
                self._sequencer.reach(position.conversation, position.last_seq)
                await self._receipts(position.conversation)

    async def _receipts(self, conversation: Conversation) -> None:
        """Tell those who are here and wrote last how far the others have got."""
        wrote: dict[str, Message] = {}
        for message in await self._storage.history(
            conversation, before_seq=_END, limit=_LAST_WRITTEN
        ):
            if self._concerns(message):
                wrote[message.sender] = message
        if not wrote:
            return
        after = ""
        while places := await self._storage.places(conversation, after=after, limit=_PAGE):
            # What this server is about to tell of them comes first.
            await self._router.receipts.flush()
            for place in places:
                for message in wrote.values():
                    self._receipt(message, place)
            after = places[-1].user

    def _concerns(self, message: Message) -> bool:
        """Whether its sender is here, and was when it was received or read: what happened before
        they know from the history."""
        since = self._since.get(message.sender)
        if since is None:
            return False
        at = message.sent_at
        if pair_of(message.conversation):
            at = message.read_at or message.delivered_at or now_ms()
        return at >= since - _LEEWAY_MS

    def _receipt(self, message: Message, place: Place) -> None:
        """Tell who wrote this, if it is so, that somebody has it or has read it."""
        if place.user == message.sender:
            return
        for kind, seq, at in (
            (ReceiptKind.DELIVERED, place.delivered_seq, message.delivered_at),
            (ReceiptKind.READ, place.read_seq, message.read_at),
        ):
            if seq >= message.seq:
                self.hear_receipt(
                    Advance(
                        conversation=message.conversation,
                        user=place.user,
                        kind=kind,
                        old=message.seq - 1,
                        seq=seq,
                        at=at or now_ms(),
                        senders=frozenset({message.sender}),
                    )
                )

    def hear_receipt(self, advance: Advance) -> None:
        """Tell those of it who don't know it yet."""
        self.tell_receipt(advance, self._router.hear_receipt)

    def tell_receipt(self, advance: Advance, tell: Callable[[Advance], None]) -> None:
        """``tell`` what is news of it, behind the answers to those who wrote what it covers."""

        def told() -> None:
            fresh = self.told.fresh(advance)
            if fresh is not None:
                tell(fresh)

        self._sequencer.behind(advance.conversation, told)

    # -- memberships -------------------------------------------------------------------------

    def begin(self, group: str) -> None:
        """Somebody here carries a group that nobody here carried before."""
        self._sequencer.begin(group_conversation(group), partial(self._end_of, group))

    async def _end_of(self, group: str) -> int:
        await self._listening()
        return await self._storage.last_seq(group_conversation(group))

    def joined(self, group: str, user: str) -> Awaitable[None]:
        """A user who is here has just joined a group here: what was written since is told."""
        conversation = group_conversation(group)
        if self._heads.head(conversation) is None:
            self._sequencer.begin(conversation, partial(self._place_of, group, user))
        return self._catch_up(conversation)

    async def _place_of(self, group: str, user: str) -> int:
        await self._listening()
        member = await self._storage.member(group, user)
        return await self._end_of(group) if member is None else member.delivered_seq

    async def _catch_up(self, conversation: Conversation) -> None:
        await self._listening()
        self._sequencer.reach(conversation, await self._storage.last_seq(conversation))

    async def settle(self, group: str, user: str) -> None:
        """What was told of a membership may be long past: have it here as the store has it."""
        member = await self._storage.member(group, user)
        known = self._registry.groups_of(user)
        if member is not None and (known is None or group not in known):
            await self._admit(member)
        elif member is None and (known is None or group in known):
            self._router.hear_left(group, user)

    async def _admit(self, member: Member) -> None:
        """Have a user who is here in a group from now on."""
        group, user = member.group, member.email
        await self.give(member)
        if group not in (self._registry.groups_of(user) or ()):
            self._router.hear_joined(group, user)
        await self.joined(group, user)
        # They may have left while this was under way.
        if await self._storage.member(group, user) is None:
            self._router.hear_left(group, user)

    async def give(self, member: Member) -> None:
        """Give a user who is here what others here were told since they joined."""
        group, user = member.group, member.email
        conversation, reached = group_conversation(group), member.delivered_seq
        while group in self._registry.groups():
            head = self._heads.head(conversation)
            if head is None or reached >= head:
                break
            page = await self._storage.history(
                conversation, after_seq=reached, before_seq=head + 1, limit=_PAGE
            )
            self._deliver(user, page)
            reached = page[-1].seq if page else head

    def _deliver(self, user: str, page: Sequence[Message]) -> None:
        for message in page:
            frame = encode(message_frame(message))
            for connection in self._registry.of_user_carrying(user, message.conversation):
                connection.deliver(message.conversation, message.seq, frame)

    # -- people ------------------------------------------------------------------------------

    async def _catch_up_with_sessions(self) -> None:
        """End what lives by tokens that are good no more, and forget who may have been erased."""
        self._directory.forget()
        await self._storage.forget()
        await self._accounts.catch_up(self._living)

    def _living(self) -> dict[str, str]:
        """Whose each token is that a connection here lives by."""
        return {one.login.token_id: one.user for one in self._registry}

    async def _memberships(self, user: str) -> None:
        """Where the store has it otherwise, and nobody joined or left meanwhile, it is right."""
        differing: set[str] = set()
        while (known := self._registry.groups_of(user)) is not None:
            before = set(known)
            differing = before ^ set(await self._storage.group_names_of(user))
            if before == set(self._registry.groups_of(user) or ()):
                break
        for group in differing:
            await self.settle(group, user)
