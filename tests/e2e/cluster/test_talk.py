"""Messages between servers: each comes once, in order, to every device, whatever NATS does."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import count as count_up
from typing import Any

import pytest

from tests.counts import Report, Scale
from tests.e2e.cluster.talk import start_talk
from tests.e2e.cluster.team import Team, eventually
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Received

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]


async def test_one_order_on_all_servers(
    io_loop: Any, team: Team, scale: Scale, report: Report
) -> None:
    """While others come and go."""
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, "order")
        guest = await team.user("order-guest", 2)
        away = Device(guest, resume=True)
        talk.others.append(await exits.enter_async_context(away))
        talking = asyncio.create_task(talk.say(scale(60, 1000)))
        while not talking.done():
            await team.there(guest, 1).join("order")
            await asyncio.sleep(0.05)
            await team.there(guest, 0).call("POST", "/v1/groups/order/leave")
        await talking
        await guest.join("order")
        # What is told now comes to who has just joined, too: on one server it would.
        await talk.say(5)
        await talk.end()
        await until(lambda: away.top("g:order") == talk.last("g:order"))
        talk.check_undisturbed()
        report(str(talk.check()))


@pytest.mark.parametrize("share", [3, 1])
async def test_what_is_lost_on_the_way_is_found_in_the_store(
    io_loop: Any, team: Team, scale: Scale, report: Report, share: int
) -> None:
    """A third of what NATS delivers is lost, or all of it, and no end of it knows.

    Seen to fail with packets that nobody misses.
    """
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, f"loss-{share}")
        count = count_up()
        for seat in team.seats:
            seat.line.loses = lambda subject: next(count) % share == 0 and _tells(subject)
        await talk.say(scale(30, 180))
        for seat in team.seats:
            seat.line.mend()
        await talk.end()
        talk.check_undisturbed()
        lost = sum(seat.line.lost for seat in team.seats)
        report(f"{lost} packets lost: {talk.check()}")


def _tells(subject: str) -> bool:
    """Whether it is of conversations, rather than of the servers themselves."""
    return not subject.endswith(".all")


@pytest.mark.full("3")
@pytest.mark.parametrize("cut", [1, 3])
async def test_nats_out_for_long(
    io_loop: Any, team: Team, scale: Scale, report: Report, cut: int
) -> None:
    """For one of the servers, or for all: each says so, chat goes on, and what comes from other
    servers comes by way of the store.

    Seen to fail with servers that don't look into the store.
    """
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, f"out-{cut}")
        for seat in team.seats[:cut]:
            seat.line.cut()
        for at in range(cut):
            await eventually(lambda at=at: out_is(team, at, ["nats"]))
        began = time.monotonic()
        # At the first server only: whatever another one stores would tell it what it has missed.
        ann, bob = talk.speakers[:2]
        # Twice: servers that fall silent are looked after once in any case.
        for _ in range(2):
            await ann.keep_sending(10, group=talk.group)
            await ann.keep_sending(10, to=bob.user.email)
            await until(talk.has_come)
        seconds = time.monotonic() - began
        talk.start(pause=0.02)
        await asyncio.sleep(0.3)
        await asyncio.sleep(scale(0, 20))
        for seat in team.seats[:cut]:
            seat.line.mend()
        for at in range(cut):
            await eventually(lambda at=at: out_is(team, at, []))
        await talk.end()
        talk.check_undisturbed()
        report(f"came by the store in {seconds:.1f} s: {talk.check()}")


async def out_is(team: Team, at: int, names: list[str]) -> bool:
    return await team.out(at) == names


async def test_nats_frozen_and_killed(
    io_loop: Any, team: Team, scale: Scale, report: Report
) -> None:
    """Seen to fail with a server that goes to NATS once only."""
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, "frozen")
        talking = asyncio.create_task(talk.say(scale(60, 200)))
        await asyncio.sleep(0.1)
        team.nats.freeze()
        await asyncio.sleep(scale(2, 10))
        team.nats.thaw()
        await asyncio.sleep(0.2)
        team.nats.kill()
        await asyncio.sleep(scale(0.5, 5))
        await asyncio.to_thread(team.nats.start)
        began = time.monotonic()
        await talking
        for at in range(3):
            await eventually(lambda at=at: out_is(team, at, []))
        await talk.end()
        last = max(one.at for device in talk.devices for one in device.log.of(Received))
        talk.check_undisturbed()
        report(f"all had come {max(0, last - began):.1f} s after NATS was back: {talk.check()}")
