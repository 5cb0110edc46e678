"""The system's clock, set forward and back under a running server (G12)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chat import Answer, Chat, Json, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Receipt, Refused
from tests.e2e.faults.stored import in_store

pytestmark = [pytest.mark.faketime, pytest.mark.timeout(240)]

HOUR: Final = 3600
LONG_TOKEN: Final = 12 * HOUR
SHORT_TOKEN: Final = HOUR // 2
"""Seconds."""
LEEWAY: Final = 60
ANY_MOMENT: Final = 600
"""Seconds that are little beside an hour, whatever this machine has to do."""
DEVICES: Final = 5
"""Of each user."""
CLUB: Final = "g:club"


class SystemClock:
    """The clock that a server is given: right at first. Only the wall clock can be set; as on
    real systems, the monotonic one goes on."""

    def __init__(self, folder: Path) -> None:
        self.offset = 0
        self._file = folder / "clock"
        self.set(0)
        found = find_spec("libfaketime")
        assert found is not None
        assert found.origin is not None
        library = Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: int) -> None:
        """Set it so many seconds ahead of the true time."""
        self.offset = offset
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.replace(self._file)

    def now(self) -> float:
        """What it shows, in seconds since the epoch."""
        return time.time() + self.offset

    def shows(self, moment: str) -> bool:
        """Whether it has just shown this moment."""
        return abs(datetime.fromisoformat(moment).timestamp() - self.now()) < ANY_MOMENT


@pytest.fixture
def clock(tmp_path: Path) -> SystemClock:
    return SystemClock(tmp_path)


async def sign_in(chat: Chat, email: str, password: str) -> Answer:
    return await chat.call("POST", "/v1/auth/sign-in", {"email": email, "password": password})


async def latest(reader: User) -> Json:
    """The club's last message, by REST."""
    answer = await reader.call("GET", "/v1/groups/club/messages?limit=1")
    assert answer.status == 200, answer
    return dict(answer.body["items"][-1])


async def metric(chat: Chat, name: str) -> float:
    """A figure of the server's metrics."""
    text = str((await chat.call("GET", "/metrics")).body)
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


async def start_devices(chat: Chat, exits: AsyncExitStack, users: int) -> list[Device]:
    """Several of each user, all in the club; the first of each has said something to it."""
    devices = []
    for number in range(users):
        user = await chat.user(f"u{number}@example.org")
        await (user.join("club") if number else user.create("club"))
        devices += [Device(user, f"{user.email} {n}", resume=True) for n in range(DEVICES)]
    for device in devices:
        await exits.enter_async_context(device)
    for device in devices[::DEVICES]:
        device.send("hello", group="club")
    return devices


async def everybody_has_all(devices: Sequence[Device]) -> None:
    """Return once all that was said is with every device, and everybody knows of everybody."""
    await until(lambda: not any(one.unacked for one in devices))
    last = max(one.top(CLUB) for one in devices)
    users = {one.user.email for one in devices}

    def told(one: Device) -> set[str]:
        others = {receipt.by for receipt in one.log.of(Receipt) if receipt.seq == last}
        return others | {one.user.email}

    await until(lambda: all(one.top(CLUB) == last for one in devices))
    # The last message's receipts go to who sent it.
    await until(lambda: any(told(one) == users for one in devices))


@pytest.mark.full("43200")
@pytest.mark.parametrize("token_seconds", [LONG_TOKEN, SHORT_TOKEN])
async def test_steps_while_many_are_connected(
    io_loop: Any,
    make_server: MakeServer,
    clock: SystemClock,
    scale: Scale,
    report: Report,
    token_seconds: int,
) -> None:
    """Nobody is disconnected, and messages and receipts flow on in one order.

    Seen to fail with an event loop that goes by the wall clock.
    """
    users, rounds = scale(4, 20), scale(1, 10)
    environment = {
        **clock.environment,
        "CHATD_AUTH__TOKEN_SECONDS": str(token_seconds),
        "CHATD_WEBSOCKET__PING_SECONDS": "1",
    }
    server = make_server(environment=environment, unlimited=True)
    async with AsyncExitStack() as exits:
        chat = Chat(server.start())
        exits.callback(chat.close)
        devices = await start_devices(chat, exits, users)
        await everybody_has_all(devices)
        speakers = devices[::DEVICES]
        steps = [+HOUR, -HOUR, 0] * rounds
        for offset in steps:
            sending = [
                asyncio.create_task(one.keep_sending(pause=0.01, group="club")) for one in speakers
            ]
            clock.set(offset)
            # Long enough for each connection to be looked at, and for Pings to the idle.
            await asyncio.sleep(1)
            for task in sending:
                task.cancel()
            await everybody_has_all(devices)
            # Its token is of before the step: it may be worth nothing by this clock.
            back = await chat.user(speakers[0].user.email)
            assert clock.shows((await latest(back))["sent_at"])
        assert [one.connection for one in devices] == [1] * len(devices)
        assert await metric(chat, "chatd_uuid_fallbacks_total") == 0
        assert server.terminate() == 0
        rows = in_store(server.storage, server.data_dir)
        logs = [one.log for one in devices]
        report(f"{len(steps)} steps of an hour or two: {check(logs, rows, complete=logs)}")


async def test_a_token_ends_after_its_time_all_the_same(
    io_loop: Any, make_server: MakeServer, clock: SystemClock
) -> None:
    """On a live socket, which counts the time itself.

    Seen to fail with an event loop that goes by the wall clock.
    """
    environment = {**clock.environment, "CHATD_AUTH__TOKEN_SECONDS": "6"}
    server = make_server(environment=environment)
    chat = Chat(server.start())
    user = await chat.user("ann@example.org")
    async with user.socket() as socket:
        clock.set(-HOUR)
        await until(lambda: socket.ws.close_code is not None)
        assert socket.ws.close_code == 4401
    chat.close()


async def test_limits_outlast_steps(
    io_loop: Any, make_server: MakeServer, clock: SystemClock
) -> None:
    """They neither begin anew nor keep anybody waiting for an hour.

    Seen to fail with limits that go by the wall clock.
    """
    environment = {
        **clock.environment,
        "CHATD_LIMITS__SIGN_IN_FAILURES_PER_MINUTE": "2",
        "CHATD_LIMITS__SEND_PER_SECOND": "5",
        "CHATD_LIMITS__SEND_BURST": "5",
    }
    server = make_server(environment=environment)
    chat = Chat(server.start())
    ann = await chat.user("ann@example.org")
    await ann.create("club")
    async with Device(ann) as device:
        for _ in range(10):
            device.send("again and again", group="club")
        await until(lambda: device.refused)
        for _ in range(3):
            await sign_in(chat, "ann@example.org", "one of many guesses")
        for offset in (+HOUR, -HOUR, 0):
            clock.set(offset)
            guesses = [
                await sign_in(chat, "ann@example.org", "one of many guesses") for _ in range(2)
            ]
            # In half a minute one more is allowed.
            guess = guesses[-1] if guesses[-1].status == 429 else guesses[0]
            assert guess.status == 429
            assert int(guess.headers["Retry-After"]) <= 60
            assert (await sign_in(chat, "eve@example.org", "a long password")).status in (200, 201)
            await device.all_acked()
            device.send("and again", group="club")
        await device.all_acked()
        assert {one.code for one in device.log.of(Refused)} == {"rate_limited"}
    chat.close()
    assert server.terminate() == 0
    check([device.log], in_store(server.storage, server.data_dir), complete=[device.log])


@pytest.mark.parametrize(
    ("offset", "status"),
    [(-LEEWAY + 10, 200), (-2 * LEEWAY, 401), (+HOUR - LEEWAY, 200), (HOUR, 401)],
)
async def test_a_token_of_a_clock_that_is_a_little_ahead_is_good(
    io_loop: Any, make_server: MakeServer, clock: SystemClock, offset: int, status: int
) -> None:
    """But no longer than it says.

    Seen to fail with no leeway, and with one of ten minutes.
    """
    environment = {**clock.environment, "CHATD_AUTH__TOKEN_SECONDS": str(HOUR)}
    server = make_server(environment=environment)
    chat = Chat(server.start())
    user = await chat.user("ann@example.org")
    clock.set(offset)
    assert (await user.call("GET", "/v1/auth/me")).status == status
    clock.set(0)
    assert (await user.call("GET", "/v1/auth/me")).status == 200
    chat.close()


@pytest.mark.full("mongo")
async def test_who_signed_out_stays_out(
    io_loop: Any, make_server: MakeServer, durable_url: str, clock: SystemClock
) -> None:
    """Also where the server was started with a clock by which the token had ended long since.

    Seen to fail with a server that forgets a token once the clock is past it.
    """
    environment = {**clock.environment, "CHATD_AUTH__TOKEN_SECONDS": str(SHORT_TOKEN)}
    server = make_server(storage=durable_url, environment=environment)
    chat = Chat(server.start())
    user, other = [await chat.user("ann@example.org") for _ in range(2)]
    assert (await user.call("POST", "/v1/auth/sign-out")).status == 204
    clock.set(+HOUR)
    await asyncio.to_thread(server.terminate)
    await asyncio.to_thread(server.restart)
    another = await chat.user("eve@example.org")
    assert (await another.call("POST", "/v1/auth/sign-out")).status == 204
    clock.set(0)
    assert (await user.call("GET", "/v1/auth/me")).status == 401
    assert (await other.call("GET", "/v1/auth/me")).status == 200
    await asyncio.to_thread(server.terminate)
    await asyncio.to_thread(server.restart)
    assert (await user.call("GET", "/v1/auth/me")).status == 401
    chat.close()
