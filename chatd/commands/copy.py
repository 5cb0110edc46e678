"""``chatd copy``: everything of one store to another."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

import click

from chatd.commands.ends import Ends, check_url
from chatd.commands.options import (
    BAD_SETTINGS,
    FAILED,
    as_json,
    fail,
    load_or_fail,
    origins,
    settings_options,
    tell,
)
from chatd.copying.comparison import Comparison, Difference, compare
from chatd.copying.copier import copy as copy_all
from chatd.copying.ends import Source
from chatd.copying.progress import OnSteps
from chatd.copying.records import Kind
from chatd.copying.refused import CopyRefused
from chatd.errors import Unavailable
from chatd.storage.refused import StorageRefused

_PLURALS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.USER: "users",
        Kind.GROUP: "groups",
        Kind.MESSAGE: "messages",
        Kind.PLACE: "places",
        Kind.TOKEN: "tokens",
    }
)
_AGAIN: Final = MappingProxyType(
    {
        "dump": "nothing is in that place: give the same command again",
        "memory": "start the server anew, and give the same command again",
    }
)
_RESUME: Final = "what is there is not whole: the same command with --resume goes on with it"


@click.command()
@click.option("--from", "source", metavar="URL", required=True, help="What to copy.")
@click.option("--to", "target", metavar="URL", required=True, help="An empty place for it.")
@click.option("--resume", is_flag=True, help="Go on with a copy that broke off.")
@settings_options
@as_json
def copy(source: str, target: str, resume: bool, as_json: bool, **where: Any) -> None:
    """Copy everything that a store has to another, and compare the two.

    Each URL is a store's (sqlite:PATH, PATH relative to the data folder, or
    mongodb://HOST/DATABASE); or dump:FILE, a new file with a line of JSON for each record; or
    memory:, the store of the server that runs on the data folder and keeps everything in memory.
    Such a server is copied to as long as nobody has signed up there.

    A copy that broke off is gone on with by --resume; a dump is begun anew, as it is under its
    name only when it is whole, and so is a server with a store in memory.

    At the end both are read and compared. What changes meanwhile, on a server that runs, shows
    there. The key file is no part of a store. Clients take a store that was copied for a new
    one, and load their histories again.
    """
    settings = load_or_fail(origins(**where))
    data_dir = settings.storage.data_dir
    _check(source, target, data_dir)
    work = _Copying(source, target, data_dir, resume=resume)
    try:
        result, seconds = asyncio.run(work.run())
    except (CopyRefused, StorageRefused) as error:
        fail(str(error), FAILED)
    except Unavailable as error:
        work.broke_off(error.detail)
    except KeyboardInterrupt:
        work.broke_off("ended by Ctrl-C")
    if result.differences:
        fail("\n".join([*map(_difference, result.differences), _WHY]), FAILED)
    _tell(result, seconds, settings.key_path, in_json=as_json)


def _check(source: str, target: str, data_dir: Path) -> None:
    try:
        for url in (source, target):
            check_url(url, data_dir)
    except ValueError as error:
        fail(str(error), BAD_SETTINGS)
    if source == target:
        fail("both ends of the copy are the same place", BAD_SETTINGS)


class _Copying:
    """One copy, from opening both ends to comparing them."""

    def __init__(self, source: str, target: str, data_dir: Path, *, resume: bool) -> None:
        self._source = source
        self._target = target
        self._data_dir = data_dir
        self._resume = resume
        self._has_begun = False

    async def run(self) -> tuple[Comparison, float]:
        """What it came to, and the seconds that it took."""
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            ends = Ends(self._data_dir, stack)
            source = await ends.source(self._source)
            target = await ends.target(self._target)
            resumes = self._resume and self._target_kind not in _AGAIN
            if not resumes and not await target.is_empty():
                raise CopyRefused(self._not_empty)
            self._has_begun = True
            with await _bar("Copying", source) as on_steps:
                await copy_all(source, target, on_steps, resume=resumes)
            with await _bar("Comparing", source) as on_steps:
                result = await compare(source, target, on_steps)
        return result, time.monotonic() - started

    def broke_off(self, why: str) -> NoReturn:
        """Say why, and what to do."""
        again = _AGAIN.get(self._target_kind, _RESUME)
        fail(f"{why}; {again}" if self._has_begun else why, FAILED)

    @property
    def _target_kind(self) -> str:
        return self._target.partition(":")[0]

    @property
    def _not_empty(self) -> str:
        if self._target_kind == "memory":
            return "the server has users or groups already: start it anew, and copy then"
        return (
            "what is to be copied to is not empty; if a copy to it broke off, --resume goes on"
            " with that"
        )


async def _bar(label: str, source: Source) -> AbstractContextManager[OnSteps]:
    """A progress bar where there is a terminal; what it is told of steps."""
    return _shown(label, await source.total()) if sys.stderr.isatty() else _hidden()


@contextmanager
def _shown(label: str, length: int) -> Iterator[OnSteps]:
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def _hidden() -> Iterator[OnSteps]:
    yield lambda _: None


_WHY: Final = (
    "What changed while it was copied shows here too: let nobody work on either, and copy to an"
    " empty place."
)


def _difference(found: Difference) -> str:
    one, other = found.counts
    counts = f"{one} were to be copied, {other} are there" if one != other else "not the same"
    first = f", the first of them in {found.conversation}" if found.conversation else ""
    return f"{_PLURALS[found.kind]} differ: {counts}{first}"


def _tell(result: Comparison, seconds: float, key_path: Path, *, in_json: bool) -> None:
    counts = {plural: result.counts[kind] for kind, plural in _PLURALS.items()}
    told = ", ".join(f"{count} {plural}" for plural, count in counts.items())
    text = (
        f"Copied {told} in {seconds:.1f} s. Read again, both are the same"
        f" (SHA-256 {result.checksum}).\n"
        f"The key file is no part of it: tokens stay good where the server has {key_path}."
    )
    answer = {**counts, "checksum": result.checksum, "seconds": round(seconds, 3)}
    tell(answer, text, in_json=in_json)
