"""Retention: messages that are older than they may get are removed, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from chatd.models import Conversation, group_of, now_ms
from chatd.storage.base import Storage

_PAGE: Final = 500
_AT_ONCE: Final = 1000
"""Messages in one call: what users send waits for no more than that."""
_PAUSE_SECONDS: Final = 0.01
_ROUND_SECONDS: Final = 60 * 60.0
_DAY_MS: Final = 24 * 60 * 60 * 1000
_EVER: Final = 2**53
"""A time that no clock shows."""


class Observer(Protocol):
    """Who hears of what was removed."""

    def messages_removed(self, count: int) -> None: ...

    def failed(self, event: str, error: BaseException) -> None: ...


class Ages(msgspec.Struct, frozen=True):
    """How many days messages are kept (0: for ever), and in which groups it is another number."""

    days: float = 0
    groups: Mapping[str, float] = {}

    def of(self, conversation: Conversation) -> float:
        group = group_of(conversation)
        return self.days if group is None else self.groups.get(group, self.days)

    @property
    def endless(self) -> bool:
        """Whether nothing is ever removed."""
        return not self.days and not any(self.groups.values())


class Retention:
    """Goes through all conversations once an hour."""

    def __init__(self, storage: Storage, ages: Ages, observer: Observer) -> None:
        self._storage = storage
        self._ages = ages
        self._observer = observer

    async def run_forever(self) -> None:
        """The retention's coroutine; where nothing is ever removed, it ends at once."""
        while not self._ages.endless:
            try:
                await self.remove_old()
            except Exception as error:
                # Chat goes on without this, and the next round makes up for it.
                self._observer.failed("retention.failed", error)
            await asyncio.sleep(_ROUND_SECONDS)

    async def remove_old(self) -> int:
        """Remove what is too old by now; how many messages."""
        now, removed, after = now_ms(), 0, ""
        while page := await self._storage.conversations(after=after, limit=_PAGE):
            for conversation in page:
                if days := self._ages.of(conversation):
                    before = now - round(days * _DAY_MS)
                    count = await remove_messages(self._storage, conversation, before)
                    if count:
                        self._observer.messages_removed(count)
                    removed += count
                await asyncio.sleep(0)
            after = page[-1]
        return removed


async def remove_messages(storage: Storage, conversation: Conversation, before: int = _EVER) -> int:
    """Remove what was sent before a time, or all of it; how many messages.

    The last one of the conversation keeps its place, see `Storage.prune`.
    """
    removed = 0
    while count := await storage.prune(conversation, before, _AT_ONCE):
        removed += count
        if count < _AT_ONCE:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return removed
