"""What a program is handed next, and what is missing in front of it fetched from the history."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from chatd.client import frames
from chatd.client.errors import Refused, Unreachable
from chatd.client.events import Event, Message
from chatd.client.inbox import Hole, Inbox
from chatd.client.live import Live
from chatd.client.pauses import Backoff
from chatd.client.rest import Rest

_PAGE: Final = 200
_LEAST: Final = 10
"""Messages asked for at once: fewer where answers don't get through, more again where they do."""


class _Paging:
    """A hole that is being handed out, page by page."""

    def __init__(self, hole: Hole, epoch: str) -> None:
        self.hole = hole
        self.epoch = epoch
        self.page: deque[Message] = deque()
        self.reached = hole.first - 1

    @property
    def is_over(self) -> bool:
        return not self.page and self.reached >= self.hole.last


class Reader:
    """Hands out the inbox, one event after the other."""

    def __init__(self, rest: Rest, inbox: Inbox, live: Live, *, explicit: bool) -> None:
        self._rest = rest
        self._inbox = inbox
        self._live = live
        self._explicit = explicit
        self._paging: _Paging | None = None
        self._backoff = Backoff()
        self._limit = _PAGE

    async def next(self) -> Event:
        """The next event; once there will be none any more, what ended the client is raised."""
        while True:
            if self._paging is not None:
                event: Event | None = await self._next_of(self._paging)
            else:
                event = await self._next_item()
            if event is None or (isinstance(event, Message) and not self._inbox.hand(event)):
                continue
            return event

    async def _next_item(self) -> Event | None:
        while (item := self._inbox.next()) is None:
            if self._live.error is not None:
                raise self._live.error.with_traceback(None)
            self._live.news.clear()
            await self._live.news.wait()
        self._live.make_room()
        if not isinstance(item, Hole):
            return item
        self._paging = _Paging(item, self._inbox.epoch)
        return None

    async def _next_of(self, paging: _Paging) -> Message | None:
        if paging.is_over or paging.epoch != self._inbox.epoch:
            self._end(paging)
            return None
        if paging.page:
            return paging.page.popleft()
        if self._live.error is not None:
            raise self._live.error.with_traceback(None)
        try:
            await self._fetch(paging)
        except Unreachable:
            self._limit = max(_LEAST, self._limit // 2)
            await asyncio.sleep(self._backoff.next())
        except Refused as error:
            if error.is_transient or error.code == "unauthenticated":
                # Where the token is no good any more, the connection's end will say so.
                await asyncio.sleep(self._backoff.next(error.retry_after or 0.0))
            else:
                paging.reached = paging.hole.last  # not the user's to read any more
        return None

    async def _fetch(self, paging: _Paging) -> None:
        found = await self._rest.history(
            paging.hole.conversation, after_seq=paging.reached, limit=self._limit
        )
        self._backoff.reset()
        self._limit = min(_PAGE, 2 * self._limit)
        paging.page.extend(one for one in found.messages if one.seq <= paging.hole.last)
        whole = not found.has_more or not found.messages
        paging.reached = paging.hole.last if whole else found.messages[-1].seq

    def _end(self, paging: _Paging) -> None:
        self._paging = None
        if paging.epoch != self._inbox.epoch:
            return
        self._inbox.skip(paging.hole)
        if not self._explicit and self._live.error is None:
            # Pongs confirm nothing behind a gap until it is said that it was fetched.
            self._live.ask(frames.received(paging.hole.conversation, paging.hole.last))
