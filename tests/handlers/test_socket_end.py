"""Slow readers, silent peers, the drain, and a storage that is out."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from chatd.accounts import Session
from chatd.app import App
from chatd.errors import CloseCode, Unavailable
from chatd.models import Draft, Outcome
from chatd.wire import Wire
from tests.chat import Chat, Socket, User, delivered, eventually, start_app

# -- slow readers, silence, the end ------------------------------------------------------------


@pytest.mark.settings(limits__outbox_bytes=65536, limits__send_per_second=0)
async def test_a_slow_consumer_is_cut_off_and_healed_by_the_replay(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    slow = bob.socket()
    async with ann.socket() as a, slow:
        slow.ws.transport.pause_reading()
        for number in range(4000):
            await a.send(type="send", to=bob.email, text=f"{number} " + "x" * 3000)
        await eventually(lambda: len(a.of("sent")) == 4000)
        slow.ws.transport.resume_reading()
        assert await slow.closed() in (4430, 1006)
    seen = {frame["seq"] for frame in slow.of("message")}
    async with asyncio.timeout(30):
        while len(seen) < 4000:
            async with bob.socket() as socket:
                await socket.settle()
                replayed = {frame["seq"] for frame in socket.of("message")}
                assert max(replayed) == 4000 or socket.of("gap")[0]["to_seq"] == 4000
                await delivered(ann.email, bob, max(replayed))
                seen |= replayed
    assert seen == set(range(1, 4001))


async def goes(socket: Socket, ann: User) -> None:
    await socket.ws.close()


async def is_cut_off(socket: Socket, ann: User) -> None:
    socket.ws.transport.abort()


async def signs_out(socket: Socket, ann: User) -> None:
    await ann.call("POST", "/v1/auth/sign-out")


@pytest.mark.parametrize("leaves", [goes, is_cut_off, signs_out])
async def test_nothing_of_a_socket_is_left_to_the_garbage_collector_when_its_client(
    io_loop: Any, chat: Chat, server: App, leaves: Callable[[Socket, User], Awaitable[None]]
) -> None:
    """It rarely looks at what has lived long: each socket that ever was would stay for days."""
    ann = await chat.user("ann@example.org")
    gc.collect()
    gc.disable()
    try:
        async with ann.socket() as socket:
            await socket.send(type="send", to=ann.email, text="so that something was sent")
            await socket.next("sent")
            (left,) = [(weakref.ref(wire), weakref.ref(wire.handler)) for wire in wires()]
            await leaves(socket, ann)
        await eventually(lambda: not any(one() for one in left))
    finally:
        gc.enable()


def wires() -> list[Wire]:
    return [one for one in gc.get_objects() if type(one) is Wire]


@pytest.mark.settings(websocket__ping_seconds=0.2, websocket__pong_seconds=0.7)
async def test_a_peer_that_answers_no_ping_is_given_up(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as alive, ann.socket() as dead:
        dead.ws.transport.pause_reading()
        await asyncio.sleep(1.5)
        dead.ws.transport.resume_reading()
        assert await dead.closed() in (4408, 1006)
        await alive.settle()


@pytest.mark.settings(websocket__ping_seconds=3600)
async def test_a_peer_that_answers_no_ping_is_let_go_in_the_same_turn(
    io_loop: Any, chat: Chat, server: App
) -> None:
    ann, now = await chat.user("ann@example.org"), asyncio.get_running_loop().time
    async with ann.socket() as dead:
        await dead.settle()
        (connection,), (wire,) = server.registry, wires()
        dead.ws.transport.pause_reading()
        connection.keep_alive(now() + 3600, 3600, 20)
        await asyncio.sleep(0)
        connection.keep_alive(now() + 3620, 3600, 20)
        assert not server.registry.is_online(ann.email)
        assert wire.stream.closed()
        del connection, wire
        dead.ws.transport.resume_reading()
        assert await dead.closed() == 4408
        assert dead.frames[-1]["type"] == "bye"
    assert not len(server.services.sockets)


async def test_who_was_told_bye_is_not_on_line_however_long_the_answer_takes(
    io_loop: Any, chat: Chat, server: App
) -> None:
    ann = await chat.user("ann@example.org")
    await ann.create("python")
    async with ann.socket() as deaf:
        await deaf.settle()
        deaf.ws.transport.pause_reading()
        (connection,) = server.registry
        connection.end(CloseCode.SLOW_CONSUMER, "slow consumer", reconnect=True)
        assert not server.registry.is_online(ann.email)
        assert connection not in server.registry.of_group("python")
        assert len(server.services.sockets) == 1, "its socket waits for the answer"
        deaf.ws.transport.resume_reading()
        assert await deaf.closed() == 4430
    await eventually(lambda: not len(server.services.sockets))


# -- the drain -----------------------------------------------------------------------------------


@contextmanager
def authentication_waits(
    server: App, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Who authenticates sets the first event, and waits for the second."""
    came, let_go = asyncio.Event(), asyncio.Event()
    authenticate = server.services.accounts.authenticate

    async def slow(token: str) -> Session:
        came.set()
        await let_go.wait()
        return await authenticate(token)

    with monkeypatch.context() as fault:
        fault.setattr(server.services.accounts, "authenticate", slow)
        yield came, let_go


async def test_who_stood_in_line_when_the_drain_began_is_refused(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await chat.user("ann@example.org")

    async def connect() -> int:
        with pytest.raises(InvalidStatus) as refusal:
            async with ann.socket():
                pass
        return refusal.value.response.status_code

    with authentication_waits(server, monkeypatch) as (came, let_go):
        newcomers = [asyncio.create_task(connect()) for _ in range(10)]
        await came.wait()
        await eventually(server.services.newcomers.locked)
        drain = asyncio.create_task(server.drain())
        await eventually(lambda: server.state.draining)
        let_go.set()
        assert await asyncio.gather(*newcomers) == [503] * 10
    await drain


async def test_who_has_not_said_who_they_are_hears_bye_too(
    io_loop: Any, chat: Chat, server: App
) -> None:
    async with Socket(chat.socket_url("/v1/ws")) as nobody:
        await asyncio.gather(server.drain(), nobody.closed())
        assert nobody.ws.close_code == 1001
        assert nobody.frames == [
            {"type": "bye", "reason": "the server is stopping", "reconnect": True, "after": 1.0}
        ]


async def test_who_is_told_bye_while_a_token_is_looked_at_does_not_come_in(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await chat.user("ann@example.org")
    with authentication_waits(server, monkeypatch) as (came, let_go):
        async with Socket(chat.socket_url("/v1/ws")) as late:
            await late.send(type="auth", token=ann.token)
            await came.wait()
            drain = asyncio.create_task(server.drain())
            await late.next("bye")
            let_go.set()
            assert await late.closed() == 1001
            assert [frame["type"] for frame in late.frames] == ["bye"]
    await drain
    opened = server.metrics.connections_opened.collect()
    assert next(sample.value for metric in opened for sample in metric.samples) == 0


@pytest.mark.settings(server__drain_seconds=0.2)
async def test_who_is_deaf_to_bye_does_not_keep_the_server(
    io_loop: Any, chat: Chat, server: App
) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as deaf:
        deaf.ws.transport.pause_reading()
        await server.drain()
        assert len(server.services.sockets) == 1, "it did not wait for that one"
        deaf.ws.transport.resume_reading()
        assert await deaf.closed() == 1001


async def test_draining_answers_what_was_taken_before_it_says_bye(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    append = server.storage.append

    async def slow_append(batch: Sequence[Draft]) -> list[Outcome]:
        await asyncio.sleep(0.2)
        return await append(batch)

    monkeypatch.setattr(server.storage, "append", slow_append)
    async with ann.socket() as a:
        for number in range(10):
            await a.send(type="send", to=bob.email, text=str(number))
        await a.settle()
        await asyncio.gather(server.drain(), a.closed())
        assert a.ws.close_code == 1001
        kinds = [frame["type"] for frame in a.frames if frame["type"] in ("sent", "bye")]
        assert kinds == ["sent"] * 10 + ["bye"]
        assert a.frames[-1]["reconnect"] is True


@pytest.mark.settings(server__drain_seconds=1)
async def test_a_storage_that_hangs_keeps_nobody_from_hearing_bye(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await chat.user("ann@example.org")

    async def hang(_: Sequence[Draft]) -> list[Outcome]:
        never: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        return await never

    monkeypatch.setattr(server.storage, "append", hang)
    async with ann.socket() as a:
        await a.send(type="send", to=ann.email, text="never answered")
        await a.settle()
        await asyncio.gather(server.drain(), a.closed())
        assert a.ws.close_code == 1001
        assert a.frames[-1]["type"] == "bye"


async def test_draining_stores_the_receipts_that_were_gathering(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.receipts._GATHER_SECONDS", 3600)
    first = await start_app(tmp_path, "sqlite:chatd.db")
    chat = Chat(await first.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("hello", user=bob.email)
    async with bob.socket() as b:
        await b.send(type="read", **{"from": ann.email}, seq=1)
        await b.settle()
        await asyncio.gather(first.drain(), b.closed())

    second = await start_app(tmp_path, "sqlite:chatd.db")
    chat.url = await second.start()
    history = (await ann.call("GET", f"/v1/users/{bob.email}/messages")).body["items"]
    assert history[0]["read_at"]
    chat.close()
    await second.stop()


# -- the storage out ---------------------------------------------------------------------------


async def test_what_cannot_be_stored_is_refused_and_sent_again_once_it_can(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")

    async def out(*_: object) -> None:
        raise Unavailable("the message store can't be reached, try again shortly")

    async with ann.socket() as a, bob.socket() as b:
        with monkeypatch.context() as fault:
            fault.setattr(server.storage, "append", out)
            error = await a.say("hello", to=bob.email, client_id="c1")
            assert (error["code"], error["client_id"]) == ("unavailable", "c1")
            body = {"text": "over REST"}
            answer = await ann.call("POST", f"/v1/users/{bob.email}/messages", body)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            fault.setattr(server.storage, "ping", out)
            assert (await chat.call("GET", "/readyz")).status == 503
        sent = await a.say("hello", to=bob.email, client_id="c1")
        assert sent["duplicate"] is False
        assert (await b.next("message"))["id"] == sent["id"]
        await b.settle()
        assert len(b.of("message")) == 1


@pytest.mark.parametrize("method", ["group_names_of", "positions"])
async def test_who_cannot_be_told_what_they_missed_is_asked_to_reconnect(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ann = await chat.user("ann@example.org")

    async def out(*_: object) -> None:
        raise Unavailable("the message store can't be reached, try again shortly")

    monkeypatch.setattr(server.storage, method, out)
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        await socket.send(type="auth", token=ann.token)
        await socket.send(type="typing", to=ann.email)
        assert await socket.closed() == 1011
        assert socket.frames[-1]["reconnect"] is True
    await eventually(lambda: len(server.registry) == 0)
