"""SIGTERM: who is there hears good-bye, who comes is sent away, nothing acked is lost (G10).

A device hears good-bye as ``bye`` and close code 1001. Who comes hears 503 until the server
listens no more.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from itertools import count, groupby
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError
from websockets.exceptions import InvalidMessage, InvalidStatus

from chatd.models import pair_conversation
from tests.chat import Answer, Chat, Socket, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.crowd import EVERYBODY, allow_files, start_crowd
from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked, Bye, Closed, Log, Sent
from tests.e2e.faults.sign_ins import sign_in
from tests.e2e.faults.stored import in_store
from tests.e2e.faults.traffic import start_traffic
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(240)

DRAIN_SECONDS: Final = 10
"""The default of server.drain_seconds."""
PATIENCE: Final = 60
"""Seconds that a busy machine may need beyond those."""
GOING_AWAY: Final = 1001
GOOD_BYE: Final = "good-bye"
REFUSED: Final = "refused"
"""By the system, without a byte of an answer: nothing listens there any more."""


# -- sockets -----------------------------------------------------------------------------------


@pytest.mark.full("mongo")
async def test_everybody_hears_good_bye_and_nothing_is_lost(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with no good-bye to sockets that have not said yet whose they are, and with
    sockets that are let in while the server drains."""
    devices, others = scale(50, 1000), scale(3, 40)
    allow_files(devices)
    server = make_server(storage=durable_url, environment=EVERYBODY, unlimited=True)
    async with AsyncExitStack() as exits:
        crowd = await start_crowd(await start_traffic(server, exits), exits, devices)
        user = crowd.speaker.user
        deaf = [await exits.enter_async_context(user.socket()) for _ in range(others)]
        for socket in deaf:
            socket.ws.transport.pause_reading()
        silent = [await exits.enter_async_context(nobody(user.chat)) for _ in range(others)]
        slow = await SlowHandshake.begin(user)
        knocking = [asyncio.create_task(handshake(user)) for _ in range(devices // 10)]
        await asyncio.sleep(chance.uniform(0, 0.1))
        started = time.monotonic()
        await sigterm(server)
        latecomers = asyncio.create_task(until_refused(lambda: handshake(user)))
        assert await slow.end() == "503"
        assert await exit_status(server) == 0
        seconds = time.monotonic() - started
        for socket in deaf:
            socket.ws.transport.resume_reading()
        heard = [await farewell(socket) for socket in (*deaf, *silent)]
        assert heard == [GOOD_BYE] * len(heard)
        knocked = Counter(await asyncio.gather(*knocking))
        assert knocked.keys() <= {GOOD_BYE, "503"}, knocked
        assert in_short(await latecomers) == ["503", REFUSED]
        assert_good_bye(crowd.everybody)
        await asyncio.to_thread(server.restart)
        await crowd.back()
        await crowd.end()
        report(
            f"{len(crowd.everybody)} devices, {len(heard)} deaf or silent sockets:"
            f" exit after {seconds:.1f} s of {DRAIN_SECONDS}; handshakes under way:"
            f" {dict(knocked)}; {crowd.check()}"
        )


def assert_good_bye(devices: Iterable[Device]) -> None:
    """Each device's connection ended as the protocol has it, and none came in afterwards."""
    for device in devices:
        byes, ends = list(device.log.of(Bye)), list(device.log.of(Closed))
        assert [(one.reconnect, one.after is not None) for one in byes] == [(True, True)], byes
        assert ends[0].code == GOING_AWAY, (device.log.device, ends)
        refusals = [one for one in ends[1:] if one.code not in (None, 1006)]
        assert all(one.code == 503 for one in refusals), refusals
        assert all(int(one.retry_after or 0) >= 1 for one in refusals), refusals


def nobody(chat: Chat) -> Socket:
    """A socket that never says whose it is."""
    return Socket(chat.socket_url("/v1/ws"))


async def handshake(user: User) -> str:
    """Connect, and stay as long as the server has one: how that ends."""
    headers = {"Authorization": f"Bearer {user.token}"}
    try:
        async with Socket(user.chat.socket_url("/v1/ws"), headers, wait_ready=False) as socket:
            return await farewell(socket)
    except InvalidStatus as refusal:
        return refused(refusal.response.status_code, refusal.response.headers.get("Retry-After"))
    except InvalidMessage as error:
        if "while reading HTTP status line" not in str(error.__cause__):
            raise
        return REFUSED
    except ConnectionError:
        return REFUSED


async def farewell(socket: Socket) -> str:
    """How the server ends a socket."""
    code, last = await socket.closed(), socket.frames[-1] if socket.frames else {}
    if (code, last.get("type"), last.get("reconnect")) == (GOING_AWAY, "bye", True):
        return GOOD_BYE
    return f"{code} behind {last}"


class SlowHandshake:
    """One whose second half comes when the server drains."""

    def __init__(self, rest: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._rest = rest
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, user: User) -> SlowHandshake:
        address = urlsplit(user.chat.url)
        head = (
            f"GET /v1/ws HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {'A' * 22}==\r\n"
            f"Authorization: Bearer {user.token}\r\n\r\n"
        ).encode()
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head[:50])
        return cls(head[50:], reader, writer)

    async def end(self) -> str:
        """What the whole of it is answered."""
        self._writer.write(self._rest)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        self._writer.close()
        return answer.split()[1]


# -- requests ----------------------------------------------------------------------------------


async def test_requests_under_way_are_answered(
    io_loop: Any, make_server: MakeServer, durable_url: str, scale: Scale, report: Report
) -> None:
    """Sign-ins stand in line for the one thread that hashes passwords.

    Seen to fail with a drain that does not wait for requests, and with one that takes new ones.
    """
    sign_ins, callers = scale(12, 80), scale(4, 16)
    # As long as it takes to answer: how fast a busy machine hashes is not asked here.
    environment = {"CHATD_SERVER__DRAIN_SECONDS": "300"}
    server = make_server(storage=durable_url, environment=environment, unlimited=True)
    chat = Chat(server.start())
    logs = [Log(f"c{n}@example.org", f"c{n}") for n in range(callers)]
    users = [await chat.user(log.user) for log in logs]
    calling = [
        asyncio.create_task(until_refused(message(user, log)))
        for user, log in zip(users, logs, strict=True)
    ]
    asking = asyncio.create_task(until_refused(lambda: who_am_i(users[0])))
    await asyncio.sleep(0.2)
    addresses = [f"new{number}@example.org" for number in range(sign_ins)]
    signing = [asyncio.create_task(sign_in(chat, address)) for address in addresses]
    await asyncio.wait(signing, return_when=asyncio.FIRST_COMPLETED)
    server.process.send_signal(signal.SIGTERM)
    answers = Counter(answered(answer) for answer in await asyncio.gather(*signing))
    assert answers.keys() <= {"201", "503"}, answers
    assert answers["201"] > 1, answers
    for one in await asyncio.gather(*calling):
        assert in_short(one) == ["201", "503", REFUSED]
    assert in_short(await asking) == ["200", "503", REFUSED]
    assert await exit_status(server) == 0
    chat.close()
    counts = check(logs, in_store(server.storage, server.data_dir))
    report(f"{sign_ins} sign-ins: {dict(answers)}; messages over REST: {counts}")


async def who_am_i(user: User) -> str:
    """Ask for what needs no journal."""
    return answered(await user.call("GET", "/v1/auth/me"))


def message(user: User, log: Log) -> Callable[[], Awaitable[str]]:
    """Sends the user's next message to itself over REST."""
    numbers, conversation = count(1), pair_conversation(user.email, user.email)

    async def send() -> str:
        text = f"{log.device} says {next(numbers)}"
        log.events.append(Sent(text, conversation, text, connection=1))
        answer = await user.call(
            "POST", f"/v1/users/{user.email}/messages", {"text": text, "client_id": text}
        )
        if answer.status == 201:
            seq, id_ = answer.body["seq"], answer.body["id"]
            log.events.append(Acked(conversation, seq, id_, text, False, connection=1))
        return answered(answer)

    return send


def answered(answer: Answer) -> str:
    """The status; one of a server that goes says when to come again."""
    return refused(answer.status, answer.headers.get("Retry-After"))


def refused(status: int, retry_after: str | None) -> str:
    assert status != 503 or int(retry_after or 0) >= 1, retry_after
    return str(status)


# -- other moments -----------------------------------------------------------------------------


async def test_a_second_sigterm_ends_at_once_and_loses_nothing(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """Seen to fail with a second signal that is ignored."""
    times = scale(2, 40)
    server = make_server(storage=durable_url, unlimited=True)
    async with AsyncExitStack() as exits:
        traffic = await start_traffic(server, exits)
        for _ in range(times):
            await asyncio.sleep(chance.uniform(0, 0.5))
            async with traffic.senders[0].user.socket() as deaf:
                deaf.ws.transport.pause_reading()  # for its sake the drain would take a while
                await sigterm(server)
                await asyncio.sleep(chance.uniform(0, 0.2))
                server.process.send_signal(signal.SIGTERM)
                assert await exit_status(server) == -signal.SIGTERM
                deaf.ws.transport.resume_reading()
            await traffic.go_on()
        await traffic.end()
        report(f"{times} times: {traffic.check()}")


async def test_a_sigterm_while_it_starts_ends_it_and_loses_nothing(
    io_loop: Any, make_server: MakeServer, chance: Random, scale: Scale, report: Report
) -> None:
    """Until it listens to signals the system ends it.

    Seen to fail with a first signal that is ignored.
    """
    times = scale(3, 60)
    server = make_server(unlimited=True)
    async with AsyncExitStack() as exits:
        started = time.monotonic()
        traffic = await start_traffic(server, exits)
        seconds = time.monotonic() - started
        statuses: Counter[int] = Counter()
        for _ in range(times):
            server.kill()
            server.launch(port=urlsplit(server.url).port or 0)
            await asyncio.sleep(chance.uniform(0, seconds))
            server.process.send_signal(signal.SIGTERM)
            statuses[await exit_status(server)] += 1
        assert statuses.keys() <= {0, -signal.SIGTERM}, statuses
        await asyncio.to_thread(server.restart)
        server.process.send_signal(signal.SIGTERM)
        assert await exit_status(server) == 0
        assert "Traceback" not in server.log.read_text()
        await traffic.go_on()
        await traffic.end()
        report(f"{times} times, {statuses[0]} of them drained: {traffic.check()}")


async def test_a_sigterm_ends_a_server_that_waits_for_its_storage(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Seen to fail with a server that hears signals once its storage is open."""
    server = make_server(storage="mongodb://127.0.0.1:1/chatd?serverSelectionTimeoutMS=100")
    await asyncio.to_thread(server.start)
    server.process.send_signal(signal.SIGTERM)
    assert await exit_status(server) == 0


# -- what they have in common ------------------------------------------------------------------


async def sigterm(server: Server) -> None:
    """Ask the server to end; return once it drains."""
    before = drains(server.log)
    server.process.send_signal(signal.SIGTERM)
    await until(lambda: drains(server.log) > before)


def drains(log: Path) -> int:
    return log.read_bytes().count(b'"server.draining"')


async def exit_status(server: Server) -> int:
    """How the server ends, by itself."""
    return await asyncio.to_thread(server.process.wait, DRAIN_SECONDS + PATIENCE)


async def until_refused(attempt: Callable[[], Awaitable[str]]) -> list[str]:
    """Try again and again, as long as anything listens: what each attempt was answered."""
    answers: list[str] = []
    while REFUSED not in answers:
        try:
            answers.append(await attempt())
        except (ConnectionError, HTTPStreamClosedError):
            answers.append(REFUSED)
        await asyncio.sleep(0.01)
    return answers


def in_short(answers: Iterable[str]) -> list[str]:
    """Each kind of answers, in their order."""
    return [kind for kind, _ in groupby(answers)]
