"""A server whose clock is an hour ahead: messages and receipts flow, and the others say so."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chat import User
from tests.counts import Report, Scale
from tests.e2e.cluster.conftest import MakeTeam
from tests.e2e.cluster.talk import start_talk
from tests.e2e.cluster.team import Team
from tests.e2e.faults.device import until
from tests.e2e.faults.test_clock import SystemClock
from tests.nats import NatsServer

pytestmark = [pytest.mark.faketime, pytest.mark.timeout(180)]

HOUR: Final = 3600


async def sign_in_there(team: Team, user: User, at: int) -> User:
    """A token of another server's may not be good yet."""
    return await team.chats[at].user(user.email)


async def test_a_clock_an_hour_ahead(
    io_loop: Any,
    make_team: MakeTeam,
    nats: NatsServer,
    mongo_url: str,
    tmp_path: Path,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with a clock that nobody looks at."""
    clock = SystemClock(tmp_path)
    clock.set(HOUR)
    team = make_team(nats, mongo_url, None, clock.environment, None)
    team.start()
    team.open()
    async with AsyncExitStack() as exits:
        talk = await start_talk(team, exits, "clock", there=sign_in_there)
        await talk.say(scale(20, 200))
        await talk.end()
        talk.check_undisturbed()
        report(str(talk.check()))
        for seat in (team.seats[0], team.seats[2]):
            await until(lambda seat=seat: seat.said("cluster.clocks_differ"))  # type: ignore[misc]
            (said,) = seat.said("cluster.clocks_differ")
            assert abs(int(said["seconds"]) - HOUR) < 60
        ahead = await team.user("clock-ahead", 1)
        assert (await team.there(ahead, 0).call("GET", "/v1/auth/me")).status == 401
