"""Many devices beside steady traffic, of one group that says little: what they cost is themselves.

A message to a thousand devices is a thousand messages: the talk that loads the server goes on
among few.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from typing import NamedTuple

from tests.chat import User
from tests.e2e.faults.checker import Counts, check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.stored import in_store
from tests.e2e.faults.traffic import Traffic
from tests.e2e.server import Server

DEVICES = 10
"""Of a user who has several; these keep cursors."""
EVERYBODY = {
    "CHATD_LIMITS__CONNECTIONS_PER_ADDRESS": "0",
    "CHATD_LIMITS__CONNECTIONS_PER_USER": "0",
}
"""The settings with which as many as come may come from this machine."""
_DELIVERIES = 1000
"""A second, to all devices together."""
_FILES_EACH = 4
_FILES = 1000


class Crowd(NamedTuple):
    """The many, their group's one speaker, and what goes on beside them."""

    traffic: Traffic
    speaker: Device
    devices: list[Device]
    speaking: asyncio.Task[None]

    @property
    def server(self) -> Server:
        return self.traffic.server

    @property
    def everybody(self) -> list[Device]:
        return [*self.traffic.devices, self.speaker, *self.devices]

    async def back(self) -> None:
        """Return once everybody is on line."""
        await until(lambda: all(device.ready.is_set() for device in self.everybody))

    async def end(self) -> None:
        """Return once all that was sent is acked, and received."""
        await self.traffic.end()
        self.speaking.cancel()
        await self.speaker.all_acked()
        last = self.speaker.top("g:crowd")
        await until(lambda: all(one.top("g:crowd") == last for one in self.devices))

    def check(self) -> Counts:
        """End the server; what is stored then, against what everybody saw."""
        assert self.server.terminate() == 0
        return check(
            [device.log for device in self.everybody],
            in_store(self.server.storage, self.server.data_dir),
            complete=[one.log for one in (*self.traffic.receivers, *self.devices)],
        )


async def start_crowd(
    traffic: Traffic, exits: AsyncExitStack, count: int, url: str | None = None
) -> Crowd:
    """Let ``count`` devices come, of which a tenth leaves to the server what it missed.

    ``url``: where they connect, the server itself where it is None.
    """
    chat = traffic.senders[0].user.chat
    speaker = Device(await chat.user("speaker@example.org"))
    await speaker.user.create("crowd")
    # The mark by which the server knows what was missed is the user's, not the device's.
    alone = [await _member(speaker.user, f"one{number}") for number in range(count // DEVICES)]
    devices = [Device(user, url=url) for user in alone]
    while len(devices) < count:
        user = await _member(speaker.user, f"many{len(devices)}")
        devices += [Device(user, f"{user.email} {n}", url=url, resume=True) for n in range(DEVICES)]
    for device in (speaker, *devices):
        device.connect()
        exits.push_async_callback(device.disconnect)
    await until(lambda: all(device.ready.is_set() for device in (speaker, *devices)))
    speaking = speaker.keep_sending(pause=count / _DELIVERIES, group="crowd")
    crowd = Crowd(traffic, speaker, devices, asyncio.create_task(speaking))
    await until(lambda: all(device.top("g:crowd") for device in devices))
    return crowd


async def _member(speaker: User, name: str) -> User:
    user = await speaker.chat.user(f"{name}@example.org")
    await user.join("crowd")
    return user


def allow_files(count: int) -> None:
    """Let this process, and the server it will start, open what ``count`` devices need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_EACH * count + _FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
