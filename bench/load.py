"""The load generator: compiled on first use, started, and read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from bench.processes import LOAD_CORE, end, start

SOURCES: Final = Path(__file__).with_name("generator")
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


class Unmeasurable(Exception):
    """Why a benchmark can't be run, or what went wrong in it, in a sentence for people."""


class NoCompiler(Unmeasurable):
    """The generator in C can't be had here."""


class Client(NamedTuple):
    """``path``: the handshake's request target. ``target``: JSON members that name whom it
    writes to, as ``"group":"g"``; one without only listens. That is so for chatd; what the two
    are to another server says the file of its dialect in ``generator``. ``port``: of a server of
    its own, where the load's clients are not all of one."""

    path: str
    target: str = ""
    port: int | None = None

    @property
    def line(self) -> str:
        """As ``generator/main.c`` reads it."""
        own_port = "" if self.port is None else f"\t{self.port}"
        return f"{self.path}\t{self.target}{own_port}\n"


class Counted(msgspec.Struct, frozen=True):
    """What the generator counted in its window of ``seconds``, all clients together.

    ``written`` are the messages it wrote, ``sent`` and ``receipted`` those of them that it was
    told are stored and delivered; ``received`` are the copies that arrived. Latencies, in
    milliseconds, are of the ``timed`` copies of what was written in the window. ``acked`` are all
    that it was ever told are stored, before and behind the window too.
    """

    seconds: float
    written: int
    sent: int
    received: int
    receipted: int
    pings: int
    gaps: int
    errors: int
    unanswered: int
    timed: int
    acked: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Ready(msgspec.Struct, frozen=True):
    """All clients are connected: in so many ``seconds``, with ``received`` messages replayed."""

    seconds: float
    received: int
    gaps: int


class _Event(msgspec.Struct, frozen=True):
    event: str


def compiled() -> Path:
    """The generator's program, made where this version of it is not in the cache."""
    files = sorted(SOURCES.glob("*.[ch]"))
    code = hashlib.sha256(b"".join(one.read_bytes() for one in files))
    name = f"load-{code.hexdigest()[:16]}"
    program = _cache() / name
    if program.exists():
        return program
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise NoCompiler(
            "the load generator is written in C, and there is no compiler on the PATH: "
            "install one that is called cc, gcc or clang (Debian: apt install gcc libc6-dev)"
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        fresh = Path(folder) / name
        done = subprocess.run(  # noqa: S603 - our own source, by the system's compiler
            [compiler, *FLAGS, "-o", str(fresh), *map(str, SOURCES.glob("*.c"))],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unmeasurable(f"{compiler} can't compile {SOURCES}:\n{done.stderr}")
        fresh.replace(program)
    return program


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chatd-bench"


class Generator(NamedTuple):
    """What makes the load; ``told`` says of one in a sentence why its figures are not those of
    others, ``dialects`` what it speaks, None for all."""

    command: Sequence[str]
    told: str = ""
    dialects: Sequence[str] | None = None

    def speaks(self, dialect: str) -> bool:
        return self.dialects is None or dialect in self.dialects


def generator() -> Generator:
    """The one in C; in Python, where that can't be had."""
    try:
        return Generator([str(compiled())])
    except NoCompiler:
        return Generator(
            [sys.executable, "-m", "bench.slow_load"],
            "Load generator: Python, as there is no C compiler; it is slower, so the figures of "
            "latency and of what is taken per second are its own as well. Servers that don't speak "
            "chatd's dialect are left out.",
            ("chatd",),
        )


class Load:
    """Clients of one server, while they are connected."""

    def __init__(self, port: int, clients: Sequence[Client], **options: str | float) -> None:
        """``options`` are those of ``generator/main.c``."""
        named = [f"{name}={value}" for name, value in options.items()]
        self._process = start([*generator().command, str(port), *named], LOAD_CORE)
        lines = "".join(one.line for one in clients)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{lines}\n")
            self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def ready(self) -> Ready:
        """Return once every client is connected, and has what it missed."""
        return msgspec.json.decode(self._line("ready"), type=Ready)

    def begun(self) -> None:
        """Return when the measured window begins."""
        self._line("begin")

    def stopped(self) -> None:
        """Return when the measured window ends."""
        self._line("stop")

    def stop(self) -> None:
        """End the window now."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def counted(self, *, limited: bool = False) -> Counted:
        """What was counted, once everything in flight has arrived.

        Only a server that is ``limited`` may refuse messages, or it can't be measured.
        """
        counted = msgspec.json.decode(self._line("end"), type=Counted)
        if counted.errors and not limited:
            raise Unmeasurable(f"the server refused {counted.errors} messages")
        return counted

    def _line(self, event: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unmeasurable("the load generator broke off; it said why on standard error")
        found = msgspec.json.decode(line, type=_Event).event
        assert found == event, f"the generator says {found} where {event} comes"
        return line
