from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from chatd import listener
from chatd.listener import Listener
from tests.chat import PATIENCE, eventually


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
