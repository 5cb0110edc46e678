"""What other servers tell happens here, as if it had been done here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import singledispatchmethod

from chatd.cluster.healing import Healer
from chatd.cluster.rooms import Rooms
from chatd.cluster.sequencer import Sequencer
from chatd.cluster.shards import EVERYBODY, shard_of_group
from chatd.news import (
    GroupGoneNews,
    MembershipNews,
    News,
    ReadNews,
    ReceiptNews,
    SessionsEndedNews,
    StoredNews,
    TypingNews,
    UserClosedNews,
)

Failed = Callable[[str, BaseException], None]


class Receiver:
    """Hands news to the rooms it is for."""

    def __init__(self, rooms: Rooms, sequencer: Sequencer, healer: Healer, failed: Failed) -> None:
        self._rooms = rooms
        self._sequencer = sequencer
        self._healer = healer
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    @singledispatchmethod
    def hear(self, news: News) -> None:
        """Do what the news asks for; what is for nobody here does nothing."""

    @hear.register
    def _(self, news: StoredNews) -> None:
        router = self._rooms.router
        if self._rooms.registry.carries(news.conversation):
            self._sequencer.take(
                news.conversation,
                news.seq,
                lambda: router.hear_message(news.conversation, news.seq, news.frame),
            )

    @hear.register
    def _(self, news: ReceiptNews) -> None:
        self._healer.hear_receipt(news.advance)

    @hear.register
    def _(self, news: ReadNews) -> None:
        self._rooms.router.hear_read(news.user, news.conversation, news.seq)

    @hear.register
    def _(self, news: TypingNews) -> None:
        self._rooms.router.hear_typing(news.user, news.conversation)

    @hear.register
    def _(self, news: MembershipNews) -> None:
        router, here = self._rooms.router, self._rooms.registry.is_online(news.user)
        if not news.joined:
            router.hear_left(news.group, news.user)
        elif not here:
            router.hear_joined(news.group, news.user)
        if here:
            self._start(self._healer.settle(news.group, news.user), news.group)

    @hear.register
    def _(self, news: GroupGoneNews) -> None:
        registry = self._rooms.registry
        members = {connection.user for connection in registry.of_group(news.group)}
        self._rooms.router.hear_group_gone(news.group)
        # It may have been made anew since.
        for user in members:
            self._start(self._healer.settle(news.group, user), news.group)

    @hear.register
    def _(self, news: SessionsEndedNews) -> None:
        self._rooms.accounts.hear(news.ended)

    @hear.register
    def _(self, news: UserClosedNews) -> None:
        here = {one.login.user_id for one in self._rooms.registry.of_user(news.email)}
        if here - {news.user_id}:
            return  # late: the address is somebody else's by now
        self._rooms.directory.hear_closed(news.email, news.user_id)
        self._rooms.router.hear_closed(news.email)
        self._healer.told.forget(news.email)
        self._start(self._rooms.storage.forget())

    def catch_up(self, news: MembershipNews) -> None:
        """Whoever is here and joined, here or elsewhere, gets what was written since."""
        if news.joined and self._rooms.registry.is_online(news.user):
            self._start(self._healer.joined(news.group, news.user), news.group)

    def _start(self, work: Awaitable[None], group: str = "") -> None:
        """Do what takes a look into the store; where that fails, it is healed later."""

        async def run() -> None:
            try:
                await work
            except Exception as error:
                self._failed("cluster.not_caught_up", error)
                self._healer.lost({EVERYBODY, *([shard_of_group(group)] if group else [])})

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
