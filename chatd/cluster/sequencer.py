"""Messages of several servers in the order of their numbers.

What comes too early waits until the store has given what lies before it. So clients see a
conversation as they would on one server, whatever was lost on the way here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from chatd.errors import Unavailable
from chatd.heads import Heads
from chatd.models import Conversation, Message, group_of

_GRACE_SECONDS: Final = 0.02
"""What is missing is mostly on its way."""
_PAGE: Final = 200
_PAUSE_SECONDS: Final = 0.25
_PATIENCE_SECONDS: Final = 5.0
"""After that, what is missing is announced as a gap: senders wait for their answers."""

Tell = Callable[[], None]


class History(Protocol):
    """What the sequencer needs of a storage."""

    async def history(
        self,
        conversation: Conversation,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int,
    ) -> list[Message]: ...


async def _nothing() -> None:
    pass


Start = Callable[[], Awaitable[int]]
"""Says behind which seq those who are here are to be told of a conversation."""


class _Hole:
    """What is missing from a conversation, and what waits behind it."""

    def __init__(self) -> None:
        self.waiting: dict[int, Tell] = {}
        self.behind: list[Tell] = []
        self.start: Start | None = None
        self.last = 0
        """How far the store is known to go."""


class Sequencer:
    """Tells messages in order. One task fills the holes of a conversation."""

    def __init__(
        self,
        heads: Heads,
        storage: History,
        *,
        tell: Callable[[Message], None],
        told: Callable[[], None],
        beginning: Callable[[Conversation, int], Awaitable[int]],
        own: Callable[[], Awaitable[None]] = _nothing,
        gave_up: Callable[[Conversation], None] = lambda _: None,
        failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """``tell`` a message that the store gave; ``told`` follows when some were told late.
        ``beginning``: behind which seq a conversation begins that nothing is known of here.
        ``own`` returns once all that this server has stored by now was handed to `take`: whoever
        wrote it is to have the answer to it, and no copy. ``gave_up`` hears of a conversation
        that may lack something for as long as nothing follows, ``failed`` of what a ``tell``
        raises."""
        self._heads = heads
        self._storage = storage
        self._tell = tell
        self._told = told
        self._beginning = beginning
        self._own = own
        self._gave_up = gave_up
        self._failed = failed
        self._holes: dict[Conversation, _Hole] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, conversation: Conversation, seq: int, tell: Tell) -> None:
        """``tell`` of the message ``seq`` when its turn has come; at once, if it has."""
        hole = self._holes.get(conversation)
        if hole is None:
            if self._is_next(conversation, seq):
                tell()
                return
            hole = self._open(conversation)
        hole.waiting[seq] = tell

    def behind(self, conversation: Conversation, tell: Tell) -> None:
        """``tell`` what is about messages of the conversation, once what waits of it was told."""
        hole = self._holes.get(conversation)
        if hole is None:
            tell()
        else:
            hole.behind.append(tell)

    def _is_next(self, conversation: Conversation, seq: int) -> bool:
        """Whether nothing that anybody here should have had lies before it."""
        head = self._heads.head(conversation)
        if head is None:
            # Who is in a group had everything up to where this server came to know of it.
            return seq == 1 or group_of(conversation) is not None
        return seq <= head + 1

    def begin(self, conversation: Conversation, start: Start) -> None:
        """From now on somebody here carries the conversation, whom what was told before does not
        concern: nothing is told until it is known where they start."""
        hole = self._holes.get(conversation)
        if hole is None:
            # What was told when somebody carried it before says nothing of now.
            self._heads.forget(conversation)
            hole = self._open(conversation)
        elif hole.start is None:
            return
        hole.start = start

    def reach(self, conversation: Conversation, seq: int) -> None:
        """The store has everything up to ``seq``: tell what has not been told of it."""
        head = self._heads.head(conversation)
        if conversation not in self._holes and head is not None and head >= seq:
            return
        hole = self._holes.get(conversation) or self._open(conversation)
        hole.last = max(hole.last, seq)

    def _open(self, conversation: Conversation) -> _Hole:
        hole = self._holes[conversation] = _Hole()
        task = asyncio.create_task(self._fill(conversation, hole))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return hole

    async def _fill(self, conversation: Conversation, hole: _Hole) -> None:
        try:
            await asyncio.sleep(_GRACE_SECONDS)
            await self._close_hole(conversation, hole)
        finally:
            del self._holes[conversation]
            for seq in sorted(hole.waiting):
                self._call(hole.waiting[seq])
            self._told()
            for tell in hole.behind:
                self._call(tell)
            if hole.last > (self._heads.head(conversation) or 0):
                self._gave_up(conversation)

    async def _close_hole(self, conversation: Conversation, hole: _Hole) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _PATIENCE_SECONDS
        while not self._drain(conversation, hole):
            try:
                await self._fetch(conversation, hole)
            except Unavailable:
                if loop.time() >= ends_at:
                    return
                await asyncio.sleep(_PAUSE_SECONDS)

    def _drain(self, conversation: Conversation, hole: _Hole) -> bool:
        """Tell what waits and whose turn it is; whether nothing is missing any more."""
        head = self._heads.head(conversation)
        if head is None:
            return hole.start is None and not hole.waiting and not hole.last
        for seq in sorted(hole.waiting):
            if seq > head + 1:
                break
            self._call(hole.waiting.pop(seq))
            head = max(head, seq)
        self._told()
        return not hole.waiting and head >= hole.last

    async def _fetch(self, conversation: Conversation, hole: _Hole) -> None:
        """Get what is missing in front of what waits, or up to where the store is known to go."""
        first = self._first_behind(hole)
        # What comes before that is stored by now; what is stored from now on comes by itself.
        await self._own()
        if self._heads.head(conversation) is None:
            await self._find_head(conversation, hole)
            return
        first = min(first, self._first_behind(hole))
        head = self._heads.head(conversation)
        page = await self._storage.history(
            conversation, after_seq=head, before_seq=first, limit=_PAGE
        )
        self._tell_page(page, hole)
        if not page:
            # It was removed: there is nothing to wait for.
            self._heads.tell(conversation, first - 1)

    @staticmethod
    def _first_behind(hole: _Hole) -> int:
        """The first seq that is not missing."""
        return min(hole.waiting, default=hole.last + 1)

    async def _find_head(self, conversation: Conversation, hole: _Hole) -> None:
        if hole.start is not None:
            seq = await hole.start()
        else:
            seq = await self._beginning(conversation, self._first_behind(hole) - 1)
        self._heads.seen(conversation, seq)

    def _tell_page(self, page: Sequence[Message], hole: _Hole) -> None:
        for message in page:
            # By now it may have come by itself.
            own = hole.waiting.pop(message.seq, None)
            if own is None:
                self._tell(message)
            else:
                self._call(own)

    def _call(self, tell: Tell) -> None:
        try:
            tell()
        except Exception as error:
            # The others still want to hear of theirs.
            self._failed(error)

    async def settled(self) -> None:
        """Return once what waits now was told."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
