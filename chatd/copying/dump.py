"""Dumps: everything of a store in one file, a line of JSON for each record.

The first line says what it is, the last one how many records stand between and the SHA-256 of
their lines. A file without that last line is not whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import closing, suppress
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from chatd.copying.comparison import Tally
from chatd.copying.progress import Progress
from chatd.copying.records import PAGE, Order, from_line
from chatd.copying.refused import CopyRefused
from chatd.errors import Unavailable
from chatd.models import Conversation, Message, Record, now_ms, rfc3339

FORMAT: Final = 1
_LONGEST: Final = 1 << 26
"""Bytes of a line; a message is that of a frame at most, which is far less."""

_END: Final = b'{"kind":"end"'


class _Head(msgspec.Struct, tag="chatd dump", tag_field="kind"):
    format: int
    made_at: str


class _End(msgspec.Struct, tag="end", tag_field="kind"):
    records: int
    checksum: str


class DumpReader:
    """A dump that is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total: int | None = None

    async def check(self) -> None:
        """Read all of it, and raise `CopyRefused` with the line where something is wrong."""
        self._total = await asyncio.to_thread(_steps, self._path)

    async def pages(self) -> AsyncGenerator[list[Record], None]:
        with closing(_records(self._path)) as records:
            while page := await asyncio.to_thread(lambda: list(islice(records, PAGE))):
                yield page

    async def total(self) -> int:
        if self._total is None:
            await self.check()
        return self._total or 0


class DumpWriter(DumpReader):
    """A dump that is being made: under its name once it is whole, and on the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._aside = path.with_name(path.name + ".part")
        self._file: BinaryIO | None = None
        self._tally = Tally()

    def open(self) -> None:
        """Begin it, over what an earlier one that broke off has left."""
        try:
            self._aside.unlink(missing_ok=True)
            handle = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise self._refused(error) from None
        self._file = os.fdopen(handle, "wb")
        self._write(msgspec.json.encode(_Head(FORMAT, rfc3339(now_ms()))) + b"\n")

    async def is_empty(self) -> bool:
        return not self._path.exists()

    async def last_messages(self, conversation: Conversation) -> list[Message]:
        """Nothing of a dump that broke off is used."""
        return []

    async def load(self, records: Sequence[Record]) -> None:
        await asyncio.to_thread(self._add, records)

    def _add(self, records: Sequence[Record]) -> None:
        self._write(b"".join(map(self._tally.add, records)))

    def _write(self, lines: bytes) -> None:
        assert self._file is not None, "the dump is not open"
        try:
            self._file.write(lines)
        except OSError as error:
            raise self._refused(error) from None

    async def finish(self) -> None:
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        end = _End(self._tally.counts.total(), self._tally.checksum)
        self._write(msgspec.json.encode(end) + b"\n")
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._aside.rename(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise self._refused(error) from None

    def close(self) -> None:
        """Let go of the file; where it isn't whole, leave nothing behind."""
        if self._file is None:
            return
        with suppress(OSError):  # what could not be written was told before
            self._file.close()
        self._aside.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> Unavailable:
        return Unavailable(f"{self._path} can't be written: {error.strerror or error}")


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# -- reading: all of this blocks -------------------------------------------------------------------


def _steps(path: Path) -> int:
    """How many steps through the dump `Progress` counts; reads all of it."""
    counted: list[int] = []
    progress = Progress(counted.append)
    with closing(_records(path)) as records:
        while page := list(islice(records, PAGE)):
            progress.passed(page)
    return sum(counted)


def _records(path: Path) -> Generator[Record, None, None]:
    """Everything in the file. Raises `CopyRefused` where something is wrong with it."""
    number = 1
    try:
        with path.open("rb") as file:
            _begin(_line(file))
            order, digest = Order(), hashlib.sha256()
            for number in count(2):
                line = _line(file)
                if line.startswith(_END):
                    _end(line, number - 2, digest.hexdigest(), file.read(1))
                    return
                record = from_line(line)
                order.check(record)
                digest.update(line)
                yield record
    except ValueError as error:
        raise CopyRefused(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise CopyRefused(f"{path} can't be read: {error.strerror or error}") from None


def _line(file: BinaryIO) -> bytes:
    line = file.readline(_LONGEST)
    if not line:
        raise ValueError("the file ends here, before its end: it is not whole")
    if not line.endswith(b"\n"):
        raise ValueError("the line breaks off, or is too long")
    return line


def _begin(line: bytes) -> None:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.DecodeError:
        raise ValueError("this is no dump of chatd's") from None
    if head.format != FORMAT:
        raise ValueError(f"a dump of format {head.format}; this chatd reads {FORMAT}")


def _end(line: bytes, records: int, checksum: str, behind: bytes) -> None:
    end = msgspec.json.decode(line, type=_End)
    if behind:
        raise ValueError("the end of the dump is not the end of the file")
    if end.records != records:
        raise ValueError(f"there should be {end.records} records, and there are {records}")
    if end.checksum != checksum:
        raise ValueError("the checksum is another one: something was changed since")
