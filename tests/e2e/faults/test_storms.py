"""Many at once: signing in (G11), and coming back after their connections broke."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.chat import Chat
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.crowd import EVERYBODY, Crowd, allow_files, start_crowd
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.live import Live
from tests.e2e.faults.log import Closed
from tests.e2e.faults.proxy import Proxy
from tests.e2e.faults.sign_ins import sign_in
from tests.e2e.faults.traffic import start_traffic

pytestmark = pytest.mark.timeout(240)

PER_MINUTE: Final = 300
"""The default of limits.sign_in_per_minute."""
IN_LINE: Final = 101
"""How many sign-ins wait or are worked on; more are sent away."""
HASH_BYTES: Final = 19_456 * 1024
"""What hashing a password takes while it lasts."""
MISSED: Final = 20
"""Messages that everybody has to be sent again."""
MEANWHILE: Final = 40
"""Devices that may come back in the time that most messages take; tried: 4 to 11, and where all
are let in together, 70 to 170 of a thousand."""
HTTP_ERRORS: Final = range(400, 600)


# -- signing in --------------------------------------------------------------------------------


async def test_sign_ins_at_once_do_not_stall_the_talk(
    io_loop: Any, make_server: MakeServer, tmp_path: Path, scale: Scale, report: Report
) -> None:
    """Most messages take less time than one password does: that is not in their way.

    Seen to fail with passwords that are hashed on the event loop.
    """
    count = scale(32, 100)
    server = make_server()
    chat = Chat(server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    known = [f"known{number}@example.org" for number in range(count // 8)]
    for email in known:
        await chat.user(email)
    new = [f"new{number}@example.org" for number in range(count - 2 * len(known))]
    async with Live(ann, bob, tmp_path) as live:
        started = time.monotonic()
        answers = await asyncio.gather(
            *(sign_in(chat, email) for email in (*known, *new)),
            *(sign_in(chat, email, "another password") for email in known),
        )
        seconds = time.monotonic() - started
        delays = await live.since(started)
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: len(known), 201: len(new), 401: len(known)}
    each = seconds / count
    report(f"{count} sign-ins at once, {1000 * each:.1f} ms each; beside them {delays}")
    assert delays.part(0.5) < each
    chat.close()


async def test_more_sign_ins_than_can_wait_are_told_when_to_try_again(
    io_loop: Any, make_server: MakeServer, full: bool, report: Report
) -> None:
    """Seen to fail with as many hashed at once as come, with as many waiting as come, and with
    no limit to those of one address."""
    environment = {"CHATD_LIMITS__SIGN_IN_PER_MINUTE": str(PER_MINUTE)}
    server = make_server(environment=environment)
    chat = Chat(server.start())
    most = before = server.resident_bytes()
    addresses = [f"new{number}@example.org" for number in range(PER_MINUTE + 50)]
    signing = [asyncio.create_task(sign_in(chat, address)) for address in addresses]
    # All but those in line are answered at once; in the full run the others are waited for, too.
    enough = len(signing) if full else len(signing) - IN_LINE + 5
    while sum(one.done() for one in signing) < enough:
        most = max(most, server.resident_bytes())
        await asyncio.sleep(0.01)
    answers = [one.result() for one in signing if one.done()]
    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() == {201, 429, 503}, statuses
    assert all(int(one.headers["Retry-After"]) >= 1 for one in answers if one.status != 201)
    assert most - before < 5 * HASH_BYTES
    report(
        f"{len(signing)} sign-ins at once: {dict(statuses)};"
        f" {(most - before) / HASH_BYTES:.1f} times the memory of one hash"
    )
    server.kill()
    for one in signing:
        one.cancel()
    await asyncio.wait(signing)
    chat.close()


# -- coming back -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "killed"])
async def test_everybody_comes_back_at_once(
    io_loop: Any, make_server: MakeServer, tmp_path: Path, scale: Scale, report: Report, how: str
) -> None:
    """Nobody misses anything, and those who are there need not wait until the storm is over.

    Seen to fail with a replay that begins one message later, with connections that are never
    forgotten, and in the full run with newcomers who are all let in at the same time.
    """
    devices, storms = scale((100, 1), (1000, 3))
    allow_files(devices)
    server = make_server(environment=EVERYBODY, unlimited=True)
    async with AsyncExitStack() as exits:
        traffic = await start_traffic(server, exits)
        proxy = await exits.enter_async_context(Proxy(urlsplit(server.url).port or 0))
        crowd = await start_crowd(traffic, exits, devices, proxy.url)
        chat = crowd.speaker.user.chat
        ann, eve = await chat.user("ann@example.org"), await chat.user("eve@example.org")
        memory = [server.resident_bytes()]
        told: list[str] = []
        for _ in range(storms):
            await break_all(crowd, proxy, how)
            async with Live(ann, eve, tmp_path) as live:
                told.append(await storm(crowd, proxy, live))
            memory.append(server.resident_bytes())
        await crowd.end()
        assert_refused_with_a_time(crowd.devices)
        await all_others_gone(crowd)
        assert max(memory) < 1.25 * memory[0], memory
        megabytes = ", ".join(f"{size / 1e6:.0f}" for size in memory)
        report(
            f"{devices} devices {how}, all back in {'; in '.join(told)};"
            f" memory {megabytes} MB; {crowd.check()}"
        )


async def break_all(crowd: Crowd, proxy: Proxy, how: str) -> None:
    """Break the connections of the many, and let something be said before they are back."""
    was = {device: device.connection for device in crowd.devices}
    proxy.stall()
    proxy.cut()
    if how == "killed":
        crowd.server.kill()
        await asyncio.to_thread(crowd.server.restart)
    await until(lambda: all(device.connection > was[device] for device in crowd.devices))
    for number in range(MISSED):
        crowd.speaker.send(f"while nobody is there: {number}", group="crowd")
    await crowd.speaker.all_acked()


async def storm(crowd: Crowd, proxy: Proxy, live: Live) -> str:
    """Let all in at once; how long it took, and how those who talk meanwhile fared."""
    started = time.monotonic()
    proxy.heal()
    await crowd.back()
    seconds = time.monotonic() - started
    delays = await live.since(started)
    each = seconds / len(crowd.devices)
    assert delays.part(0.5) < MEANWHILE * each
    return f"{seconds:.1f} s, {delays}"


def assert_refused_with_a_time(devices: Iterable[Device]) -> None:
    """Who was sent away was told when to come again."""
    for device in devices:
        for end in device.log.of(Closed):
            if end.code is not None and end.code in HTTP_ERRORS:
                assert end.code in (429, 503), end
                assert int(end.retry_after or 0) >= 1, end


async def all_others_gone(crowd: Crowd) -> None:
    """Return once the server knows of no connection but those that are there."""
    async with asyncio.timeout(60):
        while await connections(crowd.speaker.user.chat) != len(crowd.everybody):
            await asyncio.sleep(0.05)


async def connections(chat: Chat) -> int:
    """How many the server says it has."""
    text = (await chat.call("GET", "/metrics")).body
    found = re.search(r"^chatd_connections (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))
