"""What a connection missed, on connecting: from the storage, oldest first, then live.

The connection has been registered before, and holds live messages back meanwhile; so nothing
falls between what the storage had and what came since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from chatd.connection import Connection
from chatd.frames import Ready, encode, gap_frame, message_frame
from chatd.models import Conversation, Mark, Position, ReceiptKind, now_ms
from chatd.storage.base import Storage

_PAGE: Final = 100


class Replayer:
    """Replays conversations onto a new connection and makes it live."""

    def __init__(
        self,
        storage: Storage,
        claim: Callable[[Mark], None],
        seen: Callable[[Connection, Conversation, int], None],
        *,
        limit: int,
        turns: asyncio.Semaphore,
        others: bool = False,
    ) -> None:
        """``seen`` is told how far each conversation was read for whom.

        ``limit``: messages per conversation (0: all); the rest is announced as a gap.
        ``turns``: what bounds how many read from the storage for this at the same time.
        ``others``: whether other servers may tell of messages, late or again.
        """
        self._storage = storage
        self._claim = claim
        self._seen = seen
        self.limit = limit
        self._turns = turns
        self._others = others

    async def replay(
        self, connection: Connection, cursors: Mapping[Conversation, int] | None = None
    ) -> int:
        """Write what lies behind each cursor, or else behind the delivered mark; then go live.

        Returns how many messages were replayed. ``cursors`` of conversations that are not the
        user's are passed over; one beyond the conversation's end counts as none.
        """
        cursors = cursors or {}
        async with self._turns:
            positions = await self._storage.positions(connection.user)
        held_from = connection.held_from()
        count = 0
        for position in positions:
            conversation = position.conversation
            if not connection.scope.covers(conversation):
                continue
            self._seen(connection, conversation, position.last_seq)
            start = self._start(connection, position, cursors.get(conversation))
            # Another device may have moved the mark past what this one still holds back.
            start = min(start, held_from.get(conversation, start + 1) - 1)
            if start < position.last_seq:
                count += await self._replay(connection, position, start)
            elif self._others:
                # What they tell late, or again, is none of this connection's.
                connection.begin(conversation, position.last_seq + 1)
        self.go_live(connection)
        return count

    async def skip(self, connection: Connection) -> None:
        """Go live behind all that was written by now."""
        if not self._others:
            self.go_live(connection)
            return
        async with self._turns:
            positions = await self._storage.positions(connection.user)
        held_from = connection.held_from()
        for position in positions:
            conversation, last_seq = position.conversation, position.last_seq
            if connection.scope.covers(conversation):
                self._seen(connection, conversation, last_seq)
                first = min(last_seq + 1, held_from.get(conversation, last_seq + 1))
                connection.begin(conversation, first)
        self.go_live(connection)

    def go_live(self, connection: Connection) -> None:
        """Write what was held back and not replayed, and say that what follows is live."""
        connection.release()
        connection.write(encode(Ready()))

    def _start(self, connection: Connection, position: Position, cursor: int | None) -> int:
        if cursor is None or cursor > position.last_seq:
            return position.delivered_seq
        if cursor > position.delivered_seq and not connection.explicit:
            # The client has it: only the Pong that said so was lost.
            self._claim(
                Mark(
                    position.conversation,
                    connection.user,
                    ReceiptKind.DELIVERED,
                    cursor,
                    now_ms(),
                )
            )
        return cursor

    async def _replay(self, connection: Connection, position: Position, start: int) -> int:
        conversation, count, reached = position.conversation, 0, start
        while reached < position.last_seq and not connection.closing:
            wanted = min(_PAGE, self.limit - count) if self.limit else _PAGE
            if not wanted:
                break
            async with self._turns:
                page = await self._storage.history(
                    conversation,
                    after_seq=reached,
                    before_seq=position.last_seq + 1,
                    limit=wanted,
                )
            if not page:
                break
            for message in page:
                if message.seq > reached + 1:
                    self._gap(connection, conversation, reached + 1, message.seq - 1)
                connection.cover(conversation, message.seq)
                connection.write(encode(message_frame(message)))
                reached = message.seq
                if connection.pressed:
                    await connection.drained()
            count += len(page)
        if reached < position.last_seq:
            self._gap(connection, conversation, reached + 1, position.last_seq)
        return count

    def _gap(
        self, connection: Connection, conversation: Conversation, first: int, last: int
    ) -> None:
        connection.write(encode(gap_frame(conversation, connection.user, first, last)))
        connection.begin(conversation, last + 1)
