"""A running server's system calls, watched and made to fail by strace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.server import Server


@contextmanager
def injected(server: Server, calls: str, fault: str, *, path: Path | None = None) -> Iterator[None]:
    """While inside, ``calls`` (names with commas) of all the server's threads have the ``fault``.

    It is written as strace's manual has it under "Tampering": "error=EIO", "signal=KILL:when=3".
    ``path``: only calls that concern this file have it.
    """
    options = [f"--trace={calls}", f"--inject={calls}:{fault}", "--output=/dev/null"]
    with _attached(server, *options, *([f"--trace-path={path}"] if path else [])):
        yield


@contextmanager
def watched(server: Server, calls: str, output: Path, *, fault: str = "") -> Iterator[None]:
    """While inside, ``calls`` of all the server's threads are written to a file, with the paths
    of their descriptors. ``fault``: what to inject, and into which of them, as in `injected`."""
    options = [f"--trace={calls}", "--decode-fds=path", "--string-limit=0", f"--output={output}"]
    with _attached(server, *options, *([f"--inject={fault}"] if fault else [])):
        yield


@contextmanager
def _attached(server: Server, *options: str) -> Iterator[None]:
    tracer = subprocess.Popen(
        ["strace", "--follow-forks", f"--attach={server.process.pid}", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    assert "attached" in said, said
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)
        tracer.stderr.close()
