"""The line between one server and NATS, which can lose single messages, be cut, and be mended.

It runs in a thread of its own: the servers of a test file outlast the loop of each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Final

_START_SECONDS: Final = 20
_LONGEST_LINE: Final = 1 << 20

Loses = Callable[[str], bool]
"""Whether a message to this subject is lost on its way to the server."""


def nothing(subject: str) -> bool:
    """Loses nothing."""
    return False


def everything(subject: str) -> bool:
    """Loses every message, while both ends believe that all is well."""
    return True


class Line:
    """An address on the loopback interface that leads to NATS."""

    def __init__(self, nats_port: int) -> None:
        self.loses: Loses = nothing
        self.lost = 0
        self._nats_port = nats_port
        self._whole = True
        self._open: set[StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self._listener = listening.result(_START_SECONDS)
        self.port: int = self._listener.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_LINE)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    # -- what it does --------------------------------------------------------------------------

    def cut(self) -> None:
        """End the connection there is, and take none until `mend`."""
        self._whole = False
        self._loop.call_soon_threadsafe(self._drop_all)

    def mend(self) -> None:
        """Let connections be made, and lose nothing, from now on."""
        self.loses = nothing
        self._whole = True

    def close(self) -> None:
        """Leave nothing behind."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

    async def _close(self) -> None:
        self._listener.close()
        self._drop_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _drop_all(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    # -- its connections -----------------------------------------------------------------------

    async def _serve(self, from_chatd: StreamReader, to_chatd: StreamWriter) -> None:
        if not self._whole:
            to_chatd.transport.abort()
            return
        writers = {to_chatd}
        self._open.add(to_chatd)
        try:
            from_nats, to_nats = await asyncio.open_connection(
                "127.0.0.1", self._nats_port, limit=_LONGEST_LINE
            )
            writers.add(to_nats)
            self._open.add(to_nats)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(from_chatd, to_nats))
                tasks.create_task(self._deliver(from_nats, to_chatd))
        except* (OSError, asyncio.IncompleteReadError, _End):
            pass
        finally:
            self._open -= writers
            for writer in writers:
                writer.transport.abort()

    async def _deliver(self, source: StreamReader, to: StreamWriter) -> None:
        """What NATS says, but for what is lost of it."""
        while line := await source.readline():
            said = line
            if line.startswith(b"MSG "):
                words = line.split()
                said += await source.readexactly(int(words[-1]) + 2)
                if self.loses(words[1].decode()):
                    self.lost += 1
                    continue
            to.write(said)
            await to.drain()
        raise _End


class _End(Exception):
    """An end of the connection has closed."""


async def _pass_on(source: StreamReader, to: StreamWriter) -> None:
    while data := await source.read(65_536):
        to.write(data)
        with contextlib.suppress(ConnectionError):
            await to.drain()
    raise _End
