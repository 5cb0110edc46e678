"""A disk that is full or broken: refused, read from meanwhile, and over when it is over (G9)."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chat import PASSWORD, Chat
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Receipt
from tests.e2e.faults.outage import refusals, refused, spoken, taken, tracebacks_are_few
from tests.e2e.faults.power import power_cut
from tests.e2e.faults.stored import in_store
from tests.e2e.faults.syscalls import injected
from tests.e2e.faults.traffic import Traffic, answers, start_traffic

pytestmark = pytest.mark.timeout(120)

CHECKPOINT = 1000 * 4120
"""How many bytes of log SQLite copies into the file."""

DISK = "24m"
"""Room for the log's 4 MB, and for what the longest test stores."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    yield folder
    # Whoever still has it open keeps it, and nobody else.
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Inside, there is no room."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65_536))
        yield
    finally:
        ballast.unlink()


async def told(log: Path, word: str) -> None:
    """Return once a file has the word."""
    await until(lambda: word in log.read_text())


# -- no room ---------------------------------------------------------------------------------------


@pytest.mark.mount
async def test_a_full_disk_refuses_what_it_cannot_keep_and_is_over_when_there_is_room(
    io_loop: Any, disk: Path, make_server: MakeServer, chance: Random, scale: Scale, report: Report
) -> None:
    """Seen to fail with an ack that goes out where the commit failed."""
    rounds = scale(1, 20)
    server = make_server(storage=f"sqlite:{disk}/chatd.db", unlimited=True)
    seconds = []
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        chat = traffic.senders[0].user.chat
        for _ in range(rounds):
            await asyncio.sleep(chance.uniform(0, 0.3))
            with full(disk), tracebacks_are_few(server):
                await refused(traffic)
                await answers(chat, 503)
                await what_is_read_is_read_and_what_is_written_is_unavailable(traffic)
            seconds.append(await taken(traffic))
            await answers(chat, 200)
        assert [device.connection for device in traffic.devices] == [1] * len(traffic.devices)
        with full(disk):
            await refused(traffic)
            server.kill()
            await traffic.go_on()
            await refused(traffic)
        await traffic.end()
        report(f"{rounds} times full, {spoken(seconds)}: {traffic.check()}")
    assert refusals(traffic) == {"unavailable"}


async def what_is_read_is_read_and_what_is_written_is_unavailable(traffic: Traffic) -> None:
    ann, chat = traffic.senders[0].user, traffic.senders[0].user.chat
    for path in ("/v1/groups/club/messages", "/v1/me/conversations", "/v1/groups/club/members"):
        answer = await ann.call("GET", path)
        assert answer.status == 200, answer
        assert answer.body["items"]
    known = {"email": ann.email, "password": PASSWORD}
    assert (await chat.call("POST", "/v1/auth/sign-in", known)).status == 200
    for method, path, body in (
        ("POST", "/v1/groups/club/messages", {"text": "x" * 4000}),
        ("POST", "/v1/groups", {"name": "another"}),
        ("POST", "/v1/auth/sign-in", {**known, "email": "new@example.org"}),
    ):
        answer = await ann.call(method, path, body)
        assert answer.status == 503, answer
        assert answer.body["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.mount
async def test_what_clients_confirm_while_the_disk_is_full_is_stored_and_told_later(
    io_loop: Any, disk: Path, make_server: MakeServer
) -> None:
    """Seen to fail with claims forgotten where they could not be stored."""
    server = make_server(storage=f"sqlite:{disk}/chatd.db")
    chat = Chat(server.start())
    ann, bob = [await chat.user(f"{name}@example.org") for name in ("ann", "bob")]
    sender, receiver = Device(ann), Device(bob)
    async with sender:
        await sender.keep_sending(5, to=bob.email)
        with full(disk):
            async with receiver:
                await told(server.log, "receipts.advance_failed")
                read = await bob.call("POST", f"/v1/users/{ann.email}/receipts", {"read_seq": 3})
                assert (read.status, read.body["code"]) == (503, "unavailable")
            await asyncio.sleep(1)  # until the time of his going should have been stored
        await until(lambda: any(receipt.seq == 5 for receipt in sender.log.of(Receipt)))
        stored = (await ann.call("GET", f"/v1/users/{bob.email}/messages")).body["items"]
    assert ["delivered_at" in one for one in stored] == [True] * 5
    assert ["read_at" in one for one in stored] == [True] * 3 + [False] * 2
    assert server.terminate() == 0
    server.restart()
    assert (await ann.call("GET", f"/v1/users/{bob.email}")).body["last_seen_at"] is not None
    chat.close()
    logs = [sender.log, receiver.log]
    check(logs, in_store(server.storage, server.data_dir), complete=logs)


@pytest.mark.mount
@pytest.mark.parametrize("ended", [False, True], ids=["new", "ended"])
async def test_a_server_that_has_no_room_to_start_says_so_and_starts_when_there_is(
    io_loop: Any, disk: Path, make_server: MakeServer, ended: bool
) -> None:
    """Seen to fail with SQLite's errors on opening left as they are."""
    server = make_server(storage=f"sqlite:{disk}/chatd.db")
    if ended:
        server.start()
        assert server.terminate() == 0
    told_before = server.log.stat().st_size if ended else 0
    with full(disk):
        with pytest.raises(AssertionError):
            server.start()
        assert server.process.wait(20) == 1
    (told,) = server.log.read_text()[told_before:].splitlines()
    assert re.fullmatch(r"chatd: \S+/chatd\.db can't be opened: .+\.", told), told
    chat = Chat(server.start())
    await answers(chat, 200)
    chat.close()


# -- errors of the disk ----------------------------------------------------------------------------

WRITES = pytest.mark.parametrize("calls", ["fdatasync", "pwrite64"])


@pytest.mark.strace
@WRITES
async def test_a_disk_that_takes_nothing_is_told_of_and_over_when_it_takes_again(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report, calls: str
) -> None:
    """Seen to fail with an ack that goes out where the commit failed."""
    rounds = scale(1, 20)
    server = make_server(unlimited=True)
    seconds = []
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for _ in range(rounds):
            await asyncio.sleep(chance.uniform(0, 0.3))
            with injected(server, calls, "error=EIO"), tracebacks_are_few(server):
                await refused(traffic)
                await answers(traffic.senders[0].user.chat, 503)
            seconds.append(await taken(traffic))
        assert [device.connection for device in traffic.devices] == [1] * len(traffic.devices)
        await traffic.end()
        report(f"{rounds} times broken, {spoken(seconds)}: {traffic.check()}")
    assert refusals(traffic) == {"unavailable"}


@pytest.mark.strace
@WRITES
async def test_what_a_broken_disk_did_not_take_was_not_acked(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report, calls: str
) -> None:
    """The power is cut while it is broken.

    Seen to fail with SQLite's synchronous=NORMAL, which hardly notices what is not synced.
    """
    cuts = scale(1, 30)
    server = make_server(unlimited=True)
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for _ in range(cuts):
            with power_cut(server, fault=f"{calls}:error=EIO"):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                server.kill()
            await traffic.go_on()
        await traffic.end()
        report(f"{cuts} power cuts: {traffic.check()}")
    assert refusals(traffic) <= {"unavailable"}


@pytest.mark.strace
@WRITES
async def test_every_kth_call_that_fails_is_told_of_and_costs_nothing_else(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report, calls: str
) -> None:
    """A power cut follows each. Seen to fail with an ack that goes out where the commit failed."""
    numbers = scale(chance.sample(range(1, 20), 2), list(range(1, 61)))
    server = make_server(unlimited=True)
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        for number in numbers:
            with power_cut(server, fault=f"{calls}:error=EIO:when={number}"):
                await told(server.data_dir / "calls.txt", "INJECTED")
                await taken(traffic)
                server.kill()
            await traffic.go_on()
        await traffic.end()
        report(f"{len(numbers)} errors: {traffic.check()}")
    assert refusals(traffic) <= {"unavailable"}


@pytest.mark.strace
async def test_a_log_that_cannot_be_copied_into_the_file_is_kept_and_nobody_hears_of_it(
    io_loop: Any, make_server: MakeServer, report: Report
) -> None:
    """Seen to fail with a checkpoint that is a part of the commit."""
    server = make_server(unlimited=True)
    file, log = (server.data_dir / name for name in ("chatd.db", "chatd.db-wal"))
    async with AsyncExitStack() as devices:
        traffic = await start_traffic(server, devices)
        with injected(server, "pwrite64,fdatasync", "error=EIO", path=file):
            size = file.stat().st_size
            await until(lambda: log.stat().st_size > 2 * CHECKPOINT or refusals(traffic))
            assert not refusals(traffic)
            assert file.stat().st_size == size
        await until(lambda: file.stat().st_size > size)
        server.kill()
        await traffic.go_on()
        await traffic.end()
        report(str(traffic.check()))
    assert not refusals(traffic)
