"""Connections without a network: a clock moved by hand, and a transport that keeps everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from chatd.connection import EVERYTHING, Connection, Flusher, Login, Scope, Span
from chatd.errors import CloseCode
from chatd.frames import websocket_frame
from chatd.models import Draft, group_conversation, pair_conversation

ANN = "ann@example.org"
BOB = "bob@example.org"
EVE = "eve@example.org"
PAIR = pair_conversation(ANN, BOB)
GROUP = group_conversation("python")


class Clock:
    """As much of an event loop as a `Flusher` needs; turns and time pass only when told to."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._ready: list[Callable[[], object]] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self.timers.append((self._now + delay, callback))

    def turn(self) -> None:
        """End this turn of the loop."""
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()

    def advance(self, seconds: float) -> None:
        """Let time pass, and what became due with it happen."""
        self._now += seconds
        timers, self.timers = self.timers, []
        for when, callback in timers:
            if when <= self._now:
                self._ready.append(callback)
            else:
                self.timers.append((when, callback))
        self.turn()


class Peer:
    """A `chatd.connection.Transport` that keeps what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed: tuple[CloseCode, str] | None = None
        self.dropped = False
        self.unread = 0
        self.heard = True
        self._taken = 0

    def write(self, data: bytes) -> int:
        assert self.closed is None, "nothing is written behind the close frame"
        self.writes.append(data)
        return self.unread

    def backlog(self) -> int:
        return self.unread

    async def drained(self) -> None:
        self.unread = 0

    def close(self, code: CloseCode, reason: str) -> None:
        assert self.closed is None, "closed once"
        self.closed = code, reason

    def hears(self) -> bool:
        return self.heard

    def drop(self) -> None:
        self.dropped = True

    def take(self) -> list[Any]:
        """What was written since the last look: JSON of text frames, the payload of Pings."""
        new, self._taken = self.writes[self._taken :], len(self.writes)
        return [
            payload if opcode == 0x9 else json.loads(payload)
            for opcode, payload in parse_frames(b"".join(new))
        ]


def parse_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each unmasked, final frame (RFC 6455 section 5.2)."""
    frames = []
    while data:
        assert data[0] & 0xF0 == 0x80, "final, and no reserved bit"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        frames.append((data[0] & 0x0F, data[start : start + size]))
        assert len(frames[-1][1]) == size, "whole"
        data = data[start + size :]
    return frames


class Lab:
    """A flusher on a clock of its own, the connections on it, and what it reports."""

    def __init__(self, *, outbox_limit: int = 0, receipt_interval: float = 0.25) -> None:
        self.clock = Clock()
        self.confirmed: list[Span] = []
        self.slow: list[Connection] = []
        self.ended: list[Connection] = []
        self.flusher = Flusher(
            cast(asyncio.AbstractEventLoop, self.clock),
            outbox_limit=outbox_limit,
            receipt_interval=receipt_interval,
            on_confirmed=lambda _, spans: self.confirmed.extend(spans),
            on_slow_consumer=self.slow.append,
            on_ended=self.ended.append,
        )
        self._count = 0

    def connect(
        self,
        user: str = ANN,
        scope: Scope = EVERYTHING,
        *,
        live: bool = True,
        explicit: bool = False,
    ) -> tuple[Connection, Peer]:
        """A new connection and the other end of it; unless ``live`` it holds messages back."""
        self._count += 1
        peer = Peer()
        login = Login(
            user=user, user_id=user, token_id=f"t{self._count}", generation=0, ends_at=1e9
        )
        connection = Connection(
            f"c{self._count}", login, scope, peer, self.flusher, explicit=explicit
        )
        if live:
            connection.release()
        return connection, peer


def numbered(seq: int) -> bytes:
    """A frame that `Peer.take` shows as its number."""
    return websocket_frame(0x1, str(seq).encode())


def draft(number: int = 1, text: str | None = None, sender: str = ANN) -> Draft:
    """A draft from Ann to Bob (or back)."""
    return Draft(
        id=f"id{number}",
        conversation=PAIR,
        sender=sender,
        text=f"text {number}" if text is None else text,
        sent_at=1_700_000_000_000 + number,
    )


class Observer:
    """Keeps what the journal and the receipts report."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.marks: list[int] = []
        self.failures: list[tuple[str, BaseException]] = []

    def batch_stored(self, size: int, seconds: float, waited: float) -> None:
        self.batches.append(size)

    def marks_stored(self, size: int) -> None:
        self.marks.append(size)

    def failed(self, event: str, error: BaseException) -> None:
        self.failures.append((event, error))
