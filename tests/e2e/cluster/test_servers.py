"""Servers that die, end and start again: their users go on elsewhere, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.counts import Report, Scale
from tests.e2e.cluster.talk import start_talk
from tests.e2e.cluster.team import Team, eventually
from tests.e2e.faults.device import Device, until

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]


async def is_online(team: Team, asking: Device, email: str) -> bool:
    found = await asking.user.call("GET", f"/v1/users/{email}")
    return bool(found.body["online"])


async def test_a_killed_server(io_loop: Any, team: Team, scale: Scale, report: Report) -> None:
    """Its devices go on at another; who does not come back goes off line for all.

    Seen to fail with servers that are never missed.
    """
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, "killed")
        lost = await team.user("killed-lost", 0)
        gone = await exits.enter_async_context(Device(lost))
        talk.others.append(gone)
        (watcher,) = [one for one in talk.speakers if one.user.chat is team.chats[1]]
        await eventually(lambda: is_online(team, watcher, lost.email))
        await talk.begin()
        await asyncio.sleep(scale(0.5, 5))
        team.servers[0].kill()
        killed = time.monotonic()
        await gone.disconnect()
        moved = [one for one in talk.devices if one.user.chat is team.chats[0]]
        for number, one in enumerate(moved):
            one.url = team.servers[1 + number % 2].url
        await until(lambda: all(one.ready.is_set() for one in moved))
        await asyncio.sleep(scale(0.3, 10))
        await talk.end(last_words=1)
        counts = talk.check()
        for at in (1, 2):
            asking = Device(team.there(watcher.user, at))
            await until_off_line(team, asking, lost.email)
        report(f"off line everywhere {time.monotonic() - killed:.1f} s after the kill: {counts}")


async def until_off_line(team: Team, asking: Device, email: str) -> None:
    async def off_line() -> bool:
        return not await is_online(team, asking, email)

    await eventually(off_line)


async def test_one_after_the_other_starts_again(
    io_loop: Any, team: Team, scale: Scale, report: Report
) -> None:
    """Seen to fail with receipts that are told as they come."""
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, "rolling")
        await talk.begin()
        for _ in range(scale(1, 5)):
            for server in team.servers:
                await asyncio.sleep(0.2)
                assert await asyncio.to_thread(server.terminate) == 0
                await asyncio.to_thread(server.restart)
                await until(lambda: all(one.ready.is_set() for one in talk.devices))
        await talk.end(last_words=1)
        report(f"{scale(1, 5)} times each: {talk.check()}")
