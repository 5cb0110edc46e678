"""Fan-out: what was stored, to all connections that carry its conversation."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from chatd.connection import Connection
from chatd.heads import Heads
from chatd.models import Conversation
from chatd.registry import ConnectionRegistry

_LONGEST: Final = 64


class Observer(Protocol):
    """Who hears of what was delivered."""

    def message_routed(self, copies: int) -> None: ...


class _Stretch(NamedTuple):
    """Messages of a conversation that follow each other, from ``first`` on: the frame of each, and
    the connection it came from. ``missed`` is the first of those left out before them, if any."""

    conversation: Conversation
    first: int
    missed: int | None
    frames: list[bytes]
    origins: list[Connection | None]

    def deliver_to(self, connection: Connection) -> None:
        """One by one, to a connection that wrote some of them itself; what it has it skips."""
        if self.missed is not None:
            connection.expect(self.conversation, self.missed)
        for seq, (frame, origin) in enumerate(
            zip(self.frames, self.origins, strict=True), self.first
        ):
            connection.deliver(self.conversation, seq, b"" if origin is connection else frame)

    def goes_on_with(self, conversation: Conversation, seq: int) -> bool:
        return (
            conversation == self.conversation
            and seq == self.first + len(self.frames)
            and len(self.frames) < _LONGEST
        )


class FanOut:
    """Gathers the messages of one conversation that come in a row, so that a connection is gone
    to once for all of them: what many send at once, and what one sends in a row, costs less."""

    def __init__(self, registry: ConnectionRegistry, heads: Heads, observer: Observer) -> None:
        self._registry = registry
        self._heads = heads
        self._observer = observer
        self._gathered: _Stretch | None = None

    def make_way(
        self, conversation: Conversation, origin: Connection | None, seq: int | None = None
    ) -> None:
        """Call this before ``origin`` hears what became of a message of its own, stored as
        ``seq``: it has got by then what others wrote before that, and heard what is left out."""
        missed = None if seq is None else self._heads.missed(conversation, seq)
        gathered = self._gathered
        if missed is not None or (gathered and gathered.conversation != conversation):
            self.flush()
        elif gathered and origin is not None and gathered.origins[-1] is not origin:
            gathered.deliver_to(origin)
        if missed is not None and seq is not None and origin is not None:
            origin.leave_out(conversation, missed, seq)

    def add(
        self, conversation: Conversation, seq: int, frame: bytes, origin: Connection | None = None
    ) -> None:
        """Deliver a message behind those before it, at the next `flush` or sooner.

        ``origin``, the connection it came from, gets no copy.
        """
        missed = self._heads.tell(conversation, seq)
        gathered = self._gathered
        if gathered is None or missed is not None or not gathered.goes_on_with(conversation, seq):
            self.flush()
            gathered = self._gathered = _Stretch(conversation, seq, missed, [], [])
        gathered.frames.append(frame)
        gathered.origins.append(origin)

    def flush(self) -> None:
        """Deliver what is gathered, to who carries the conversation now."""
        if self._gathered is None:
            return
        gathered, self._gathered = self._gathered, None
        conversation, first, missed, frames, origins = gathered
        together, writers, copies = b"".join(frames), set(origins), 0
        for connection in self._registry.carrying(conversation):
            if connection in writers:
                gathered.deliver_to(connection)
                copies += len(frames) - origins.count(connection)
                continue
            if missed is not None:
                connection.expect(conversation, missed)
            connection.deliver_all(conversation, first, frames, together)
            copies += len(frames)
        self._observer.message_routed(copies)
