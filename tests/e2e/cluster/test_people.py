"""Who is in a group, signed in, and there at all: on every server, though NATS loses it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.chat import PASSWORD, Socket, User
from tests.e2e.cluster.line import everything
from tests.e2e.cluster.team import Seat, Team, eventually
from tests.e2e.faults.device import until

pytestmark = [pytest.mark.nats, pytest.mark.timeout(180)]

SECONDS: Final = 60


class Fault:
    """What NATS does while something is done on one server."""

    def __init__(self, team: Team, kind: str) -> None:
        self._team = team
        self._kind = kind

    def begin(self) -> None:
        """From now on no server hears another: none knows of it, or all do."""
        for seat in self._team.seats:
            if self._kind == "lost":
                seat.line.loses = everything
            else:
                seat.line.cut()

    async def go_on(self) -> None:
        """What was lost is found once something else comes through, what is out by looking."""
        if self._kind == "lost":
            await asyncio.sleep(0.2)
            for seat in self._team.seats:
                seat.line.mend()


@pytest.fixture(params=["lost", "out"])
def fault(request: pytest.FixtureRequest, team: Team) -> Fault:
    return Fault(team, request.param)


async def administer(seat: Seat, *command: str) -> None:
    """Run one of chatd's commands, which goes to the server of this seat."""
    data = str(seat.server.data_dir)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatd.cli", *command, "--yes", "--data-dir", data),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said


async def closed(socket: Socket) -> int | None:
    await until(lambda: socket.ws.close_code is not None)
    return socket.ws.close_code


@pytest.mark.full("out")
async def test_joins_and_leaves(io_loop: Any, team: Team, fault: Fault, request: Any) -> None:
    """Seen to fail with memberships that nobody compares."""
    group = f"club-{request.node.callspec.id}"
    ann, bob = await team.user(f"{group}-ann", 0), await team.user(f"{group}-bob", 1)
    await ann.create(group)
    async with ann.socket(), bob.socket() as b:
        fault.begin()
        await team.there(bob, 2).join(group)
        await ann.say("welcome", group=group)
        await fault.go_on()
        await until(lambda: [one["text"] for one in b.of("message")] == ["welcome"])
        fault.begin()
        path = f"/v1/groups/{group}/leave"
        assert (await team.there(bob, 2).call("POST", path)).status in (200, 204)
        await fault.go_on()
        await until(lambda: [one["user"] for one in b.of("left")] == [bob.email])
        await ann.say("he is gone", group=group)
        await ann.say("and has this", user=bob.email)
        await until(lambda: len(b.of("message")) == 2)
        assert b.of("message")[-1]["text"] == "and has this"


@pytest.mark.full("out")
async def test_a_group_that_is_deleted(
    io_loop: Any, team: Team, fault: Fault, request: Any
) -> None:
    """Seen to fail with memberships that nobody compares."""
    group = f"gone-{request.node.callspec.id}"
    bob = await team.user(f"{group}-bob", 1)
    await bob.create(group)
    async with bob.socket() as b, bob.socket(f"/group/{group}/connect") as own:
        fault.begin()
        await administer(team.seats[0], "group", "delete", group)
        await fault.go_on()
        assert await closed(own) == 4403
        await until(lambda: [one["user"] for one in b.of("left")] == [bob.email])


async def sign_out(team: Team, user: User) -> None:
    assert (await team.there(user, 0).call("POST", "/v1/auth/sign-out")).status == 204


async def change_password(team: Team, user: User) -> None:
    body = {"current": PASSWORD, "new": "staple battery correct"}
    assert (await team.there(user, 0).call("POST", "/v1/auth/password", body)).status == 200


async def erase(team: Team, user: User) -> None:
    await administer(team.seats[0], "erase", user.email)


@pytest.mark.full("out")
@pytest.mark.parametrize("end", [sign_out, change_password, erase])
async def test_tokens_that_are_good_no_more(
    io_loop: Any,
    team: Team,
    fault: Fault,
    end: Callable[[Team, User], Any],
    request: Any,
) -> None:
    """End sockets on every server, and open none.

    Seen to fail with sessions that nobody compares.
    """
    name = request.node.callspec.id.replace("_", "-")
    ann, bob = await team.user(f"{name}-ann", 2), await team.user(f"{name}-bob", 1)
    async with ann.socket() as a, bob.socket() as b:
        await a.say("hello", to=bob.email)
        fault.begin()
        await end(team, bob)
        await fault.go_on()
        assert await closed(b) == 4401

        async def refused() -> bool:
            return (await bob.call("GET", "/v1/auth/me")).status == 401

        await eventually(refused)

        async def unknown() -> bool:
            return (await a.say("are you there?", to=bob.email)).get("code") == "unknown_user"

        if end is erase:
            # The third server hears of it, or looks, at a time of its own.
            await eventually(unknown)
