"""A recipient in a process of its own, an ordinary client's, which can be frozen as a phone is.

Nothing in it helps the receipts: the library below answers Pings.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.chat import User
from tests.e2e.faults.device import until

_ROOT: Final = Path(__file__).parents[3]
_RETRY_SECONDS: Final = 0.05
_READY: Final = "ready"


class Recipient:
    """A user's program, on line as long as it can; to be entered with ``async with``."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user = user
        self._told = folder / f"{user.email}.txt"
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        with self._told.open("w") as told:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", __name__, self.user.chat.socket_url("/v1/ws")],
                cwd=_ROOT,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
                    "TOKEN": self.user.token,
                },
                stdout=told,
            )
        await until(lambda: self.connections)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop it where it stands: its system takes what comes, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        while psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._process.send_signal(signal.SIGCONT)

    @property
    def connections(self) -> int:
        """How often it has come on line."""
        return self._lines().count(_READY)

    @property
    def seqs(self) -> list[int]:
        """The messages it was given, in the order in which they came."""
        return [int(line) for line in self._lines() if line != _READY]

    def _lines(self) -> list[str]:
        return self._told.read_text().rpartition("\n")[0].splitlines()


# -- in the process of its own -----------------------------------------------------------------


async def _main(url: str) -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    while True:
        try:
            async with connect(url, additional_headers=headers, proxy=None) as socket:
                async for data in socket:
                    frame = json.loads(data)
                    if frame["type"] in (_READY, "message"):
                        sys.stdout.write(f"{frame.get('seq', _READY)}\n")
                        sys.stdout.flush()
        except (WebSocketException, OSError):
            pass
        await asyncio.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
