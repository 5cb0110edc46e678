from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from chatd.channel import Channel
from tests.chat import PATIENCE, eventually


class Side:
    """A channel, what it told, and its peer, who reads and writes by hand."""

    def __init__(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.peer = socket.create_connection(listening.getsockname())
        self.socket, _ = listening.accept()
        listening.close()
        for each in (self.peer, self.socket):
            each.setblocking(False)
        self.told: list[bytes] = []
        self.ends = 0
        self.channel = Channel(self.socket, self.told.append, self._end)

    def _end(self) -> None:
        self.ends += 1

    def bytes_told(self) -> bytes:
        return b"".join(self.told)

    async def read(self, size: int) -> bytes:
        loop, data = asyncio.get_running_loop(), bytearray()
        async with asyncio.timeout(PATIENCE):
            while len(data) < size:
                data += await loop.sock_recv(self.peer, size - len(data))
        return bytes(data)

    def fill(self) -> bytes:
        """Write until the system takes no more; what was written."""
        written = b""
        while not self.channel.backlog():
            some = bytes([len(written) % 251]) * 100_000
            self.channel.write(some)
            written += some
        return written

    def close(self) -> None:
        self.channel.close()
        self.peer.close()


@pytest.fixture
async def side(io_loop: Any) -> Any:
    side = Side()
    yield side
    side.close()


async def turn() -> None:
    await asyncio.sleep(0.02)


async def test_what_comes_is_told_from_the_first_resume_on(io_loop: Any, side: Side) -> None:
    side.peer.send(b"one")
    await turn()
    assert side.told == []
    side.channel.resume()
    await eventually(lambda: side.told == [b"one"])
    side.peer.send(b"two")
    await eventually(lambda: side.told == [b"one", b"two"])


async def test_while_it_pauses_nothing_is_read_and_nothing_is_lost(
    io_loop: Any, side: Side
) -> None:
    side.channel.resume()
    side.channel.resume()
    side.channel.pause()
    side.channel.pause()
    side.peer.send(b"one")
    await turn()
    assert side.told == []
    side.channel.resume()
    await eventually(lambda: side.told == [b"one"])


async def test_a_flood_is_told_in_parts_with_turns_for_others_in_between(
    io_loop: Any, side: Side
) -> None:
    flood = bytes(range(256)) * 4000
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(side.peer, flood))
    side.channel.resume()
    await eventually(lambda: sum(map(len, side.told)) == len(flood))
    await sending
    assert side.bytes_told() == flood
    assert max(map(len, side.told)) <= 65536


async def test_what_is_written_is_there_at_once(io_loop: Any, side: Side) -> None:
    assert side.channel.write(b"one") == 0
    assert side.channel.backlog() == 0
    assert side.channel.all_sent().done()
    # No turn of the loop has passed.
    assert side.peer.recv(100) == b"one"


async def test_what_the_system_does_not_take_is_kept_in_order_until_the_peer_has_read(
    io_loop: Any, side: Side
) -> None:
    written = side.fill()
    before = side.channel.backlog()
    assert side.channel.write(b"the end") == side.channel.backlog() == before + 7
    all_sent = side.channel.all_sent()
    await turn()
    assert not all_sent.done()
    assert await side.read(len(written) + 7) == written + b"the end"
    await asyncio.wait_for(all_sent, PATIENCE)
    assert side.channel.backlog() == 0
    side.channel.write(b"and more")
    assert await side.read(8) == b"and more"


def leaves(peer: socket.socket) -> None:
    peer.close()


def resets(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.mark.parametrize("goes", [leaves, resets])
async def test_the_end_is_told_once_when_the_peer(io_loop: Any, side: Side, goes: Any) -> None:
    side.channel.resume()
    goes(side.peer)
    await eventually(lambda: side.ends == 1)
    assert side.channel.closed()
    side.channel.write(b"to nobody")
    side.channel.resume()
    side.channel.close()
    side.channel.set_nodelay(True)
    await turn()
    assert (side.ends, side.told, side.channel.backlog()) == (1, [], 0)


async def test_a_write_to_one_who_is_gone_ends_the_channel_in_a_turn_of_its_own(
    io_loop: Any, side: Side
) -> None:
    resets(side.peer)
    await turn()
    side.channel.write(b"x")
    assert side.channel.closed()
    # Who writes to many goes through a list that an end would change.
    assert side.ends == 0
    await eventually(lambda: side.ends == 1)


async def test_who_goes_while_something_is_kept_lets_go_those_who_wait_for_it(
    io_loop: Any, side: Side
) -> None:
    side.fill()
    all_sent = side.channel.all_sent()
    resets(side.peer)
    await asyncio.wait_for(all_sent, PATIENCE)
    await eventually(lambda: side.ends == 1)
    assert side.channel.backlog() == 0
    assert side.channel.all_sent().done()


async def test_a_socket_that_is_closed_already_ends_at_once(io_loop: Any) -> None:
    gone = socket.socket()
    gone.close()
    ends: list[None] = []
    channel = Channel(gone, lambda _: None, lambda: ends.append(None))
    assert channel.closed()
    assert ends == []
    await eventually(lambda: ends == [None])


async def test_an_end_of_its_own_doing_is_told_too(io_loop: Any, side: Side) -> None:
    side.channel.resume()
    side.channel.close()
    await eventually(lambda: side.ends == 1)
