"""Power cuts: a process killed, and with it all that no fdatasync has brought to the disk.

`kill -9` alone loses nothing that was written: the system still has it. So the server's writes are
watched, and behind its death those since the last fdatasync are undone, as a disk may do that
lost its power: the bytes are there, but they are zeros.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.e2e.faults.syscalls import watched
from tests.e2e.server import Server

_WRITE: Final = re.compile(r"pwrite64\(\d+<(?P<path>[^>]+)>, .*, (?P<length>\d+), (?P<at>\d+)")
_SYNC: Final = re.compile(r"f(?:data)?sync\(\d+<(?P<path>[^>]+)>")
_RESUMED: Final = re.compile(r"<\.\.\. f(?:data)?sync resumed>\) = 0")


class _Written(NamedTuple):
    at: int
    length: int


@contextmanager
def power_cut(server: Server, *, fault: str = "") -> Iterator[None]:
    """Inside, the server is to be killed, or killed by a ``fault`` in one of its calls."""
    output = server.data_dir / "calls.txt"
    with watched(server, "pwrite64,fdatasync,fsync", output, fault=fault):
        yield
        server.process.wait(20)
    for path, writes in _unsynced(output.read_text().splitlines()).items():
        _undo(path, writes)


def _unsynced(lines: list[str]) -> dict[Path, list[_Written]]:
    """What was written to each file since its last sync that has ended, as strace tells it.

    A call that another thread's call interrupts is told in two lines.
    """
    written: dict[Path, list[_Written]] = defaultdict(list)
    syncing: dict[str, Path] = {}
    for line in lines:
        thread = line.split(maxsplit=1)[0]
        if found := _WRITE.search(line):
            path = Path(found["path"])
            written[path].append(_Written(int(found["at"]), int(found["length"])))
        elif found := _SYNC.search(line):
            syncing[thread] = Path(found["path"])
            if line.endswith(") = 0"):
                written.pop(syncing[thread], None)
        elif _RESUMED.search(line):
            written.pop(syncing[thread], None)
    return written


def _undo(path: Path, writes: list[_Written]) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        for at, length in writes:
            file.seek(at)
            file.write(bytes(max(0, min(length, size - at))))
