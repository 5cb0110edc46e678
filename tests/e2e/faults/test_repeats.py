"""Sends repeated with their client_id: one message for ever, whatever lies between (G3)."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.chat import Answer, Chat, Json, Socket, User
from tests.counts import Report, Scale
from tests.e2e.conftest import MakeServer
from tests.e2e.faults.checker import check
from tests.e2e.faults.device import until
from tests.e2e.faults.stored import Row, in_store, over_rest
from tests.e2e.server import Server

pytestmark = pytest.mark.timeout(120)

TIMES = 10
TARGETS: Sequence[dict[str, str]] = ({"group": "club"}, {"to": "bob@example.org"})


class Said(NamedTuple):
    """What a send was answered."""

    id: str
    seq: int
    duplicate: bool


class Send(NamedTuple):
    """A message, as a frame and as a request have it."""

    client_id: str
    text: str
    target: dict[str, str]

    @property
    def frame(self) -> Json:
        return {"type": "send", "client_id": self.client_id, "text": self.text, **self.target}

    @property
    def path(self) -> str:
        group = self.target.get("group")
        return (
            f"/v1/groups/{group}/messages" if group else f"/v1/users/{self.target['to']}/messages"
        )

    @property
    def body(self) -> Json:
        return {"client_id": self.client_id, "text": self.text}


class Room:
    """Ann, who sends from two connections and over REST, and bob, who reads along."""

    def __init__(self, server: Server, ann: User, bob: User) -> None:
        self.server = server
        self.ann = ann
        self.bob = bob
        self.sockets: list[Socket] = []
        self.reading: Socket

    async def on_line(self, connections: AsyncExitStack) -> None:
        self.reading = await connections.enter_async_context(self.bob.socket())
        self.sockets = [await connections.enter_async_context(self.ann.socket()) for _ in range(2)]

    async def repeat(self, send: Send, sockets: Iterable[Socket]) -> list[Said]:
        """Write it `TIMES` times in one go to each of these; what all of these are answered."""
        sockets = list(sockets)
        for socket in sockets:
            await write(socket, send)
        await until(lambda: all(len(answers(socket, send)) >= TIMES for socket in sockets))
        return [said(one) for socket in sockets for one in answers(socket, send)]

    async def ask_rest(self, send: Send) -> Answer:
        return await self.ann.call("POST", send.path, send.body)

    async def repeat_everywhere(self, send: Send) -> list[Said]:
        """Over both connections and REST, at the same time."""
        requests = [asyncio.create_task(self.ask_rest(send)) for _ in range(TIMES)]
        over_sockets = await self.repeat(send, self.sockets)
        return [*over_sockets, *(said_over_rest(one) for one in await asyncio.gather(*requests))]

    async def check_refused(self, send: Send) -> None:
        """The client_id is another message's by now, wherever it comes."""
        answer = await self.sockets[0].ask(**{k: v for k, v in send.frame.items() if k != "type"})
        assert (answer["type"], answer.get("code")) == ("error", "client_id_reused"), answer
        over_rest = await self.ask_rest(send)
        assert (over_rest.status, over_rest.body["code"]) == (409, "client_id_reused"), over_rest

    async def check_seen_once(self, message: Said) -> None:
        """No connection that is on line was given the message twice."""
        for socket in (self.reading, *self.sockets):
            await socket.settle()
            seen = [frame for frame in socket.of("message") if frame["id"] == message.id]
            assert len(seen) <= 1, seen
            assert seen or socket is not self.reading, f"bob was never given {message}"

    async def rows(self) -> list[Row]:
        """All that is stored."""
        if self.server.storage == "memory:":
            pairs = await over_rest(self.ann, self.bob.email, "user")
            return [*pairs, *await over_rest(self.ann, "club")]
        assert self.server.terminate() == 0
        return in_store(self.server.storage, self.server.data_dir)


async def open_room(server: Server, exits: AsyncExitStack) -> Room:
    """Start the server; Ann and Bob are members of a group."""
    chat = Chat(server.start())
    exits.callback(chat.close)
    room = Room(server, await chat.user("ann@example.org"), await chat.user("bob@example.org"))
    await room.ann.create("club")
    await room.bob.join("club")
    return room


async def write(socket: Socket, send: Send) -> None:
    for _ in range(TIMES):
        await socket.send(**send.frame)


def answers(socket: Socket, send: Send) -> list[Json]:
    return [one for one in socket.of("sent", "error") if one["client_id"] == send.client_id]


def said(answer: Json) -> Said:
    assert answer["type"] == "sent", answer
    return Said(answer["id"], answer["seq"], answer["duplicate"])


def said_over_rest(answer: Answer) -> Said:
    duplicate = answer.body.get("duplicate", False)
    assert answer.status == (200 if duplicate else 201), answer
    return Said(answer.body["id"], answer.body["seq"], duplicate)


def the_one(told: Sequence[Said], *, new: Container[int] = (1,)) -> Said:
    """The message that all of these are; ``new``: how many may have been told that it is new.

    Whoever was to hear that may have been cut off by the server's end.
    """
    assert len({(one.id, one.seq) for one in told}) == 1, told
    assert [one.duplicate for one in told].count(False) in new, told
    return told[0]


def check_stored(rows: Sequence[Row], messages: Sequence[tuple[Send, Said]]) -> None:
    """These are stored, each once, and nothing else is."""
    check([], rows)
    stored = sorted((row.client_id or "", row.text, row.id, row.seq) for row in rows)
    assert stored == sorted((send.client_id, send.text, one.id, one.seq) for send, one in messages)


@pytest.mark.parametrize("target", TARGETS, ids=["group", "user"])
async def test_ten_at_once_on_one_socket_are_one_message(
    io_loop: Any, make_server: MakeServer, storage_url: str, target: dict[str, str]
) -> None:
    """Seen to fail with a batch that finds only the repeats of earlier batches (SQLite), and
    with messages stored in memory whose client_id is not kept."""
    async with AsyncExitStack() as exits:
        room = await open_room(make_server(storage=storage_url), exits)
        async with AsyncExitStack() as connections:
            await room.on_line(connections)
            send = Send("c1", "hello", target)
            message = the_one(await room.repeat(send, room.sockets[:1]))
            await room.check_seen_once(message)
        check_stored(await room.rows(), [(send, message)])


@pytest.mark.parametrize("target", TARGETS, ids=["group", "user"])
async def test_over_two_connections_and_rest_at_once_they_are_one_message(
    io_loop: Any, make_server: MakeServer, storage_url: str, target: dict[str, str]
) -> None:
    """Seen to fail with a repeat that goes out to everybody again, and with a client_id that
    passes for a repeat whatever its text or target is."""
    async with AsyncExitStack() as exits:
        room = await open_room(make_server(storage=storage_url), exits)
        async with AsyncExitStack() as connections:
            await room.on_line(connections)
            send = Send("c1", "hello", target)
            message = the_one(await room.repeat_everywhere(send))
            await room.check_refused(send._replace(text="another"))
            await room.check_refused(send._replace(target=TARGETS[TARGETS.index(target) - 1]))
            await room.check_seen_once(message)
        check_stored(await room.rows(), [(send, message)])


async def test_repeats_over_kills_and_restarts(
    io_loop: Any,
    make_server: MakeServer,
    durable_url: str,
    chance: Random,
    scale: Scale,
    report: Report,
) -> None:
    """The server is killed amid the repeats, or when they are all answered, and asked again.

    Seen to fail with a store that does not look for client_ids of earlier batches (SQLite), and
    with an index on them that is not unique (MongoDB).
    """
    kills = scale(2, 60)
    messages: list[tuple[Send, Said]] = []
    early = 0
    async with AsyncExitStack() as exits:
        room = await open_room(make_server(storage=durable_url, unlimited=True), exits)
        for number in range(kills):
            send = Send(f"c{number}", f"text {number}", TARGETS[number // 2 % 2])
            seconds = chance.uniform(0, 0.03) if number % 2 else None
            before = await _repeat_and_kill(room, send, seconds)
            await asyncio.to_thread(room.server.restart)
            async with AsyncExitStack() as connections:
                await room.on_line(connections)
                after = await room.repeat_everywhere(send)
                await room.check_refused(send._replace(text="another"))
                await room.check_refused(send._replace(target=TARGETS[number // 2 % 2 - 1]))
            early += not before
            assert not before or all(one.duplicate for one in after), (before, after)
            messages.append((send, the_one([*before, *after], new={0, 1})))
        for send, message in messages:
            assert said_over_rest(await room.ask_rest(send)) == message._replace(duplicate=True)
        check_stored(await room.rows(), messages)
    report(f"{kills} kills, {early} of them before any answer: one message each")


async def _repeat_and_kill(room: Room, send: Send, seconds: float | None) -> list[Said]:
    """Send it everywhere, and kill the server after so long, or once all is answered; the answers
    until then."""
    async with AsyncExitStack() as connections:
        await room.on_line(connections)
        if seconds is None:
            told = await room.repeat_everywhere(send)
            await room.check_seen_once(told[0])
            room.server.kill()
            return told
        sending = asyncio.gather(
            *(room.ask_rest(send) for _ in range(TIMES)),
            *(write(socket, send) for socket in room.sockets),
            return_exceptions=True,
        )
        await asyncio.sleep(seconds)
        room.server.kill()
        over_rest = [one for one in await sending if isinstance(one, Answer)]
        for socket in room.sockets:
            await socket.closed()
        over_sockets = [one for socket in room.sockets for one in answers(socket, send)]
        return [*map(said, over_sockets), *map(said_over_rest, over_rest)]


async def test_memory_says_that_this_ends_with_the_process(
    io_loop: Any, make_server: MakeServer
) -> None:
    """Seen to fail with a promise that does not say so."""
    async with AsyncExitStack() as exits:
        room = await open_room(make_server(storage="memory:"), exits)
        assert "ends with the process" in room.server.log.read_text()
        send = Send("c1", "hello", {"group": "club"})
        assert not said_over_rest(await room.ask_rest(send)).duplicate
        assert said_over_rest(await room.ask_rest(send)).duplicate
