"""Steady traffic for a fault to fall into: senders, a group, and devices that receive."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from tests.chat import Chat
from tests.e2e.faults.checker import Counts, check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked
from tests.e2e.faults.stored import in_store
from tests.e2e.server import Server

SENDERS = 4
PAUSE = 0.002
"""Seconds between two messages of a sender."""


async def answers(chat: Chat, status: int) -> None:
    """Return once `/readyz` answers so; a good answer is good for a second."""
    async with asyncio.timeout(60):
        while (await chat.call("GET", "/readyz")).status != status:
            await asyncio.sleep(0.05)


class Traffic(NamedTuple):
    """Senders to the group ``club``, whose messages two users receive: what bob missed is
    left to the server, carol names cursors."""

    server: Server
    senders: list[Device]
    receivers: list[Device]
    tasks: list[asyncio.Task[None]]

    @property
    def devices(self) -> list[Device]:
        return [*self.senders, *self.receivers]

    @property
    def acked(self) -> int:
        return sum(1 for sender in self.senders for _ in sender.log.of(Acked))

    async def go_on(self) -> None:
        """Start the server again where it was, and return once everybody is back."""
        await asyncio.to_thread(self.server.restart)
        await until(lambda: all(device.ready.is_set() for device in self.devices))

    async def end(self) -> None:
        """Return once all that was sent is acked, and received."""
        for task in self.tasks:
            task.cancel()
        for sender in self.senders:
            await sender.all_acked()
        last = max(ack.seq for sender in self.senders for ack in sender.log.of(Acked))
        with suppress(TimeoutError):  # `check` says what is missing then
            await until(lambda: all(one.top("g:club") == last for one in self.receivers))

    def check(self) -> Counts:
        """End the server; what is stored then, against what everybody saw."""
        assert self.server.terminate() == 0
        return check(
            [device.log for device in self.devices],
            in_store(self.server.storage, self.server.data_dir),
            complete=[receiver.log for receiver in self.receivers],
        )


async def start_traffic(server: Server, devices: AsyncExitStack) -> Traffic:
    """Start the server, and everybody."""
    chat = Chat(server.start())
    devices.callback(chat.close)
    await answers(chat, 200)
    bob, carol = [await chat.user(f"{name}@example.org") for name in ("bob", "carol")]
    await bob.create("club")
    receivers = [Device(bob), Device(carol, resume=True)]
    senders = [Device(await chat.user(f"s{n}@example.org")) for n in range(SENDERS)]
    for user in (carol, *(sender.user for sender in senders)):
        await user.join("club")
    for device in (*senders, *receivers):
        await devices.enter_async_context(device)
    sending = [asyncio.create_task(one.keep_sending(pause=PAUSE, group="club")) for one in senders]
    return Traffic(server, senders, receivers, sending)
