"""MongoDB's primary steps down under several servers: all go on with the next one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.counts import Report, Scale
from tests.e2e.cluster.conftest import MakeTeam
from tests.e2e.cluster.talk import start_talk
from tests.e2e.faults.device import until
from tests.mongod import ReplicaSet
from tests.nats import NatsServer

pytestmark = [pytest.mark.mongod, pytest.mark.timeout(240)]


async def test_a_primary_that_steps_down(
    io_loop: Any,
    make_team: MakeTeam,
    nats: NatsServer,
    tmp_path: Path,
    scale: Scale,
    report: Report,
) -> None:
    """Nobody has to connect again, and nothing is left out."""
    members = ReplicaSet(tmp_path / "mongo", 3)
    try:
        await asyncio.to_thread(members.start)
        team = make_team(nats, members.url("chat"), None, None, None)
        await asyncio.to_thread(team.start)
        team.open()
        async with AsyncExitStack() as exits:
            talk = await start_talk(team, exits, "primary")
            talk.start(pause=0.02)
            for _ in range(scale(1, 10)):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(members.step_down)
                await asyncio.to_thread(members.primary)
                acked = talk.acked
                await until(lambda acked=acked: talk.acked > acked + 50)  # type: ignore[misc]
            await talk.end()
            talk.check_undisturbed()
            report(f"{scale(1, 10)} primaries stepped down: {talk.check()}")
        for seat in team.seats:
            await asyncio.to_thread(seat.server.terminate)
    finally:
        members.close()
