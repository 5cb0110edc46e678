"""A chatd process of its own: started, ended and killed as an administrator would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.leaks import watch

START_SECONDS = 20


class Server:
    """One data folder and, at times, the process that serves it."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        storage: str = "sqlite:chatd.db",
        environment: Mapping[str, str] | None = None,
        measured: bool = False,
        unlimited: bool = False,
    ) -> None:
        """``measured``: whether its coverage counts, which makes it several times slower.
        ``unlimited``: senders may send as fast as they can."""
        self._command = [sys.executable, "-m", "chatd.cli", "--storage", storage]
        self._command += ["--data-dir", str(data_dir), *arguments]
        self._environment = {
            **{k: v for k, v in os.environ.items() if measured or not k.startswith("COVERAGE_")},
            "CHATD_LIMITS__SIGN_IN_PER_MINUTE": "0",
            **({"CHATD_LIMITS__SEND_PER_SECOND": "0"} if unlimited else {}),
            **(environment or {}),
        }
        self.storage = storage
        self.data_dir = data_dir
        self.log = data_dir / "log.txt"
        data_dir.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str]
        self.url = ""

    def start(self, port: int = 0) -> str:
        """Start it; returns the address it says it listens on."""
        self.launch(port)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("chatd: listening on http://"), self.log.read_text()
        self.url = line.split()[-1]
        return self.url

    def launch(self, port: int = 0) -> None:
        """Start its process, and don't wait for it."""
        self.close()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self._command, "--port", str(port)],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def restart(self) -> str:
        """Start it again where it was, as browsers stay at an address."""
        return self.start(int(self.url.rpartition(":")[2]))

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(START_SECONDS)

    def terminate(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)

    def freeze(self) -> None:
        """Stop it where it stands: its sockets stay open, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "process"):
            if self.process.poll() is None:
                self.thaw()
                self.terminate()
            assert self.process.stdout is not None
            self.process.stdout.close()
            watch.logged(self.log.read_text())

    def cpu_seconds(self) -> float:
        """The processor time the running process has used so far, all its threads together."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        """The memory that the running process has."""
        return int(psutil.Process(self.process.pid).memory_info().rss)
