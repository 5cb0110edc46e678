"""A TCP proxy that does to bytes what bad networks do: cut, stall, swallow."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Self

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that turns a close into a reset: what is on its way is lost."""


def _reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    one.close()


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


BOTH = (Direction.TO_SERVER, Direction.TO_CLIENT)


class _Cut(Exception):
    """As many bytes have passed as may."""


class _Budget:
    """How many bytes may still pass through a connection; None: all."""

    def __init__(self, left: int | None) -> None:
        self._left = left

    def take(self, data: bytes) -> bytes:
        """As much of this as may pass."""
        if self._left is None:
            return data
        passed = data[: self._left]
        self._left -= len(passed)
        return passed

    def end(self) -> None:
        """Nothing more may pass."""
        self._left = 0

    @property
    def spent(self) -> bool:
        return self._left == 0


class Proxy:
    """Stands before a server at 127.0.0.1; to be entered with ``async with``.

    What it is told holds for the connections there are and for those that come.
    """

    def __init__(self, port: int, budget: Callable[[], int | None] = lambda: None) -> None:
        """``port``: the server's. ``budget`` is asked for each new connection after how many
        bytes, both ways together, it is cut; None: never."""
        self.cuts = 0
        self.budget = budget
        self._target = port
        self._passing = {way: asyncio.Event() for way in Direction}
        self._swallowed: set[Direction] = set()
        self._open: dict[asyncio.Task[None], _Budget] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.heal()

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self.cut()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._listener.close()

    # -- what it does to them ------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection there is, now."""
        for task, budget in self._open.items():
            # It takes the task some turns of the loop to end: nothing is to pass meanwhile.
            budget.end()
            task.cancel()

    def stall(self, *ways: Direction) -> None:
        """Let nothing pass until `heal`; nothing is lost."""
        for way in ways or BOTH:
            self._passing[way].clear()

    def swallow(self, *ways: Direction) -> None:
        """Read everything, pass on nothing, not even that an end has closed: a pulled cable.

        What was swallowed never comes, so `heal` leaves such a connection with a hole in its
        bytes: `cut` it first.
        """
        self._swallowed.update(ways or BOTH)

    def heal(self) -> None:
        """Let everything pass from now on."""
        self._swallowed.clear()
        for passing in self._passing.values():
            passing.set()

    # -- the connections -----------------------------------------------------------------------

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        budget = _Budget(self.budget())
        task = asyncio.create_task(self._serve(client, budget))
        self._open[task] = budget
        task.add_done_callback(partial(self._end, client))

    def _end(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """A connection is over, though it be cut before it was served at all."""
        del self._open[task]
        _reset(client)

    async def _serve(self, client: socket.socket, budget: _Budget) -> None:
        server = socket.socket()
        server.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self._target))
            await self._exchange(client, server, budget)
        except OSError:
            pass  # as the ends of the connection will see
        finally:
            _reset(server)

    async def _exchange(
        self, client: socket.socket, server: socket.socket, budget: _Budget
    ) -> None:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(client, server, Direction.TO_SERVER, budget))
                tasks.create_task(self._pump(server, client, Direction.TO_CLIENT, budget))
        except* _Cut:
            self.cuts += 1
        except* OSError:
            pass

    async def _pump(
        self, source: socket.socket, to: socket.socket, way: Direction, budget: _Budget
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._read(source, way):
            await self._passing[way].wait()
            if way not in self._swallowed:
                await loop.sock_sendall(to, budget.take(data))
                if budget.spent:
                    raise _Cut
        to.shutdown(socket.SHUT_WR)

    async def _read(self, source: socket.socket, way: Direction) -> bytes:
        """What comes next, or nothing once there is no more; to be swallowed that never ends."""
        try:
            data = await asyncio.get_running_loop().sock_recv(source, _CHUNK)
        except OSError:
            if way not in self._swallowed:
                raise
            data = b""
        if not data and way in self._swallowed:
            await asyncio.get_running_loop().create_future()
        return data
