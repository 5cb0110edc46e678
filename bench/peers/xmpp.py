"""What the XMPP servers have in common: who connects to them, and how one is started."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.load import Client, Unmeasurable
from bench.processes import SERVER_CORE, end, start

HOST: Final = "localhost"
ROOMS: Final = f"conference.{HOST}"
START_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.05

_ROOM: Final = f"everybody@{ROOMS}"


class XmppServer(NamedTuple):
    """A server that runs, without TLS; it lets everybody in, and each may enter each room."""

    name: str
    version: str
    pid: int
    port: int
    dialect: str = "xmpp"

    def crowd(self, count: int) -> list[Client]:
        """So many users in one room, of whom the first writes to it."""
        first, *others = (f"{_user(n)} {_ROOM}" for n in range(count))
        return [Client(first, f"type='groupchat' to='{_ROOM}'"), *map(Client, others)]

    def pairs(self, count: int) -> list[Client]:
        """So many users who write, each to one who doesn't."""
        return [
            client
            for n in range(count)
            for client in (
                Client(_user(2 * n), f"type='chat' to='{_user(2 * n + 1)}'"),
                Client(_user(2 * n + 1)),
            )
        ]


def _user(number: int) -> str:
    return f"user-{number}@{HOST}"


@contextmanager
def started(
    name: str, command: Sequence[str], port: int, log: Path, hello: re.Pattern[str]
) -> Iterator[XmppServer]:
    """The server that ``command`` starts, until the context ends.

    ``hello`` matches what ``log`` has once it has started; its only group is the version.
    """
    process = start(command, SERVER_CORE, log)
    try:
        version = _version(name, process, log, hello)
        _wait_until_listening(name, process, port, log)
        yield XmppServer(name, version, process.pid, port)
    finally:
        end(process)


def _version(name: str, process: subprocess.Popen[str], log: Path, hello: re.Pattern[str]) -> str:
    for _ in _waiting(name, process, log):
        if found := hello.search(_text(log)):
            return found[1]
    raise AssertionError("waiting ends by raising")


def _wait_until_listening(name: str, process: subprocess.Popen[str], port: int, log: Path) -> None:
    for _ in _waiting(name, process, log):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return


def _waiting(name: str, process: subprocess.Popen[str], log: Path) -> Iterator[None]:
    """Again and again; raises Unmeasurable when it takes too long, or the process has ended."""
    ends_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        yield
        time.sleep(POLL_SECONDS)
    told = _text(log)
    if process.poll() is not None and process.stdout is not None:
        told += process.stdout.read()
    raise Unmeasurable(f"{name} does not start: {told or 'it said nothing'}")


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8") if log.exists() else ""
