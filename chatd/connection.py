"""One live socket: who is behind it, what it covers, and what waits to be written to it.

A connection knows nothing of Tornado: it writes whole frames to a `Transport`. What it is
given during one turn of the loop leaves in one write at the end of that turn (`Flusher`), with
a Ping behind the messages whose Pong is their receipt.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from chatd.errors import CloseCode
from chatd.frames import Bye, encode, gap_frame, websocket_frame
from chatd.models import Conversation, group_of, pair_of

_PING: Final = 0x9
_PRESSED_AT: Final = 256 * 1024
"""Bytes that wait before a replay lets the peer read first, where no limit says less."""


class Transport(Protocol):
    """The socket below a connection. Nothing here raises or waits but ``drained``."""

    def write(self, data: bytes) -> int:
        """Hand over bytes; they leave in order, as the peer reads.

        Returns the `backlog` behind that.
        """

    def backlog(self) -> int:
        """How many bytes were handed over but could not be given to the system yet."""

    async def drained(self) -> None:
        """Return once the backlog is gone, or the socket is."""

    def hears(self) -> bool:
        """Whether what the peer sends is being read; not so while a frame of its waits."""

    def close(self, code: CloseCode, reason: str) -> None:
        """Start the closing handshake behind what was written."""

    def drop(self) -> None:
        """Let go of the socket now; what the system has taken still leaves."""


class _Nowhere:
    """The transport of a connection whose socket is gone."""

    def write(self, data: bytes) -> int:
        return 0

    def backlog(self) -> int:
        return 0

    async def drained(self) -> None:
        pass

    def hears(self) -> bool:
        return False

    def close(self, code: CloseCode, reason: str) -> None:
        pass

    def drop(self) -> None:
        pass


class Scope(msgspec.Struct, frozen=True):
    """Which conversations a connection carries: all, one-to-one only, or one group."""

    pairs: bool = True
    groups: bool = True
    only_group: str | None = None

    def covers(self, conversation: Conversation) -> bool:
        group = group_of(conversation)
        return self.pairs if group is None else self.covers_group(group)

    def covers_group(self, name: str) -> bool:
        return self.groups or name == self.only_group


EVERYTHING: Final = Scope()
ONE_TO_ONE: Final = Scope(groups=False)


def one_group(name: str) -> Scope:
    """The scope of a group's own socket."""
    return Scope(pairs=False, groups=False, only_group=name)


class Login(msgspec.Struct, frozen=True):
    """The token a connection lives by.

    ``ends_at`` is a time of the loop, not of the wall clock, whose steps must end no socket.
    """

    user: str
    user_id: str
    token_id: str
    generation: int
    ends_at: float


class Span(msgspec.Struct, frozen=True):
    """An unbroken run of a conversation that a connection was sent: ``since`` up to ``seq``."""

    conversation: Conversation
    since: int
    seq: int


class _Run(msgspec.Struct):
    """The unbroken run of a conversation, as far as it has been written: empty at first.

    What a ``pair`` writes is confirmed at once, what a group does within the receipt interval.
    """

    since: int
    seq: int
    pair: bool


def _run(conversation: Conversation, since: int, seq: int) -> _Run:
    return _Run(since, seq, group_of(conversation) is None)


Confirmed = Callable[["Connection", list[Span]], None]


class Connection:
    """A live socket of a user."""

    __slots__ = (
        "_behind",
        "_ended",
        "_flusher",
        "_held",
        "_held_bytes",
        "_in_flight",
        "_last_ping",
        "_outbox",
        "_outbox_bytes",
        "_ping_number",
        "_runs",
        "_transport",
        "_unconfirmed",
        "_urgent",
        "closing",
        "delayed",
        "explicit",
        "id",
        "login",
        "scope",
        "touched",
    )

    def __init__(
        self,
        connection_id: str,
        login: Login,
        scope: Scope,
        transport: Transport,
        flusher: Flusher,
        *,
        explicit: bool = False,
    ) -> None:
        """``explicit``: only the client's own ``received`` frames are receipts, no Pong is.

        A new connection holds live messages back until ``release``, so that what it missed
        can be replayed first.
        """
        self.id = connection_id
        self.login = login
        self.scope = scope
        self.explicit = explicit
        self.closing = False
        self.touched = False
        self.delayed = False
        self._transport = transport
        self._flusher = flusher
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        # Whether the last write left something for the transport to keep.
        self._behind = False
        self._held: list[tuple[Conversation, int, bytes]] | None = []
        self._held_bytes = 0
        # What Pings and Pongs say: the unbroken run of each conversation, which of them grew
        # since the last Ping, the runs a gap ended since then, and what the outstanding Ping
        # covers (None where there is none).
        self._runs: dict[Conversation, _Run] = {}
        self._unconfirmed: dict[Conversation, _Run] = {}
        self._ended: list[Span] = []
        self._in_flight: list[Span] | None = None
        self._urgent = False
        self._ping_number = 0
        self._last_ping = flusher.now()

    @property
    def user(self) -> str:
        return self.login.user

    def __repr__(self) -> str:
        return f"<Connection {self.id} of {self.user}>"

    # -- out ---------------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        """Put a frame into the outbox; past the limit the connection ends as a slow consumer."""
        if self.closing:
            return
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        if self._outbox_bytes > self._flusher.outbox_limit:
            self._check_limit()
        if not self.touched and not self.closing:
            self._flusher.touch(self)

    def deliver(self, conversation: Conversation, seq: int, frame: bytes) -> None:
        """A message, live: held back while the replay runs, else written at once.

        Without a frame it is one of this connection's own, which has had its ``sent``. What
        comes behind a hole is announced by a ``gap``; what has been written is not repeated.
        """
        if self._held is not None:
            self._held.append((conversation, seq, frame))
            self._held_bytes += len(frame)
            self._check_limit()
        elif not self.closing and self.cover(conversation, seq) and frame:
            self.write(frame)

    def deliver_all(
        self, conversation: Conversation, first: int, frames: Sequence[bytes], together: bytes
    ) -> None:
        """`deliver` each of these, from ``first`` on without a hole; ``together`` are all frames.

        For the many who are in the middle of a conversation it costs no more than one message.
        """
        run = self._runs.get(conversation)
        if run is None or first != run.seq + 1 or self._held is not None or self.closing:
            for seq, frame in enumerate(frames, first):
                self.deliver(conversation, seq, frame)
            return
        run.seq += len(frames)
        self._claim(conversation, run)
        self.write(together)

    def cover(self, conversation: Conversation, seq: int) -> bool:
        """The conversation's run grows by ``seq``; False where it has that already.

        Call where the message is written in the same breath: a Ping may follow.
        """
        run = self._runs.get(conversation)
        if run is None:
            run = self._runs[conversation] = _run(conversation, seq, seq)
        elif seq == run.seq + 1:
            run.seq = seq
        elif seq <= run.seq:
            # The journal may still be telling of a batch that the replay has read.
            return False
        else:
            self.leave_out(conversation, run.seq + 1, seq)
            run = self._runs[conversation]
            run.seq = seq
        self._claim(conversation, run)
        return True

    def _claim(self, conversation: Conversation, run: _Run) -> None:
        """The next Ping covers what the run has grown by."""
        if not self.explicit:
            self._unconfirmed[conversation] = run
            if run.pair:
                self._urgent = True

    def expect(self, conversation: Conversation, since: int) -> None:
        """Nothing of the conversation before ``since`` is missing here."""
        if self._held is None and conversation not in self._runs:
            self._runs[conversation] = _run(conversation, since, since - 1)

    def leave_out(self, conversation: Conversation, since: int, seq: int) -> None:
        """What lies before ``seq``, from ``since`` on, does not come: announce it by a ``gap``."""
        if self._held is not None or self.closing:
            return
        self.expect(conversation, since)
        run = self._runs[conversation]
        if run.seq < seq - 1:
            self.write(encode(gap_frame(conversation, self.user, run.seq + 1, seq - 1)))
            self.begin(conversation, seq)

    def begin(self, conversation: Conversation, since: int) -> None:
        """The unbroken run of this conversation starts at ``since``: behind a gap or a cursor."""
        ended = self._unconfirmed.pop(conversation, None)
        if ended is not None:
            self._ended.append(Span(conversation, ended.since, ended.seq))
        self._runs[conversation] = _run(conversation, since, since - 1)

    def forget_pairs(self, user: str) -> None:
        """Conversations with that user begin anew: what was written of them says nothing more."""
        for conversation in [one for one in self._runs if user in (pair_of(one) or ())]:
            del self._runs[conversation]
            self._unconfirmed.pop(conversation, None)
            for spans in (self._ended, self._in_flight or []):
                spans[:] = [span for span in spans if span.conversation != conversation]

    def held_from(self) -> dict[Conversation, int]:
        """The first ``seq`` that is held back of each conversation."""
        first: dict[Conversation, int] = {}
        for conversation, seq, _ in self._held or ():
            first.setdefault(conversation, seq)
        return first

    def release(self) -> None:
        """The replay is over: what was held back and it did not bring is written."""
        held, self._held = self._held or [], None
        self._held_bytes = 0
        for conversation, seq, frame in held:
            self.deliver(conversation, seq, frame)

    @property
    def pressed(self) -> bool:
        """Whether so much waits that a replay had better let the peer read first."""
        limit = min(self._flusher.outbox_limit, _PRESSED_AT * 4)
        return self._outbox_bytes + self._transport.backlog() > limit // 4

    @property
    def waiting(self) -> int:
        """How many bytes wait here for the peer to read."""
        return self._outbox_bytes + self._held_bytes + self._transport.backlog()

    def _check_limit(self) -> None:
        if self.waiting > self._flusher.outbox_limit:
            self._flusher.on_slow_consumer(self)
            self.end(CloseCode.SLOW_CONSUMER, "slow consumer", reconnect=True)

    async def drained(self) -> None:
        """Return once the peer has been given everything that was written so far."""
        self.flush()
        await self._transport.drained()

    def flush(self) -> None:
        """Hand the outbox to the transport, a Ping behind it where one is due."""
        self.touched = False
        if self.closing:
            return
        if self._in_flight is None and (self._urgent or not self.delayed):
            self._ping_if_due()
        if self._outbox:
            if self._behind:
                # What the peer has not read counts too.
                self._check_limit()
                if self.closing:
                    return
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            self._behind = self._transport.write(data) > 0

    def _ping_if_due(self) -> None:
        if not self._unconfirmed and not self._ended:
            return
        if self._urgent or self._flusher.now() - self._last_ping >= self._flusher.interval:
            self._outbox.append(self._next_ping())
        else:
            self._flusher.touch_later(self)

    # -- receipts and keep-alive -------------------------------------------------------------

    def _next_ping(self) -> bytes:
        self._in_flight = self._ended
        for conversation, run in self._unconfirmed.items():
            self._in_flight.append(Span(conversation, run.since, run.seq))
        self._ended = []
        self._unconfirmed.clear()
        self._urgent = False
        self._last_ping = self._flusher.now()
        self._ping_number = (self._ping_number + 1) & 0xFFFF
        return websocket_frame(_PING, self._ping_number.to_bytes(2, "big"))

    def pong(self, payload: bytes) -> None:
        """The peer's answer to a Ping: its stack has everything that was written before it.

        RFC 6455 section 5.5.3 allows Pongs nobody asked for; they say nothing.
        """
        if self._in_flight is None or payload != self._ping_number.to_bytes(2, "big"):
            return
        reached, self._in_flight = self._in_flight, None
        if reached:
            self._flusher.on_confirmed(self, reached)
        if (self._unconfirmed or self._ended) and not self.touched:
            self._flusher.touch(self)

    def keep_alive(self, now: float, ping_seconds: float, pong_seconds: float) -> None:
        """Ping an idle peer; let go of one that left the last Ping unanswered."""
        if self.closing:
            return
        silent = now - self._last_ping
        if self._in_flight is None:
            if silent >= ping_seconds:
                self.write(self._next_ping())
        elif not self._transport.hears():
            # Its Pong may have come: the time begins anew.
            self._last_ping = now
        elif silent >= pong_seconds:
            self.end(CloseCode.TIMEOUT, "no Pong in time", reconnect=True)
            # It would not answer the closing handshake either.
            self._transport.drop()

    def pardon(self, seconds: float) -> None:
        """The server was away for so long: the peer gets as much more time for its Pong."""
        if self._in_flight is not None:
            self._last_ping = min(self._last_ping + seconds, self._flusher.now())

    # -- the end -----------------------------------------------------------------------------

    def end(
        self, code: CloseCode, reason: str, *, reconnect: bool, after: float | None = None
    ) -> None:
        """Say ``bye`` and close. A slow consumer's outbox is dropped: the replay heals it.

        Nothing is written to it from now on, so `Flusher.on_ended` is told, however long the peer
        takes to answer.
        """
        if self.closing:
            return
        if code is CloseCode.SLOW_CONSUMER:
            self._outbox.clear()
        self._outbox.append(encode(Bye(reason=reason, reconnect=reconnect, after=after)))
        self.closing = True
        self._held = None
        self._transport.write(b"".join(self._outbox))
        self._outbox.clear()
        self._outbox_bytes = self._held_bytes = 0
        self._transport.close(code, reason)
        self._flusher.on_ended(self)

    def gone(self) -> None:
        """The socket is gone, with or without a good-bye: there is nobody to write to."""
        self.closing = True
        # It knows its handler, which knows this connection: as a circle they would all stay until
        # the garbage collector comes, and it rarely comes to what has lived long.
        self._transport = _Nowhere()


class Flusher:
    """Writes each touched connection once, at the end of the loop's turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        outbox_limit: int,
        receipt_interval: float,
        on_confirmed: Confirmed,
        on_slow_consumer: Callable[[Connection], None],
        on_ended: Callable[[Connection], None],
    ) -> None:
        """``outbox_limit`` in bytes (0: none). ``receipt_interval``: seconds between two Pings
        to a connection that has only group traffic."""
        self.now = loop.time
        self.limit_outboxes(outbox_limit)
        self.interval = receipt_interval
        self.on_confirmed = on_confirmed
        self.on_slow_consumer = on_slow_consumer
        self.on_ended = on_ended
        self._loop = loop
        self._touched: list[Connection] = []
        self._later: list[Connection] = []

    def limit_outboxes(self, limit: int) -> None:
        """What may wait for one connection from now on, in bytes; 0: anything."""
        self.outbox_limit = limit or sys.maxsize

    def touch(self, connection: Connection) -> None:
        """The connection has something to write; it leaves at the end of this turn."""
        if not self._touched:
            self._loop.call_soon(self._flush)
        connection.touched = True
        self._touched.append(connection)

    def touch_later(self, connection: Connection) -> None:
        """The connection's next Ping is not due yet; look again when it is."""
        if not self._later:
            self._loop.call_later(self.interval, self._flush_later)
        connection.delayed = True
        self._later.append(connection)

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        for connection in touched:
            connection.flush()

    def _flush_later(self) -> None:
        later, self._later = self._later, []
        for connection in later:
            connection.delayed = False
            connection.flush()
