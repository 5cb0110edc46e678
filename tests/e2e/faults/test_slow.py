"""Clients that never read: what they cost the server, and the others (G7)."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.chat import Chat, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.live import Delays, Live
from tests.e2e.faults.stored import in_store
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(240)

MB: Final = 1_000_000
OUTBOX_BYTES: Final = 1_048_576
"""What may wait for one connection, by default."""
SLACK_BYTES: Final = 16 * MB
"""What the server may need besides: its storage's caches and its allocator have their ups and
downs."""
TEXT: Final = "€" * 3900
TEXT_BYTES: Final = len(TEXT.encode())
WINDOW: Final = 8
LINGERS: Final = {"CHATD_WEBSOCKET__PONG_SECONDS": "600"}
"""Who does not read does not answer Pings either, but that is not what is asked here."""

SLOW_CONSUMER: Final = 4430
RECEIVE_BYTES: Final = 4096
TAIL_BYTES: Final = 1000


class Group(NamedTuple):
    """One who sends to it, one who reads it, and those who don't."""

    name: str
    sender: Device
    reader: Device
    slow: list[User]

    @property
    def conversation(self) -> str:
        return f"g:{self.name}"

    async def flood(self, messages: int, pause: float) -> None:
        """Return once the group's reader has them all; ``pause``: seconds between two."""
        for number in range(messages):
            self.sender.send(f"{number} {TEXT}", group=self.name)
            await asyncio.sleep(pause)
            await until(lambda: self.sender.unacked < WINDOW)
        await self.sender.all_acked()
        await until(lambda: self.reader.top(self.conversation) == self.last)

    @property
    def last(self) -> int:
        return self.sender.top(self.conversation)


async def start_groups(server: Server, exits: AsyncExitStack, clients: int) -> list[Group]:
    """Start the server and everybody but the slow ones, who join, ten to a group at most."""
    chat = Chat(server.start())
    exits.callback(chat.close)
    groups = []
    for number in range(ceil(clients / 10)):
        sender, reader = [
            await exits.enter_async_context(Device(await chat.user(f"{who}{number}@example.org")))
            for who in ("sender", "reader")
        ]
        group = Group(f"group{number}", sender, reader, [])
        await sender.user.create(group.name)
        await reader.user.join(group.name)
        groups.append(group)
    for number in range(clients):
        group = groups[number % len(groups)]
        user = await chat.user(f"slow{number}@example.org")
        await user.join(group.name)
        group.slow.append(user)
    return groups


class Client:
    """A WebSocket, byte by byte: it reads only when it is told to.

    Without a replay: while that lasts, what is live waits as one copy for all.
    """

    def __init__(self, user: User) -> None:
        self._address = urlsplit(user.chat.url)
        key = base64.b64encode(os.urandom(16)).decode()
        self._request = (
            f"GET /v1/ws?replay=none HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {user.token}\r\n\r\n"
        ).encode()
        self._socket = socket.socket()
        self._socket.setblocking(False)

    async def connect(self) -> Client:
        """Return once it is let in; that much it reads."""
        loop = asyncio.get_running_loop()
        # Before it connects, or the system keeps more for it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        await loop.sock_connect(self._socket, (self._address.hostname, self._address.port))
        await loop.sock_sendall(self._socket, self._request)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await loop.sock_recv(self._socket, 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        return self

    async def read_out(self) -> int | None:
        """Read until the server closes; the code it closes with, None where it says none."""
        tail = b""
        with suppress(ConnectionError):
            while data := await asyncio.get_running_loop().sock_recv(self._socket, 65_536):
                tail = (tail + data)[-TAIL_BYTES:]
        _, found, good_bye = tail.rpartition(b'"type":"bye"')
        _, closes, payload = good_bye.partition(b"\x88")
        return int.from_bytes(payload[1:3], "big") if found and closes else None

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def connected(groups: list[Group]) -> AsyncIterator[list[Client]]:
    """The connections of all who are slow."""
    clients = [Client(user) for group in groups for user in group.slow]
    try:
        yield [await client.connect() for client in clients]
    finally:
        for client in clients:
            client.close()


@asynccontextmanager
async def beside(coroutines: list[Coroutine[Any, Any, Any]]) -> AsyncIterator[None]:
    """They run meanwhile, and end with what is inside."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Flood(NamedTuple):
    """What so many messages to each group do to the server's memory, and to two who talk."""

    grown: int
    delays: Delays

    def __str__(self) -> str:
        return f"{self.grown / MB:+.0f} MB, {self.delays}"

    @classmethod
    async def run(
        cls,
        server: Server,
        groups: list[Group],
        live: Live,
        messages: int,
        *,
        pause: float,
    ) -> Flood:
        before = peak = server.resident_bytes()
        started = time.monotonic()
        flooding = asyncio.gather(*(group.flood(messages, pause) for group in groups))
        while not flooding.done():
            peak = max(peak, server.resident_bytes())
            await asyncio.wait([flooding], timeout=0.02)
        await flooding
        return cls(peak - before, await live.since(started))


def cut_in(log: Path) -> int:
    """How many connections the server's log says it has cut as too slow."""
    return log.read_text().count("socket.slow_consumer")


async def codes_once_cut(server: Server, clients: list[Client]) -> Counter[int | None]:
    """Have everybody read again once the last of them was cut: how the server closed them."""
    await until(lambda: cut_in(server.log) == len(clients))
    return Counter(await asyncio.gather(*(client.read_out() for client in clients)))


async def come_back(group: Group) -> list[Device]:
    """The slow ones, with a client that reads: once they have everything."""
    async with AsyncExitStack() as exits:
        devices = [Device(user) for user in group.slow]
        for device in devices:
            await exits.enter_async_context(device)
        await until(lambda: all(one.top(group.conversation) == group.last for one in devices))
    return devices


async def test_clients_that_never_read(
    io_loop: Any,
    make_server: MakeServer,
    tmp_path: Path,
    scale: Scale,
    full: bool,
    report: Report,
) -> None:
    """The same flood twice: first all clients read, then they don't.

    Seen to fail with no limit to what waits for a connection, and with one who is cut at it but
    told another code.
    """
    clients, volume, pause = scale((8, 10 * MB, 0.002), (50, 100 * MB, 0.01))
    server = make_server(unlimited=True, environment=LINGERS)
    async with AsyncExitStack() as exits:
        groups = await start_groups(server, exits, clients)
        chat = groups[0].sender.user.chat
        ann, bob = [await chat.user(f"{name}@example.org") for name in ("ann", "bob")]
        live = await exits.enter_async_context(Live(ann, bob, tmp_path))
        flood = partial(
            Flood.run, server, groups, live, volume // TEXT_BYTES // len(groups), pause=pause
        )
        async with connected(groups) as reading, beside([one.read_out() for one in reading]):
            read = await flood()
        assert cut_in(server.log) == 0
        async with connected(groups) as deaf:
            ending = asyncio.create_task(codes_once_cut(server, deaf))
            exits.callback(ending.cancel)
            unread = await flood()
            cost = unread.grown - read.grown
            assert cost <= clients * OUTBOX_BYTES + SLACK_BYTES, f"{cost / MB:.0f} MB more"
            codes = await ending
        # Who reads again too late finds the connection closed, and no more.
        assert codes.keys() <= {SLOW_CONSUMER, None}, codes
        assert codes[SLOW_CONSUMER], codes
        ratio = unread.delays.part(0.99) / read.delays.part(0.99)
        report(
            f"{volume / MB:.0f} MB to {len(groups)} groups with {clients} clients that never read:"
            f" {cost / MB:+.0f} MB of memory, closed with {dict(codes)}; p99 × {ratio:.2f}:"
            f" where all read {read}; where none does {unread}"
        )
        if full:
            assert ratio <= 2, (read, unread)
        rows = in_store(server.storage, server.data_dir)
        for group in groups:
            devices = await come_back(group)
            logs = [one.log for one in (group.reader, *devices)]
            check([group.sender.log, *logs], rows, complete=logs)
