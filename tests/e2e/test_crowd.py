"""A crowd in one group: everyone sees one order, and nobody misses anything."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from typing import Any, Final, Self

import pytest

from tests.chat import Chat, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer

CLIENTS: Final = 200
SENDERS: Final = 8
IN_FLIGHT: Final = 200

PING: Final = 0x9
SEQ: Final = re.compile(rb'"type":"(message|sent)".*?"seq":(\d+)')


class Listener(asyncio.Protocol):
    """A WebSocket client that notes the seq of each message, and answers Pings.

    Millions of messages are too many for a full client library: this one cuts frames as RFC 6455
    section 5.2 has them, and reads no more of each than its seq.
    """

    def __init__(self, user: User, expected: int) -> None:
        """``expected``: how many messages there will be."""
        self.user = user
        self._expected = expected
        self.seqs: list[int] = []
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._buffer = b""
        self._open = False
        self._transport: asyncio.Transport

    async def connect(self, chat: Chat, path: str) -> Self:
        host, _, port = chat.url.removeprefix("http://").partition(":")
        await asyncio.get_running_loop().create_connection(lambda: self, host, int(port))
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self.user.token}\r\n\r\n".encode()
        )
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, found, self._buffer = self._buffer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            self._open = bool(found)
        self._buffer = self._buffer[self._take_frames() :]

    def _take_frames(self) -> int:
        data, at = self._buffer, 0
        while len(data) - at >= 4:
            start, length = at + 2, data[at + 1]
            if length == 126:
                start, length = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
            assert length != 127, "no frame here is that long"
            if len(data) < start + length:
                break
            self._frame(data[at] & 0xF, data[start : start + length])
            at = start + length
        return at

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._write(0xA, payload)
        elif (found := SEQ.search(payload)) is not None:
            # A sender's own message comes as `sent`, in its place among the others.
            self.seqs.append(int(found[2]))
            if found[1] == b"sent":
                self._room.release()
            if len(self.seqs) == self._expected:
                self.done.set()
        elif payload == b'{"type":"ready"}':
            self.ready.set()

    def _write(self, opcode: int, payload: bytes) -> None:
        """A masked frame; the mask of zeros changes nothing."""
        self._transport.write(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)

    async def send(self, count: int) -> None:
        for number in range(count):
            await self._room.acquire()
            self._write(0x1, b'{"type":"send","text":"message %d"}' % number)

    def close(self) -> None:
        self._transport.close()


@pytest.mark.timeout(300)
@pytest.mark.full("memory", "mongo")
async def test_200_clients_see_every_message_in_one_order(
    io_loop: Any, make_server: MakeServer, storage_url: str, scale: Scale, report: Report
) -> None:
    messages = scale(2_000, 20_000)
    server = make_server(storage=storage_url, environment={"CHATD_LIMITS__SEND_PER_SECOND": "0"})
    chat = Chat(server.start())
    users = [await chat.user(f"u{number}@example.org") for number in range(CLIENTS)]
    await users[0].create("crowd")
    for user in users[1:]:
        await user.join("crowd")
    path = "/group/crowd/connect"
    listeners = [await Listener(user, messages).connect(chat, path) for user in users]
    for one in listeners:
        await one.ready.wait()
    cpu, started = server.cpu_seconds(), time.monotonic()
    await asyncio.gather(*(one.send(messages // SENDERS) for one in listeners[:SENDERS]))
    for one in listeners:
        await one.done.wait()
    seconds, cpu = time.monotonic() - started, server.cpu_seconds() - cpu
    report(
        f"{messages:,} messages to {CLIENTS} clients in {seconds:.1f} s:"
        f" {messages / seconds:,.0f} messages/s,"
        f" {messages * CLIENTS / seconds:,.0f} deliveries/s,"
        f" {messages * CLIENTS / cpu:,.0f} deliveries per CPU-second of the server"
    )
    complete = list(range(1, messages + 1))
    for one in listeners:
        assert one.seqs == complete
        one.close()
    chat.close()
