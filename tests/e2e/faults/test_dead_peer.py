"""Peers that are gone without a word are found; a server that was away blames nobody (G8)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import psutil
import pytest

from tests.chat import Chat, Json, Socket, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked, Closed, Receipt
from tests.e2e.faults.proxy import BOTH, Direction, Proxy
from tests.e2e.faults.stored import in_store
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(240)

PING_SECONDS: Final = 0.5
PONG_SECONDS: Final = 1.5
KEEP_ALIVE: Final = {
    "CHATD_WEBSOCKET__PING_SECONDS": str(PING_SECONDS),
    "CHATD_WEBSOCKET__PONG_SECONDS": str(PONG_SECONDS),
}
PATIENCE: Final = 10 * (PING_SECONDS + PONG_SECONDS)
"""Seconds in which a dead peer must be found: as many times as long as it may take, as this
machine may be busy."""
CLUB: Final = "g:club"


class Lab:
    """Ann sends to the club; Eve sees who is on line and says nothing; some are cut off.

    Those who are cut off come through a proxy, the others don't.
    """

    def __init__(self, server: Server, proxy: Proxy, ann: Device, devices: list[Device]) -> None:
        self.server = server
        self.proxy = proxy
        self.ann = ann
        self.devices = devices

    @classmethod
    async def open(cls, server: Server, exits: AsyncExitStack, count: int) -> Lab:
        """Start the server, and everybody."""
        chat = Chat(server.start())
        exits.callback(chat.close)
        proxy = await exits.enter_async_context(Proxy(int(chat.url.rpartition(":")[2])))
        ann = await exits.enter_async_context(Device(await chat.user("ann@example.org")))
        await ann.user.create("club")
        devices = []
        for number in range(count):
            user = await chat.user(f"u{number}@example.org")
            await user.join("club")
            devices.append(Device(user, url=proxy.url))
        return cls(server, proxy, ann, devices)

    async def connect(self, exits: AsyncExitStack) -> None:
        for device in self.devices:
            await exits.enter_async_context(device)

    async def say(self, count: int) -> None:
        """Ann speaks to everybody, and to each."""
        for number in range(count):
            self.ann.send(f"to all, {number}", group="club")
            for device in self.devices:
                self.ann.send(f"to you, {number}", to=device.user.email)
        await self.ann.all_acked()

    def has_arrived(self) -> bool:
        """Whether each has what was sent to all."""
        return all(one.top(CLUB) == self.ann.top(CLUB) for one in self.devices)

    async def everybody_has_all(self) -> None:
        """Return once each has what Ann sent, and Ann has been told so."""
        last = {one.conversation: one.seq for one in self.ann.log.of(Acked)}
        await until(
            lambda: (
                all(one.top(CLUB) == last[CLUB] for one in self.devices)
                and last.items() <= self._delivered().items()
            )
        )

    def _delivered(self) -> dict[str, int]:
        """Up to where Ann was told that each conversation has arrived, by all of them."""
        marks: dict[str, dict[str, int]] = {}
        for one in self.ann.log.of(Receipt):
            marks.setdefault(one.conversation, {})[one.by] = one.seq
        others = {CLUB: len(self.devices)}
        return {
            name: min(by.values()) for name, by in marks.items() if len(by) == others.get(name, 1)
        }

    def check(self) -> str:
        """End the server; what is stored then, against what everybody saw."""
        assert self.server.terminate() == 0
        logs = [one.log for one in (self.ann, *self.devices)]
        rows = in_store(self.server.storage, self.server.data_dir)
        return str(check(logs, rows, complete=logs))


def connections(devices: Sequence[Device]) -> list[int]:
    return [device.connection for device in devices]


def sockets_of(server: Server) -> set[int]:
    """The other ends' ports of all that is connected to it."""
    connected = psutil.Process(server.process.pid).net_connections("tcp")
    return {one.raddr.port for one in connected if one.raddr}


async def gone(watcher: Socket, users: Sequence[str]) -> None:
    """Return once the watcher was told that all of them are off line."""
    left = set(users)
    async with asyncio.timeout(PATIENCE):
        while left:
            left -= set((await watcher.next("presence"))["offline"])


async def online(watcher: User) -> set[str]:
    """Who is on line, by REST."""
    answer = await watcher.call("GET", "/v1/users?online=true&limit=200")
    assert answer.status == 200, answer
    items: list[Json] = answer.body["items"]
    assert all(one["online"] for one in items)
    return {one["email"] for one in items}


@pytest.mark.parametrize(
    "ways",
    [BOTH, (Direction.TO_SERVER,), (Direction.TO_CLIENT,)],
    ids=["both ways", "to the server", "to the client"],
)
async def test_a_dead_peer_is_let_go(
    io_loop: Any,
    make_server: MakeServer,
    scale: Scale,
    report: Report,
    ways: tuple[Direction, ...],
) -> None:
    """What it is sent meanwhile is kept for it, and not delivered before it has it.

    A healthy peer that is as silent stays.

    Seen to fail with a keep-alive that ends nobody, and with one that waits for a dead peer to
    close.
    """
    peers, messages = scale(4, 100), scale(5, 20)
    server = make_server(unlimited=True, environment=KEEP_ALIVE)
    async with AsyncExitStack() as exits:
        lab = await Lab.open(server, exits, peers)
        watcher = await lab.ann.user.chat.user("eve@example.org")
        eve = await exits.enter_async_context(watcher.socket())
        await until(lambda: len(eve.of("presence")))
        everybody = {one.user.email for one in lab.devices}
        others = sockets_of(server)
        await lab.connect(exits)
        theirs = sockets_of(server) - others
        assert len(theirs) == peers
        await lab.say(messages)
        await lab.everybody_has_all()
        assert everybody <= await online(watcher)
        lab.proxy.swallow(*ways)
        started = time.monotonic()
        await lab.say(messages)
        await gone(eve, sorted(everybody))
        seconds = time.monotonic() - started
        # Their sockets too, at once: presence is gathered for a while before it is told.
        assert not theirs & sockets_of(server)
        assert await online(watcher) == {lab.ann.user.email, watcher.email}
        assert connections([lab.ann]) == [1]
        await lab.say(messages)
        lab.proxy.cut()
        lab.proxy.heal()
        await lab.everybody_has_all()
        assert eve.ws.close_code is None
        report(
            f"{peers} dead peers were off line after {seconds:.1f} s"
            f" of {PING_SECONDS + PONG_SECONDS}: {lab.check()}"
        )


async def test_a_frozen_client_is_let_go_and_comes_back(
    io_loop: Any, make_server: MakeServer, scale: Scale, report: Report
) -> None:
    """Nothing of what it and the server have said is lost on the way: it only comes too late.

    Seen to fail with a keep-alive that ends nobody.
    """
    peers, messages = scale(4, 50), scale(5, 20)
    server = make_server(unlimited=True, environment=KEEP_ALIVE)
    async with AsyncExitStack() as exits:
        lab = await Lab.open(server, exits, peers)
        await lab.connect(exits)
        await lab.say(messages)
        lab.proxy.stall()
        await lab.say(messages)
        for device in lab.devices:
            device.send("on its way for a long time", group="club")
        async with asyncio.timeout(PATIENCE):
            while await online(lab.ann.user) != {lab.ann.user.email}:
                await asyncio.sleep(0.05)
        lab.proxy.heal()
        await until(lambda: all(one.log.of(Closed) for one in lab.devices))
        await until(lambda: not any(one.unacked for one in lab.devices))
        await lab.say(messages)
        await lab.everybody_has_all()
        assert connections([lab.ann]) == [1]
        assert all(one.connection > 1 for one in lab.devices)
        report(f"{peers} clients frozen: {lab.check()}")


async def test_a_frozen_server_blames_nobody(
    io_loop: Any, make_server: MakeServer, scale: Scale, report: Report
) -> None:
    """Its peers' Pongs wait for it when it goes on, and its timers come first.

    Seen to fail with a keep-alive that counts the time in which it was frozen itself.
    """
    peers, freezes = scale(20, 200), scale(1, 10)
    server = make_server(unlimited=True, environment=KEEP_ALIVE)
    async with AsyncExitStack() as exits:
        lab = await Lab.open(server, exits, peers)
        await lab.connect(exits)
        for _ in range(freezes):
            await lab.say(1)
            await lab.everybody_has_all()
            lab.proxy.stall(Direction.TO_SERVER)
            # To each of these belongs a Ping, whose Pong is on its way when the server stops.
            await lab.say(1)
            await until(lab.has_arrived)
            await asyncio.to_thread(server.freeze)
            lab.proxy.heal()
            await asyncio.sleep(2 * (PING_SECONDS + PONG_SECONDS))
            server.thaw()
            await lab.say(1)
            await lab.everybody_has_all()
            # Who is to be ended for that is ended by now.
            await asyncio.sleep(PING_SECONDS + PONG_SECONDS)
            assert connections([lab.ann, *lab.devices]) == [1] * (peers + 1)
        report(f"{freezes} freezes of a server with {peers + 1} connections: {lab.check()}")
