"""What was lost on the way is made good: this server looks into the store for what it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final, Protocol

from chatd.cluster.rooms import Rooms
from chatd.cluster.sequencer import Sequencer
from chatd.cluster.shards import EVERYBODY, shard_of_group, shard_of_user
from chatd.errors import Unavailable
from chatd.heads import Heads
from chatd.models import (
    Advance,
    Conversation,
    Position,
    ReceiptKind,
    group_conversation,
    group_of,
    other_of,
    pair_of,
)

_AT_ONCE: Final = 8
_RETRY_SECONDS: Final = 1.0
_FURTHEST_BACK: Final = 100
"""Messages of a conversation that nothing is known of here."""


class Observer(Protocol):
    """Who hears of it."""

    def healed(self, shards: int) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class Healer:
    """Compares what was told here with what the store has, for some shards at a time."""

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
        self._ill: set[int] = set()
        self._wake = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def _heads(self) -> Heads:
        return self._router.heads

    def lost(self, shards: Iterable[int]) -> None:
        """Something sent to these shards did not come."""
        self._ill.update(shards)
        self._wake.set()

    async def run_forever(self) -> None:
        """The coroutine that heals."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            shards, self._ill = self._ill, set()
            try:
                await self.heal(shards)
            except Exception as error:
                self._observer.failed("cluster.not_healed", error)
                self.lost(shards)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._observer.healed(len(shards))

    async def look(self) -> float:
        """`heal` everything; how many seconds it took."""
        began = asyncio.get_running_loop().time()
        try:
            await self.heal(range(EVERYBODY + 1))
        except Unavailable as error:
            self._observer.failed("cluster.not_healed", error)
        return asyncio.get_running_loop().time() - began

    async def heal(self, shards: Collection[int]) -> None:
        """Catch up with everything that concerns these shards."""
        if EVERYBODY in shards:
            self._directory.forget()
            await self._storage.forget()
            tokens = {one.login.token_id: one.user for one in self._registry}
            await self._accounts.catch_up(tokens)
            await self._each(self._memberships, list(self._registry.online_users()))
        groups = [name for name in self._registry.groups() if shard_of_group(name) in shards]
        users = [name for name in self._registry.online_users() if shard_of_user(name) in shards]
        await self._each(self._group, groups)
        await self._each(self._pairs, users)

    async def _each(self, work: Callable[[str], Awaitable[Any]], names: list[str]) -> None:
        async def one(name: str) -> None:
            async with self._turns:
                await work(name)

        await asyncio.gather(*(one(name) for name in names))

    # -- conversations -----------------------------------------------------------------------

    async def beginning(self, conversation: Conversation, before: int) -> int:
        """Behind which seq a conversation begins here of which nothing was told before: where
        those who are here stand, and not too far back."""
        here = [
            place.delivered_seq
            for place in await self._storage.places(conversation, limit=2)
            if pair_of(conversation) and self._registry.is_online(place.user)
        ]
        return max(min(here, default=before), before - _FURTHEST_BACK)

    async def _group(self, name: str) -> None:
        conversation = group_conversation(name)
        self._sequencer.reach(conversation, await self._storage.last_seq(conversation))

    async def _pairs(self, user: str) -> None:
        for position in await self._storage.positions(user):
            if group_of(position.conversation) is None:
                self._sequencer.reach(position.conversation, position.last_seq)
                await self._receipts(user, position)

    async def _receipts(self, user: str, position: Position) -> None:
        """Tell the user again how far the other side has got."""
        conversation = position.conversation
        other = other_of(conversation, user)
        if other == user or not position.last_seq:
            return
        for place in await self._storage.places(conversation, limit=2):
            if place.user != other:
                continue
            for kind, seq in (
                (ReceiptKind.DELIVERED, place.delivered_seq),
                (ReceiptKind.READ, place.read_seq),
            ):
                await self._receipt(conversation, user, other, kind, seq)

    async def _receipt(
        self, conversation: Conversation, user: str, other: str, kind: ReceiptKind, seq: int
    ) -> None:
        """The user's last message that the mark covers has the time of it."""
        covered = await self._storage.history(conversation, before_seq=seq + 1, limit=20)
        for message in reversed(covered):
            at = message.read_at if kind is ReceiptKind.READ else message.delivered_at
            if message.sender == user and at is not None:
                self._router.hear_receipt(
                    Advance(conversation, other, kind, seq - 1, seq, at, frozenset({user}))
                )
                return

    async def joined(self, group: str, user: str) -> None:
        """A user who is here is in a group from now on: what was written since then is told."""
        await self._listening()
        member = await self._storage.member(group, user)
        if member is not None:
            conversation = group_conversation(group)
            self._heads.seen(conversation, member.delivered_seq)
            self._sequencer.reach(conversation, await self._storage.last_seq(conversation))

    # -- people ------------------------------------------------------------------------------

    async def _memberships(self, user: str) -> None:
        known = self._registry.groups_of(user)
        if known is None:
            return
        now = set(await self._storage.group_names_of(user))
        before = set(known)
        for group in before - now:
            self._router.hear_left(group, user)
        for group in now - before:
            self._router.hear_joined(group, user)
            await self.joined(group, user)
