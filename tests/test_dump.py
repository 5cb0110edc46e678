"""Dumps: whole or not there at all, for one pair of eyes, and read with care."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest

from chatd.copying.comparison import compare
from chatd.copying.copier import copy
from chatd.copying.dump import DumpReader, DumpWriter
from chatd.copying.ends import StoreEnd
from chatd.copying.refused import CopyRefused
from chatd.errors import Unavailable
from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from tests.copies import COUNTS, fill, seen
from tests.storage.samples import group


async def filled() -> Storage:
    storage = MemoryStorage()
    await storage.start()
    await fill(storage)
    return storage


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def always_full() -> BinaryIO:
    """A device that has no room (full(4))."""
    return Path("/dev/full").open("wb")


async def dumped(storage: Storage, path: Path) -> DumpWriter:
    dump = DumpWriter(path)
    dump.open()
    await copy(StoreEnd(storage), dump, lambda _: None, resume=False)
    dump.close()
    return dump


async def test_a_store_comes_back_from_a_dump_as_it_was(io_loop: Any, tmp_path: Path) -> None:
    source, target = await filled(), MemoryStorage()
    await target.start()
    dump = await dumped(source, tmp_path / "chat.dump")
    assert (await compare(StoreEnd(source), dump, lambda _: None)).differences == []
    reader = DumpReader(tmp_path / "chat.dump")
    assert await reader.total() == await StoreEnd(source).total()
    await copy(reader, StoreEnd(target), lambda _: None, resume=False)
    assert await seen(target) == await seen(source)
    assert (await compare(reader, StoreEnd(target), lambda _: None)).differences == []


async def test_it_is_lines_of_json_that_other_programs_can_read(
    io_loop: Any, tmp_path: Path
) -> None:
    path = tmp_path / "chat.dump"
    source = await filled()
    await dumped(source, path)
    lines = lines_of(path)
    head, *records, end = map(json.loads, lines)
    assert (head["kind"], head["format"]) == ("chatd dump", 1)
    kinds = [one["kind"] for one in records]
    assert {f"{kind}s": kinds.count(kind) for kind in set(kinds)} == COUNTS
    digest = hashlib.sha256(b"".join(lines[1:-1])).hexdigest()
    assert end == {"kind": "end", "records": sum(COUNTS.values()), "checksum": digest}
    result = await compare(StoreEnd(source), StoreEnd(source), lambda _: None)
    assert result.checksum == digest


async def test_it_has_its_name_only_when_it_is_whole(io_loop: Any, tmp_path: Path) -> None:
    """Seen to fail with the dump written under its name from the first."""
    path = tmp_path / "chat.dump"
    before = os.umask(0)
    try:
        dump = DumpWriter(path)
        dump.open()
    finally:
        os.umask(before)
    aside = tmp_path / "chat.dump.part"
    assert names(tmp_path) == [aside.name]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    await dump.load([group("club")])
    assert await dump.is_empty()
    dump.close()
    assert names(tmp_path) == []
    # What one that was killed has left is in nobody's way, whoever may read it.
    aside.write_text("left over")
    dump.open()
    await dump.finish()
    dump.close()
    assert names(tmp_path) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not await dump.is_empty()


async def test_what_can_not_be_written_is_told(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="can't be written: No such file or directory"):
        DumpWriter(tmp_path / "nowhere" / "chat.dump").open()
    full = DumpWriter(tmp_path / "chat.dump")
    full.open()
    assert full._file is not None
    full._file.close()
    monkeypatch.setattr(full, "_file", always_full())
    await full.load([group("club")])
    with pytest.raises(Unavailable, match="can't be written: No space left on device"):
        await full.finish()
    full.close()
    assert names(tmp_path) == []


async def refusal(path: Path) -> str:
    with pytest.raises(CopyRefused) as raised:
        await DumpReader(path).check()
    sentence = str(raised.value)
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def without_message(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if b'"seq":100,' not in line]


def changed(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    def change(lines: list[bytes]) -> list[bytes]:
        assert any(old in line for line in lines)
        return [line.replace(old, new) for line in lines]

    return change


WRONG: Final[list[tuple[Callable[[list[bytes]], list[bytes]], str]]] = [
    (lambda _: [], ", line 1: the file ends here, before its end: it is not whole"),
    (lambda _: [b"SQLite format 3\0 and more\n"], ", line 1: this is no dump of chatd's"),
    (lambda lines: lines[1:], ", line 1: this is no dump of chatd's"),
    (
        changed(b'"format":1', b'"format":2'),
        ", line 1: a dump of format 2; this chatd reads 1",
    ),
    (lambda lines: lines[:1], ", line 2: the file ends here, before its end: it is not whole"),
    (lambda lines: lines[:-1], ", line 559: the file ends here, before its end: it is not whole"),
    (lambda lines: [*lines[:9], lines[9][:-5]], ", line 10: the line breaks off, or is too long"),
    (lambda lines: [*lines, b"\n"], ", line 559: the end of the dump is not the end of the file"),
    (lambda lines: [*lines[:3], b"\n", *lines[3:]], ", line 4: Input data was truncated"),
    (lambda lines: [*lines[:3], b"\xff{}\n", *lines[3:]], ", line 4: JSON is malformed"),
    (
        lambda lines: [*lines[:-2], lines[-1]],
        ", line 558: there should be 557 records, and there are 556",
    ),
    (
        lambda lines: [*lines[:4], *lines[3:]],
        ", line 5: the message is not in its place, or comes again",
    ),
    (swapped, ", line 3: the group is not in its place, or comes again"),
    (without_message, ", line 98: g:club has message 101 where 100 should be"),
    (changed(b"text 99", b"text 98"), ", line 559: the checksum is another one"),
    (changed(b'"kind":"place"', b'"kind":"plaice"'), ": Invalid enum value 'plaice'"),
    (changed(b'"seq":100,', b'"seq":"a",'), ", line 98: Expected `int`, got `str`"),
    (changed(b'"seq":100,', b""), ", line 98: Object missing required field `seq`"),
    (changed(b'"g:club"', b'"club"'), ", line 4: 'club' is no conversation"),
    (changed(b'"g:club"', b'"u:club"'), ", line 4: 'u:club' is no conversation"),
    (changed(b'"g:club"', b'"u:b a"'), ", line 4: 'u:b a' is no conversation"),
    (changed(b'"g:club"', b'"g:"'), ", line 4: 'g:' is no conversation"),
]


@pytest.mark.parametrize(("spoil", "what"), WRONG)
async def test_a_dump_that_is_wrong_is_refused_with_its_line(
    io_loop: Any,
    tmp_path: Path,
    spoil: Callable[[list[bytes]], list[bytes]],
    what: str,
) -> None:
    path = tmp_path / "chat.dump"
    await dumped(await filled(), path)
    await DumpReader(path).check()
    path.write_bytes(b"".join(spoil(lines_of(path))))
    assert what in await refusal(path)


async def test_a_dump_that_is_not_there_is_refused(io_loop: Any, tmp_path: Path) -> None:
    assert "can't be read: No such file" in await refusal(tmp_path / "none.dump")
    assert "can't be read: Is a directory" in await refusal(tmp_path)
