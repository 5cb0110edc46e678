"""Two users who talk in a process of their own: how long each message takes from one to the other.

What a test does meanwhile with a thousand sockets would else be in the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.chat import User
from tests.e2e.faults.device import until

_ROOT = Path(__file__).parents[3]
_PERIOD_SECONDS = 0.01
"""From one message to the next, whether that one has arrived or not."""
_AT_LEAST = 10
"""Messages that something is said of."""


class Delays(NamedTuple):
    """Seconds from sending to arrival, of all messages sent within a time."""

    seconds: Sequence[float]

    def part(self, share: float) -> float:
        """What this share of the messages did not take longer than."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]

    def __str__(self) -> str:
        p50, p99, most = (1000 * self.part(share) for share in (0.5, 0.99, 1))
        return (
            f"{len(self.seconds)} live messages, p50 {p50:.1f} ms, p99 {p99:.1f}, most {most:.1f}"
        )


class Live:
    """The talk, from the server's first message on; to be entered with ``async with``."""

    def __init__(self, sender: User, receiver: User, folder: Path) -> None:
        self._talk = {
            "url": sender.chat.socket_url("/v1/ws", replay="none"),
            "sender": sender.token,
            "receiver": receiver.token,
            "to": receiver.email,
        }
        self._arrived = folder / "live.txt"
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        with self._arrived.open("w") as arrived:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", __name__, json.dumps(self._talk)],
                cwd=_ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
                stdout=arrived,
            )
        await until(lambda: self._arrived.stat().st_size)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    async def since(self, start: float) -> Delays:
        """Of what was sent from ``start`` until now, as `time.monotonic` has it."""
        now = time.monotonic()
        await until(lambda: any(sent > now for sent, _ in self._messages()))
        found = [delay for sent, delay in self._messages() if start <= sent <= now]
        assert len(found) >= _AT_LEAST, found
        return Delays(found)

    def _messages(self) -> list[tuple[float, float]]:
        """When each was sent, and how long it took."""
        lines = self._arrived.read_text().rpartition("\n")[0].splitlines()
        pairs = [line.split() for line in lines]
        return [(float(sent), float(delay)) for sent, delay in pairs]


# -- in the process of its own -----------------------------------------------------------------


async def _main(talk: dict[str, str]) -> None:
    headers = [{"Authorization": f"Bearer {talk[who]}"} for who in ("sender", "receiver")]
    url = talk["url"]
    async with (
        connect(url, additional_headers=headers[0], proxy=None) as sender,
        connect(url, additional_headers=headers[1], proxy=None) as receiver,
    ):
        await asyncio.gather(_send(sender, talk["to"]), _read(sender), _note(receiver))


async def _send(socket: ClientConnection, to: str) -> None:
    while True:
        frame = {"type": "send", "to": to, "text": repr(time.monotonic())}
        await socket.send(json.dumps(frame))
        await asyncio.sleep(_PERIOD_SECONDS)


async def _read(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


async def _note(socket: ClientConnection) -> None:
    async for data in socket:
        frame = json.loads(data)
        if frame["type"] == "message":
            sent = float(frame["text"])
            sys.stdout.write(f"{sent} {time.monotonic() - sent}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(ConnectionClosed):
        asyncio.run(_main(json.loads(sys.argv[1])))
