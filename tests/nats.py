"""A real nats-server: started, frozen, killed, and started again at its address."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.mongod import free_port

START_SECONDS: Final = 20
POLL_SECONDS: Final = 0.02


def find_nats_server() -> str | None:
    """PATH's, else the one of the test extra."""
    bundled = Path(sys.prefix) / "bin" / "nats-server"
    return shutil.which("nats-server") or (str(bundled) if bundled.exists() else None)


class NatsServer:
    """One address on the loopback interface and, at times, the process behind it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.log = folder / "nats.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        command = find_nats_server()
        assert command, "there is no nats-server: install the extra `test`"
        atexit.register(self.close)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [command, "-a", "127.0.0.1", "-p", str(self.port), *self._arguments],
                stdout=log,
                stderr=log,
            )
        ends_at = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < ends_at, "nats-server does not answer"
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def freeze(self) -> None:
        """It hears and says nothing until `thaw`; its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(START_SECONDS)

    def mend(self) -> None:
        """Have it run, whatever was done to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.thaw()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            self._process.wait(START_SECONDS)
