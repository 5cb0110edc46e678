"""Processes that are measured, and those that measure them: each kind on a core of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
LOOK_SECONDS: Final = 0.02


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside runs on this core only, with all its threads.

    On a machine with one core, or on a system that can't say, it runs wherever there is one.
    """
    if not hasattr(os, "sched_setaffinity") or not {SERVER_CORE, LOAD_CORE} <= _cores():
        yield
        return
    before = _cores()
    # Not from inside the new process: Go for one counts its cores on its first step.
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cores() -> set[int]:
    return os.sched_getaffinity(0)


def start(command: Sequence[str], core: int, log: Path | None = None) -> subprocess.Popen[str]:
    """A process on that core, with pipes for its input and its output.

    What it says on standard error goes to ``log``, without one to where ours goes.
    """
    with ExitStack() as stack:
        errors = None if log is None else stack.enter_context(log.open("a"))
        stack.enter_context(on_core(core))
        return subprocess.Popen(  # noqa: S603 - the commands are this package's own
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )


def end(process: subprocess.Popen[str]) -> None:
    """Leave nothing behind."""
    process.terminate()
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def cpu_seconds(pid: int) -> float:
    """The processor time that the process has used so far, all its threads together."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def exact_cpu_seconds(pid: int) -> float:
    """The same to the nanosecond, where the system has a clock of each process's own (Linux)."""
    if sys.platform != "linux":
        return cpu_seconds(pid)
    # As glibc's clock_getcpuclockid makes it, which Python does not give.
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """How much memory the process has in RAM."""
    return int(psutil.Process(pid).memory_info().rss)


@contextmanager
def highest_resident(pid: int) -> Iterator[Callable[[], int]]:
    """Watch the process's memory; what is given tells the most it had so far, in bytes."""
    highest, ended = resident_bytes(pid), threading.Event()

    def look() -> None:
        nonlocal highest
        while not ended.wait(LOOK_SECONDS):
            highest = max(highest, resident_bytes(pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: highest
    finally:
        ended.set()
        looking.join()


def allow_sockets(count: int) -> int:
    """Let this process and those it starts have this many files open; how many it may have.

    The system may allow fewer: only root raises the hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return soft
    for highest in (max(hard, count), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, highest), highest))
        except (ValueError, OSError):
            continue
        return min(count, highest)
    return soft
