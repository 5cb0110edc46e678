"""Processes killed: what was acked is stored, what was delivered is stored (G1, G2)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.device import until
from tests.e2e.faults.power import power_cut
from tests.e2e.faults.traffic import start_traffic

pytestmark = pytest.mark.timeout(240)


async def test_kills_at_random_instants(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with an ack that goes out before the commit."""
    kills = scale(3, 200)
    server = make_server(storage=durable_url, unlimited=True)
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0, 0.4))
            server.kill()
            await traffic.go_on()
        await traffic.end()
        report(f"{kills} kills: {traffic.check()}")


@pytest.mark.strace
async def test_power_cuts_at_random_instants(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report
) -> None:
    """Seen to fail with SQLite's synchronous=NORMAL, which syncs to disk only now and then."""
    cuts = scale(3, 60)
    server = make_server(unlimited=True)
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for _ in range(cuts):
            with power_cut(server):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                server.kill()
            await traffic.go_on()
        await traffic.end()
        report(f"{cuts} power cuts: {traffic.check()}")


@pytest.mark.strace
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
async def test_power_cuts_at_every_kth_call_that_writes(
    io_loop: Any, make_server: MakeServer, scale: Scale, report: Report, call: str
) -> None:
    """The process ends on entering the call.

    Seen to fail with an ack that goes out before the commit.
    """
    cuts = scale(3, 60)
    server = make_server(unlimited=True)
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for number in range(1, cuts + 1):
            with power_cut(server, fault=f"{call}:signal=KILL:when={number}"):
                await until(lambda: server.process.poll() is not None)
            await traffic.go_on()
        await traffic.end()
        report(f"{cuts} power cuts at {call}: {traffic.check()}")
