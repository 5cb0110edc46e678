"""Recipients that are frozen, Pongs that don't arrive, servers killed: receipts are true (G6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chatd.models import Conversation, pair_conversation
from tests.chat import Chat, Json, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Log, Receipt
from tests.e2e.faults.power import power_cut
from tests.e2e.faults.proxy import Direction, Proxy
from tests.e2e.faults.recipient import Recipient
from tests.e2e.faults.stored import Row, in_store, over_rest
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(120)

BEFORE, MEANWHILE = 3, 10
"""Messages to a recipient before its trouble, and while it lasts."""
OFTEN = {"CHATD_WEBSOCKET__RECEIPT_INTERVAL_MS": "20"}
"""How often a group's messages are confirmed."""
LATER = 5
"""Receipts of somebody else that prove that time enough has passed for one."""


class Ann:
    """Who sends one to one, from her phone, and is on line with her tablet too."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.phone = Device(user, "phone")
        self.tablet = Device(user, "tablet")
        self.devices = [self.phone, self.tablet]

    async def send(self, to: User, count: int) -> int:
        """So many messages, one after the other; the last one's seq, once all are stored."""
        for _ in range(count):
            self.phone.send("hello", to=to.email)
            await self.phone.all_acked()
        return self.phone.top(self.pair(to))

    def pair(self, other: User) -> Conversation:
        return pair_conversation(self.user.email, other.email)

    def told(self, of: User, log: Log | None = None) -> list[int]:
        """What the phone's receipts say, or another device's, in their order."""
        log = log or self.phone.log
        return [one.seq for one in log.of(Receipt) if one.conversation == self.pair(of)]

    async def hears(self, of: User, seq: int) -> None:
        """Return once all devices were told that this has arrived."""
        logs = [device.log for device in self.devices]
        await until(lambda: all(seq in self.told(of, log) for log in logs))

    async def let_time_pass(self, other: User) -> None:
        """As many later messages to somebody else as prove that a receipt had time to come."""
        for _ in range(LATER):
            await self.hears(other, await self.send(other, 1))

    async def check_receipts(self, of: User, last: int) -> None:
        """Each message was covered by one receipt, on each device."""
        for device in self.devices:
            told = self.told(of, device.log)
            assert told == sorted(set(told)), told
            assert told[-1] == last, told

    async def delivered(self, of: User) -> dict[int, str]:
        """What is stored: when which messages were delivered."""
        path = f"/v1/users/{of.email}/messages"
        items = await pages(self.user, path)
        return {item["seq"]: item["delivered_at"] for item in items if "delivered_at" in item}


async def pages(user: User, path: str) -> list[Json]:
    items: list[Json] = []
    more = True
    while more:
        after = items[-1]["seq"] if items else 0
        page = await user.call("GET", f"{path}?after_seq={after}&limit=200")
        items += page.body["items"]
        more = page.body["has_more"]
    return items


def through(last: int) -> set[int]:
    return set(range(1, last + 1))


@asynccontextmanager
async def ann_and(server: Server, *names: str) -> AsyncIterator[tuple[Ann, list[User]]]:
    """Start the server; Ann is on line, the others are users."""
    async with AsyncExitStack() as exits:
        chat = Chat(await asyncio.to_thread(server.start))
        exits.callback(chat.close)
        ann = Ann(await chat.user("ann@example.org"))
        others = [await chat.user(f"{name}@example.org") for name in names]
        for device in ann.devices:
            await exits.enter_async_context(device)
        yield ann, others


async def stored(server: Server, ann: Ann, *others: User) -> list[Row]:
    """All that is stored, where Ann has written to these alone."""
    if server.storage != "memory:":
        assert server.terminate() == 0
        return in_store(server.storage, server.data_dir)
    return [row for other in others for row in await over_rest(ann.user, other.email, "user")]


# -- a recipient that is frozen ----------------------------------------------------------------


@pytest.mark.full("mongo")
@pytest.mark.parametrize("is_let_go", [False, True], ids=["in-time", "let-go"])
async def test_a_frozen_recipient_is_no_receipt(
    io_loop: Any, make_server: MakeServer, storage_url: str, tmp_path: Path, is_let_go: bool
) -> None:
    """Its system takes the messages; its Pong comes when it is thawed. Or the server lets go of
    it before that, and it is given them again.

    Seen to fail with a mark that moves when the Ping is written, and with one that is not stored.
    """
    patience = {f"CHATD_WEBSOCKET__{name}_SECONDS": "1" for name in ("PING", "PONG")}
    environment = patience if is_let_go else {}
    server = make_server(storage=storage_url, environment=environment)
    async with (
        ann_and(server, "bob", "carol") as (ann, (bob, carol)),
        Recipient(bob, tmp_path) as frozen,
        Recipient(carol, tmp_path),
    ):
        first = await ann.send(bob, BEFORE)
        await ann.hears(bob, first)
        frozen.freeze()
        last = await ann.send(bob, MEANWHILE)
        await ann.let_time_pass(carol)
        if is_let_go:
            await _is_off_line(bob)
            await ann.let_time_pass(carol)
        assert ann.told(bob)[-1] == first
        assert set(await ann.delivered(bob)) == through(first)

        thawed_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        frozen.thaw()
        await ann.hears(bob, last)
        await ann.let_time_pass(carol)
        await ann.check_receipts(bob, last)
        delivered = await ann.delivered(bob)
        assert set(delivered) == through(last)
        assert all(at >= thawed_at[:23] for seq, at in delivered.items() if seq > first), delivered

        if server.storage != "memory:":
            last = await _outlives_a_kill(server, ann, frozen, delivered)
        await ann.check_receipts(bob, last)
        check([one.log for one in ann.devices], await stored(server, ann, bob, carol))


async def _is_off_line(user: User) -> None:
    async with asyncio.timeout(60):
        while (await user.call("GET", f"/v1/users/{user.email}")).body["online"]:
            await asyncio.sleep(0.01)


async def _outlives_a_kill(
    server: Server, ann: Ann, recipient: Recipient, delivered: Mapping[int, str]
) -> int:
    """What was delivered stays so, as of the same time, and is not delivered again."""
    server.kill()
    await until(lambda: not any(device.ready.is_set() for device in ann.devices))
    given, connections = len(recipient.seqs), recipient.connections
    await asyncio.to_thread(server.restart)
    await until(lambda: all(device.ready.is_set() for device in ann.devices))
    await until(lambda: recipient.connections > connections)
    assert await ann.delivered(recipient.user) == delivered
    last = await ann.send(recipient.user, 1)
    await ann.hears(recipient.user, last)
    assert recipient.seqs[given:] == [last]
    return last


# -- Pongs that don't arrive -------------------------------------------------------------------


@pytest.mark.full("mongo")
@pytest.mark.parametrize("are_lost", [False, True], ids=["late", "lost"])
async def test_messages_without_a_pong_are_no_receipt(
    io_loop: Any, make_server: MakeServer, storage_url: str, are_lost: bool
) -> None:
    """They reach the device, and what it answers comes late, or never.

    Seen to fail with a mark that moves when the Ping is written.
    """
    server = make_server(storage=storage_url)
    async with (
        ann_and(server, "bob", "carol") as (ann, (bob, carol)),
        Proxy(int(server.url.rpartition(":")[2])) as proxy,
        Device(bob, url=proxy.url) as mute,
        Device(carol) as other,
    ):
        first = await ann.send(bob, BEFORE)
        await ann.hears(bob, first)
        (proxy.swallow if are_lost else proxy.stall)(Direction.TO_SERVER)
        last = await ann.send(bob, MEANWHILE)
        await until(lambda: mute.top(ann.pair(bob)) == last)
        await ann.let_time_pass(carol)
        assert ann.told(bob)[-1] == first
        assert set(await ann.delivered(bob)) == through(first)

        if are_lost:
            proxy.cut()
        proxy.heal()
        await ann.hears(bob, last)
        await ann.let_time_pass(carol)
        await ann.check_receipts(bob, last)
        assert set(await ann.delivered(bob)) == through(last)
        logs = [device.log for device in (*ann.devices, mute, other)]
        check(logs, await stored(server, ann, bob, carol), complete=logs)


# -- servers that are killed -------------------------------------------------------------------


class Told:
    """What Ann was told, and what a server that was started again says of it."""

    def __init__(self, ann: Device, bob: Device) -> None:
        self.ann = ann
        self.bob = bob
        self._delivered: dict[int, str] = {}
        self._mark = 0

    @property
    def receipts(self) -> list[Receipt]:
        return list(self.ann.log.of(Receipt))

    def top(self, conversation: str) -> int:
        of_it = (one.seq for one in self.receipts if one.conversation == conversation)
        return max(of_it, default=0)

    async def check(self) -> None:
        """Nothing that Ann was told is gone, and nothing that was stored has changed."""
        bob, pair = self.bob.user, pair_conversation(self.ann.user.email, self.bob.user.email)
        items = await pages(self.ann.user, f"/v1/users/{bob.email}/messages")
        delivered = {one["seq"]: one["delivered_at"] for one in items if "delivered_at" in one}
        lost = through(self.top(pair)) - set(delivered)
        assert not lost, f"told, not stored: {sorted(lost)}"
        assert self._delivered.items() <= delivered.items()
        answer = await self.ann.user.call("GET", "/v1/groups/club/members")
        (mark,) = [
            one["delivered_seq"] for one in answer.body["items"] if one["email"] == bob.email
        ]
        assert mark >= self.top("g:club"), f"told, not stored: {self.top('g:club')}, but {mark}"
        assert mark >= self._mark
        self._delivered, self._mark = delivered, mark

    async def check_all(self) -> None:
        """Everything was delivered by now, and says so."""
        pair = pair_conversation(self.ann.user.email, self.bob.user.email)
        await until(lambda: self.top(pair) == self.ann.top(pair))
        await until(lambda: self.top("g:club") == self.ann.top("g:club"))
        await self.check()
        assert set(self._delivered) == through(self.ann.top(pair))


End = Callable[[Told], Coroutine[Any, Any, None]]
"""Ends the server, while it says what Ann is told."""


async def _end_again_and_again(server: Server, ends: Iterable[End]) -> str:
    """One to one and to a group, with a server that each of these ends; the counts."""
    async with AsyncExitStack() as exits:
        chat = Chat(await asyncio.to_thread(server.start))
        exits.callback(chat.close)
        ann, bob = [Device(await chat.user(f"{name}@example.org")) for name in ("ann", "bob")]
        await ann.user.create("club")
        await bob.user.join("club")
        devices = [ann, bob]
        for device in devices:
            await exits.enter_async_context(device)
        told = Told(ann, bob)
        for end in ends:
            await _talk_until(end, told)
            for device in devices:
                await device.disconnect()
            await asyncio.to_thread(server.restart)
            await told.check()
            for device in devices:
                device.connect()
            await until(lambda: all(device.ready.is_set() for device in devices))
        await ann.all_acked()
        await told.check_all()
        assert server.terminate() == 0
        logs = [device.log for device in devices]
        return str(check(logs, in_store(server.storage, server.data_dir), complete=logs))


async def _talk_until(end: End, told: Told) -> None:
    """Ann talks until the server has ended, and what it wrote last was read."""
    talk = [
        asyncio.create_task(told.ann.keep_sending(pause=0.004, to=told.bob.user.email)),
        asyncio.create_task(told.ann.keep_sending(pause=0.004, group="club")),
    ]
    heard = len(told.receipts)
    await until(lambda: len(told.receipts) > heard)
    await end(told)
    for task in talk:
        task.cancel()
    await until(lambda: not any(one.ready.is_set() for one in (told.ann, told.bob)))


async def _kill_behind_a_receipt(server: Server, seconds: float, told: Told) -> None:
    """At once behind the next one that comes after so long."""
    await asyncio.sleep(seconds)
    heard = len(told.receipts)
    while len(told.receipts) == heard:
        await asyncio.sleep(0)
    server.kill()


async def _power_cut_at_sync(server: Server, number: int, _: Told) -> None:
    with power_cut(server, fault=f"fdatasync:signal=KILL:when={number}"):
        await until(lambda: server.process.poll() is not None)


async def test_what_was_told_outlives_kills(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with senders who are told before the mark is stored."""
    kills = scale(2, 60)
    server = make_server(storage=durable_url, environment=OFTEN, unlimited=True)
    ends = (partial(_kill_behind_a_receipt, server, chance.uniform(0, 0.2)) for _ in range(kills))
    report(f"{kills} kills: {await _end_again_and_again(server, ends)}")


@pytest.mark.strace
async def test_what_was_told_outlives_power_cuts(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report
) -> None:
    """Seen to fail with senders who are told before the mark is stored."""
    cuts = scale(2, 60)
    server = make_server(environment=OFTEN, unlimited=True)
    ends = (partial(_power_cut_at_sync, server, chance.randint(1, 8)) for _ in range(cuts))
    report(f"{cuts} power cuts: {await _end_again_and_again(server, ends)}")
