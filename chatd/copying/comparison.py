"""Whether two ends have the same: both are read whole, side by side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple

from chatd.copying.ahead import ahead
from chatd.copying.ends import Source
from chatd.copying.progress import OnSteps, Progress
from chatd.copying.records import Kind, Rank, kind_of, rank, to_line
from chatd.models import Record


class Tally:
    """Counts records, and has the SHA-256 of all their lines."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._digest = hashlib.sha256()

    def add(self, record: Record) -> bytes:
        """Take the next record into account; its line."""
        line = to_line(record) + b"\n"
        self.counts[kind_of(record)] += 1
        self._digest.update(line)
        return line

    @property
    def checksum(self) -> str:
        return self._digest.hexdigest()


class Difference(NamedTuple):
    """Where two ends differ: the first conversation, if it is of that kind, and how many are in
    the one and in the other."""

    kind: Kind
    conversation: str
    counts: tuple[int, int]


class Comparison(NamedTuple):
    """What both have, or else where they differ."""

    counts: Mapping[Kind, int]
    checksum: str
    differences: list[Difference]


class _Chapter(NamedTuple):
    """All records of one kind, or of one kind in one conversation."""

    rank: Rank
    kind: Kind
    size: int
    digest: bytes


async def compare(one: Source, other: Source, on_steps: OnSteps) -> Comparison:
    """Read both. Raises `CopyRefused` or `Unavailable` where that can't be."""
    left, right = Tally(), Tally()
    found: dict[Kind, str] = {}
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(aclosing(_chapters(one, left, Progress(on_steps))))
        theirs = await stack.enter_async_context(
            aclosing(_chapters(other, right, Progress(lambda _: None)))
        )
        here, there = await anext(ours, None), await anext(theirs, None)
        while here or there:
            first = min((chapter for chapter in (here, there) if chapter), key=lambda c: c.rank)
            if here != there:
                found.setdefault(first.kind, first.rank[1])
            if here and here.rank == first.rank:
                here = await anext(ours, None)
            if there and there.rank == first.rank:
                there = await anext(theirs, None)
    differences = [
        Difference(kind, conversation, (left.counts[kind], right.counts[kind]))
        for kind, conversation in found.items()
    ]
    return Comparison(left.counts, left.checksum, differences)


async def _chapters(
    end: Source, tally: Tally, progress: Progress
) -> AsyncGenerator[_Chapter, None]:
    here: Rank | None = None
    kind, size, digest = Kind.GROUP, 0, hashlib.sha256()
    async with aclosing(ahead(end.pages())) as pages:
        async for records in pages:
            for record in records:
                if rank(record) != here:
                    if here is not None:
                        yield _Chapter(here, kind, size, digest.digest())
                    here, kind = rank(record), kind_of(record)
                    size, digest = 0, hashlib.sha256()
                digest.update(tally.add(record))
                size += 1
            progress.passed(records)
    if here is not None:
        yield _Chapter(here, kind, size, digest.digest())
