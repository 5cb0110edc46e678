"""The load generator in Python, for machines without a C compiler.

Its command line, its input and its output are those of ``generator/main.c``, but it speaks chatd's
dialect only, and takes many times as long for each message.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import string
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import IntEnum, auto
from ipaddress import IPv4Address
from itertools import takewhile
from math import inf
from random import Random
from typing import Final, NamedTuple, cast

import msgspec
from tornado.util import _websocket_mask

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

CLIENTS_PER_ADDRESS: Final = 5000
"""One address has ports for some 28,000 connections to another."""
LOOPBACK: Final = IPv4Address("127.0.0.1")
DRAIN_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 0.2
TICK_SECONDS: Final = 0.001

_LETTERS: Final = "".join(Random(1).choices(string.ascii_lowercase, k=176))
_HANDSHAKE: Final = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Options(msgspec.Struct, frozen=True):
    """Those of ``generator/main.c``; the rate in messages per second, times in seconds."""

    dialect: str = "chatd"
    at_once: int = 64
    in_flight: int = 0
    until: str = "sent"
    rate: float = 0
    warm_up: float = 0
    seconds: float = 0


class Line(NamedTuple):
    """What the input says of a client; without a ``port`` it goes where all do."""

    path: str
    target: str = ""
    port: int | None = None


class Phase(IntEnum):
    GATHERING = auto()
    WARMING = auto()
    MEASURING = auto()
    DRAINING = auto()


class Totals(msgspec.Struct):
    """``written`` counts what was given to the system; the others what has come back."""

    written: int = 0
    sent: int = 0
    received: int = 0
    receipted: int = 0
    pings: int = 0
    gaps: int = 0
    errors: int = 0

    def since(self, before: Totals) -> dict[str, int]:
        return {
            name: getattr(self, name) - getattr(before, name) for name in self.__struct_fields__
        }


class _Frame(msgspec.Struct):
    """As much of the server's frames as is looked at."""

    type: str
    seq: int = 0
    kind: str = ""
    text: str = ""


class Client(asyncio.Protocol):
    """A WebSocket client that counts what it hears."""

    def __init__(self, number: int, line: Line, course: Course) -> None:
        self.number = number
        self.target = line.target
        self.port = line.port or course.port
        self.in_flight = 0
        self._path = line.path
        self._course = course
        self._transport: asyncio.Transport
        self._in = b""
        self._out = bytearray()
        self._shaken = self._ready = False
        # The seqs that no receipt has covered.
        self._awaited: deque[int] = deque()

    # -- out -----------------------------------------------------------------------------------

    def write_message(self, at: int) -> None:
        """``at``, in nanoseconds, is when it is due; it leaves with the next `flush`."""
        course = self._course
        client_id = f"{course.run_id}{course.totals.written:016x}"
        text = f"{at:016x}{self.number:08x}{_LETTERS}"
        self._frame(
            TEXT,
            f'{{"type":"send",{self.target},"client_id":"{client_id}","text":"{text}"}}'.encode(),
        )
        self.in_flight += 1
        course.totals.written += 1

    def _frame(self, opcode: int, payload: bytes) -> None:
        """Masked, as RFC 6455 section 5.3 obliges a client to."""
        mask, size = secrets.token_bytes(4), len(payload)
        self._out += bytes((0x80 | opcode, 0x80 | min(size, 126)))
        if size > 125:
            self._out += size.to_bytes(2, "big")
        self._out += mask + _websocket_mask(mask, payload)

    def refill(self) -> None:
        course = self._course
        if self.target and course.is_sending:
            while self.in_flight < course.options.in_flight:
                self.write_message(time.monotonic_ns())

    def flush(self) -> None:
        if self._out:
            self._transport.write(bytes(self._out))
            self._out.clear()

    # -- in ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = _HANDSHAKE.format(path=self._path, port=self.port)
        self._transport.write(request.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        fail(f"the server closed the connection of client {self.number}")

    def data_received(self, data: bytes) -> None:
        data = self._in + data
        if not self._shaken:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._in = head
                return
            if head[9:12] != b"101":
                fail(f"client {self.number} was refused: {head.decode()}")
            self._shaken = True
        done = 0
        for opcode, payload, end_of_frame in _frames(data):
            self._take(opcode, payload)
            done = end_of_frame
        self._in = data[done:]
        self.refill()
        self.flush()

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._take_frame(payload)
        elif opcode == PING:
            self._course.totals.pings += 1
            self._frame(PONG, payload)
        elif opcode == CLOSE:
            fail(f"client {self.number} was closed: {payload[2:].decode()}")

    def _take_frame(self, payload: bytes) -> None:
        frame = self._course.decode(payload)
        totals = self._course.totals
        match frame.type:
            case "message":
                self._course.take_message(frame.text)
            case "sent":
                totals.sent += 1
                self._awaited.append(frame.seq)
                if self._course.options.until == "sent":
                    self._answered()
            case "receipt" if frame.kind == "delivered":
                self._take_receipt(frame.seq)
            case "ready" if not self._ready:
                self._ready = True
                self._course.became_ready()
            case "gap":
                totals.gaps += 1
            case "error":
                self._course.was_refused(payload.decode())
                self._answered()
            case "bye":
                fail(f"client {self.number} was sent away: {payload.decode()}")

    def _take_receipt(self, seq: int) -> None:
        while self._awaited and self._awaited[0] <= seq:
            self._awaited.popleft()
            self._course.totals.receipted += 1
            if self._course.options.until == "receipt":
                self._answered()

    def _answered(self) -> None:
        self.in_flight = max(0, self.in_flight - 1)


class Course:
    """The course of a measurement, and what is counted in it."""

    def __init__(self, port: int, options: Options) -> None:
        self.port = port
        self.options = options
        self.totals = Totals()
        self.run_id = secrets.token_hex(8)
        self.decode: Callable[[bytes], _Frame] = msgspec.json.Decoder(_Frame).decode
        self._phase = Phase.GATHERING
        self._writers: Sequence[Client] = ()
        self._sending_since = self._sends_due = 0
        self._ready_count = 0
        self._changed = asyncio.Event()
        self._input_ended = asyncio.Event()
        self._last_heard = 0
        self._begin: float = 0
        self._end: float = 0
        self._latencies_ms: list[float] = []

    @property
    def is_sending(self) -> bool:
        return self._phase in {Phase.WARMING, Phase.MEASURING}

    def became_ready(self) -> None:
        self._ready_count += 1
        self._changed.set()

    def was_refused(self, why: str) -> None:
        if not self.totals.errors:
            print(f"load: refused: {why}", file=sys.stderr)
        self.totals.errors += 1

    def take_message(self, text: str) -> None:
        self.totals.received += 1
        if self._phase < Phase.MEASURING:
            return
        self._last_heard = time.monotonic_ns()
        written_at = int(text[:16], 16)
        if self._begin <= written_at < self._end:
            self._latencies_ms.append((self._last_heard - written_at) / 1e6)

    async def run(self, clients: Sequence[Client]) -> None:
        # A file can't be watched, and needs not: it doesn't end later.
        with suppress(PermissionError):
            asyncio.get_running_loop().add_reader(0, self._read_input)
        await self._gather(clients)
        self._writers = [one for one in clients if one.target]
        self._phase, self._sending_since = Phase.WARMING, time.monotonic_ns()
        for one in self._writers:
            one.refill()
            one.flush()
        sending = asyncio.create_task(self._keep_sending())
        await asyncio.sleep(self.options.warm_up)
        counted = await self._measured()
        await sending
        await self._drained()
        self._say_end(counted)

    async def _gather(self, clients: Sequence[Client]) -> None:
        started, totals = time.monotonic_ns(), self.totals
        await self._connect(clients)
        seconds = (time.monotonic_ns() - started) / 1e9
        _say("ready", seconds=seconds, received=totals.received, gaps=totals.gaps)

    async def _measured(self) -> dict[str, int]:
        """What was counted in the window."""
        # Or a message that was due before the window would be written in it, and not timed.
        self._send_due()
        seconds, before = self.options.seconds, msgspec.structs.replace(self.totals)
        # It ends when this is woken, which may be late: what is written until then counts.
        self._phase, self._begin, self._end = Phase.MEASURING, time.monotonic_ns(), inf
        _say("begin")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await self._input_ended.wait()
        self._phase = Phase.DRAINING
        self._end = self._last_heard = time.monotonic_ns()
        _say("stop")
        return self.totals.since(before)

    async def _connect(self, clients: Sequence[Client]) -> None:
        async with asyncio.TaskGroup() as connecting:
            for started, one in enumerate(clients):
                while started - self._ready_count >= self.options.at_once:
                    await self._next_ready()
                connecting.create_task(self._open(one))
        while self._ready_count < len(clients):
            await self._next_ready()

    async def _open(self, client: Client) -> None:
        here = str(LOOPBACK + client.number // CLIENTS_PER_ADDRESS)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: client, str(LOOPBACK), client.port, local_addr=(here, 0)
            )
        except OSError as error:
            fail(f"client {client.number} can't connect: {error}")

    async def _next_ready(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _keep_sending(self) -> None:
        while self.options.rate and self.is_sending:
            self._send_due()
            await asyncio.sleep(TICK_SECONDS)

    def _send_due(self) -> None:
        """Write what is due by now, from clients in turn; timed from when it was due."""
        if not self.options.rate:
            return
        now, apart = time.monotonic_ns(), 1e9 / self.options.rate
        while (due := self._sending_since + int(self._sends_due * apart)) <= now:
            one = self._writers[self._sends_due % len(self._writers)]
            one.write_message(due)
            one.flush()
            self._sends_due += 1

    async def _drained(self) -> None:
        """What is in flight is waited for, so that nothing late is left out of the latencies."""
        while self._writers:
            now = time.monotonic_ns()
            quiet = now - self._last_heard > QUIET_SECONDS * 1e9
            if quiet and not self._unanswered():
                return
            if now - self._end > DRAIN_SECONDS * 1e9:
                return
            await asyncio.sleep(0.005)

    def _unanswered(self) -> int:
        return sum(one.in_flight for one in self._writers)

    def _say_end(self, counted: dict[str, int]) -> None:
        timed = sorted(self._latencies_ms)

        def percentile(share: float) -> float:
            return timed[min(int(share * len(timed)), len(timed) - 1)] if timed else 0

        _say(
            "end",
            seconds=(self._end - self._begin) / 1e9,
            **counted,
            unanswered=self._unanswered(),
            timed=len(timed),
            acked=self.totals.sent,
            p50_ms=percentile(0.5),
            p99_ms=percentile(0.99),
            max_ms=percentile(1),
        )

    def _read_input(self) -> None:
        if os.read(0, 256):
            return
        asyncio.get_running_loop().remove_reader(0)
        if self._phase < Phase.MEASURING:
            sys.exit(1)
        self._input_ended.set()


def _frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The whole frames: opcode, payload, and where each ends. A server doesn't mask them."""
    start = 0
    while len(data) >= start + 2:
        size, header = data[start + 1] & 127, 2
        if size > 125:
            header = 4 if size == 126 else 10
            if len(data) < start + header:
                return
            size = int.from_bytes(data[start + 2 : start + header], "big")
        end = start + header + size
        if len(data) < end:
            return
        yield data[start] & 15, data[start + header : end], end
        start = end


def _line(text: str) -> Line:
    path, target, own_port, *_ = [*text.split("\t"), "", ""]
    return Line(path, target, int(own_port) if own_port else None)


def _say(event: str, **what: float) -> None:
    print(msgspec.json.encode({"event": event, **what}).decode(), flush=True)


def fail(why: str) -> None:
    """End the program, with a sentence."""
    sys.exit(f"load: {why}")


def main(port: str, *named: str) -> None:
    options = msgspec.convert(dict(one.split("=", 1) for one in named), Options, strict=False)
    if options.dialect != "chatd":
        fail(f"the generator in Python does not speak {options.dialect}: that takes a C compiler")
    lines = [_line(line.rstrip("\n")) for line in takewhile(str.strip, sys.stdin)]
    if not lines:
        fail("there is no client on standard input")
    if options.rate and not any(one.target for one in lines):
        fail("nobody is there to write")

    async def run() -> None:
        course = Course(int(port), options)
        clients = [Client(number, line, course) for number, line in enumerate(lines)]
        await course.run(clients)

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
