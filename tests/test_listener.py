from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from ipaddress import ip_network
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from chatd import listener
from chatd.listener import BoundedServer, Listener
from tests.chat import PATIENCE, Socket, eventually


class Hello(RequestHandler):
    def get(self) -> None:
        self.finish("hello")


class Door:
    """A listener whose failures and whose guests are counted."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.failures: list[OSError] = []
        self.taken_in = 0
        self.server = HTTPServer(Application([("/", Hello)]))
        self._take_in = self.server.handle_stream
        self.server.handle_stream = self._counted  # type: ignore[method-assign]
        self.listener = Listener(host, 0, self.server, self.failures.append)

    def _counted(self, stream: Any, address: Any) -> None:
        self.taken_in += 1
        self._take_in(stream, address)


@pytest.fixture
async def door(io_loop: Any) -> AsyncIterator[Door]:
    door = Door()
    yield door
    door.listener.close()
    await door.server.close_all_connections()


def knock(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connected.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return connected


async def answer(connected: socket.socket) -> bytes:
    data = b""
    connected.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        while part := await asyncio.get_running_loop().sock_recv(connected, 65536):
            data += part
    return data


async def test_a_crowd_is_taken_in_a_few_a_turn_and_everybody_is_answered(
    io_loop: Any, door: Door
) -> None:
    crowd = [knock(door.listener.port) for _ in range(300)]
    assert door.taken_in == 0
    each_turn = []
    while door.taken_in < len(crowd):
        before = door.taken_in
        await asyncio.sleep(0)
        each_turn.append(door.taken_in - before)
    assert max(each_turn) <= 4
    for connected in crowd:
        with closing(connected):
            assert (await answer(connected)).endswith(b"hello")


async def test_who_goes_before_being_taken_in_stops_nobody(io_loop: Any, door: Door) -> None:
    knock(door.listener.port).close()
    with closing(knock(door.listener.port)) as stays:
        assert (await answer(stays)).endswith(b"hello")
    assert door.failures == []


async def test_without_a_file_left_it_pauses_and_takes_them_in_later(
    io_loop: Any, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_PAUSE_SECONDS", 0.1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(knock(door.listener.port)) as waits:
        # The lowest free number is the next: below the limit all are to be in use.
        fillers = [socket.socket() for _ in range(100)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1].fileno(), hard))
        try:
            await eventually(lambda: len(door.failures) == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for one in fillers:
                one.close()
        assert (await answer(waits)).endswith(b"hello")
    assert "Too many open files" in str(door.failures[0])


async def test_closed_it_takes_in_nobody_and_the_port_is_free(io_loop: Any) -> None:
    door = Door()
    port = door.listener.port
    door.listener.close()
    with pytest.raises(ConnectionRefusedError):
        knock(port)
    socket.create_server(("127.0.0.1", port)).close()


# -- those who keep connections ----------------------------------------------------------------


class Echo(RequestHandler):
    """Says how much it was sent."""

    def post(self) -> None:
        self.finish(str(len(self.request.body)))


class Live(WebSocketHandler):
    """Stays as long as its client."""


Bounded = Callable[..., int]


@pytest.fixture
async def bounded(io_loop: Any) -> AsyncIterator[Bounded]:
    """Opens servers with bounds; each is told by its port."""
    opened: list[tuple[Listener, BoundedServer]] = []

    def serve(most: int = 0, *proxies: str) -> int:
        server = BoundedServer(
            Application([("/", Hello), ("/echo", Echo), ("/live", Live)]),
            max_body_size=1 << 20,
            most_of_a_place=most,
            proxies=[ip_network(proxy) for proxy in proxies],
        )
        taken_in = Listener("127.0.0.1", 0, server, lambda error: pytest.fail(str(error)))
        opened.append((taken_in, server))
        return taken_in.port

    yield serve
    for taken_in, server in opened:
        taken_in.close()
        await server.close_all_connections()


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection that says nothing, from one of this machine's own addresses."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))


async def greeting(port: int, source: str = "127.0.0.1") -> bytes:
    """The status line of what is answered from there."""
    with closing(connect(port, source)) as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return (await until(b"\r\n\r\n", connected)).partition(b"\r\n")[0]


async def until(end: bytes, connected: socket.socket) -> bytes:
    """What comes up to this; who is refused unheard is reset behind it."""
    data = b""
    connected.setblocking(False)
    async with asyncio.timeout(PATIENCE):
        while not data.endswith(end):
            part = await asyncio.get_running_loop().sock_recv(connected, 1)
            assert part, data
            data += part
    return data


async def test_so_many_connections_may_come_from_one_place_and_the_next_hears_429(
    io_loop: Any, bounded: Bounded
) -> None:
    port = bounded(2)
    with closing(connect(port)) as first, closing(connect(port)):
        with closing(connect(port)) as third:
            refused = await answer(third)
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 5\r\n" in refused
        assert refused.endswith(b"\r\n\r\n")
        # Others have room, and so has the place itself once one of its own has gone.
        assert await greeting(port, "127.0.0.2") == b"HTTP/1.1 200 OK"
        first.close()
        async with asyncio.timeout(PATIENCE):
            while await greeting(port) != b"HTTP/1.1 200 OK":
                await asyncio.sleep(0.01)


async def test_who_is_refused_costs_no_place(io_loop: Any, bounded: Bounded) -> None:
    port = bounded(1)
    with closing(connect(port)):
        for _ in range(5):
            assert (await greeting(port)).startswith(b"HTTP/1.1 429 ")
    async with asyncio.timeout(PATIENCE):
        while await greeting(port) != b"HTTP/1.1 200 OK":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("most", "proxies"), [(0, []), (1, ["127.0.0.1/32"]), (1, ["10.0.0.0/8", "127.0.0.0/8"])]
)
async def test_without_a_bound_and_through_a_listed_proxy_come_as_many_as_there_are(
    io_loop: Any, bounded: Bounded, most: int, proxies: list[str]
) -> None:
    port = bounded(most, *proxies)
    silent = [connect(port) for _ in range(5)]
    assert await greeting(port) == b"HTTP/1.1 200 OK"
    for one in silent:
        one.close()


async def test_another_proxy_is_a_place_like_any(io_loop: Any, bounded: Bounded) -> None:
    port = bounded(1, "127.0.0.2/32")
    with closing(connect(port)):
        assert (await greeting(port)).startswith(b"HTTP/1.1 429 ")
        assert await greeting(port, "127.0.0.2") == b"HTTP/1.1 200 OK"


async def test_a_connection_that_is_kept_counts_until_it_goes(
    io_loop: Any, bounded: Bounded
) -> None:
    port = bounded(1)
    with closing(connect(port)) as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(b"hello", kept)
        assert (await greeting(port)).startswith(b"HTTP/1.1 429 ")


async def test_a_websocket_is_for_others_to_count(io_loop: Any, bounded: Bounded) -> None:
    port = bounded(1)
    async with Socket(f"ws://127.0.0.1:{port}/live", wait_ready=False):
        async with Socket(f"ws://127.0.0.1:{port}/live", wait_ready=False):
            assert await greeting(port) == b"HTTP/1.1 200 OK"
        assert await greeting(port) == b"HTTP/1.1 200 OK"


async def test_who_says_nothing_or_only_a_part_is_hung_up_on(
    io_loop: Any, bounded: Bounded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_PATIENCE_SECONDS", 0.2)
    port = bounded()
    for part in (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345",
    ):
        with closing(connect(port)) as slow:
            slow.sendall(part)
            assert b"200 OK" not in await answer(slow)
    assert await greeting(port) == b"HTTP/1.1 200 OK"


async def test_a_head_is_16_kib_at_most(io_loop: Any, bounded: Bounded) -> None:
    port = bounded()
    with closing(connect(port)) as long_winded:
        long_winded.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 17_000 + b"\r\n\r\n")
        assert b"200 OK" not in await answer(long_winded)
    with closing(connect(port)) as brief:
        lines = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
        brief.sendall(lines + b"x" * 15_000 + b"\r\n\r\n")
        assert (await answer(brief)).endswith(b"hello")
