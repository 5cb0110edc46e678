"""Everything of a store is taken over by another, whatever the pages; what differs is found."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from chatd.copying.comparison import Comparison, compare
from chatd.copying.copier import copy
from chatd.copying.ends import StoreEnd
from chatd.copying.reader import Cursor, Reader
from chatd.copying.records import Kind, from_line, kind_of, rank, to_line
from chatd.copying.refused import CopyRefused
from chatd.copying.served import ServedStore
from chatd.errors import Conflict, Invalid, Unavailable
from chatd.models import Message, Place, Record, RevokedToken, User
from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from tests.copies import COUNTS, everything, fill, fill_long, opened, seen
from tests.storage.samples import ANN, ANN_AND_BOB, BOB, CLUB, draft, group, user

PAGES: Final = (1, 3, 500)


def set_page(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in ("reader", "copier", "ends"):
        monkeypatch.setattr(f"chatd.copying.{module}.PAGE", size)


async def started() -> MemoryStorage:
    storage = MemoryStorage()
    await storage.start()
    return storage


async def copied(source: Storage, target: Storage, *, resume: bool = False) -> int:
    """How many steps that was."""
    steps: list[int] = []
    await copy(StoreEnd(source), StoreEnd(target), steps.append, resume=resume)
    return sum(steps)


async def compared(one: Storage, other: Storage) -> Comparison:
    return await compare(StoreEnd(one), StoreEnd(other), lambda _: None)


async def differing(one: Storage, other: Storage) -> list[tuple[str, str]]:
    """Kinds, and where they differ first."""
    return [(kind, first) for kind, first, _ in (await compared(one, other)).differences]


# -- copying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
async def test_everything_is_the_same_whatever_the_pages(
    io_loop: Any, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    set_page(monkeypatch, page)
    source, target = await started(), await started()
    await fill(source)
    assert await copied(source, target) == await StoreEnd(source).total()
    assert await seen(target) == await seen(source)
    result = await compared(source, target)
    assert result.differences == []
    assert {f"{kind}s": count for kind, count in result.counts.items()} == COUNTS
    assert (await compared(target, target)).checksum == result.checksum


@pytest.mark.mongod
async def test_from_one_kind_of_store_to_another_and_back(
    io_loop: Any, mongo_url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        urls = ("sqlite:first.db", mongo_url, "sqlite:back.db", "memory:")
        stores = [await stack.enter_async_context(opened(url, tmp_path)) for url in urls]
        await fill(stores[0])
        first = await seen(stores[0])
        for source, target in pairwise(stores):
            await copied(source, target)
            assert await seen(target) == first
            assert (await compared(source, target)).differences == []
            assert await target.epoch() != await source.epoch()
            assert await target.check() == []


async def test_users_come_last_and_each_record_as_a_line_of_its_own(io_loop: Any) -> None:
    source = await started()
    await fill(source)
    records = [record async for page in StoreEnd(source).pages() for record in page]
    assert [rank(record) for record in records] == sorted(rank(record) for record in records)
    assert isinstance(records[-1], User)
    for record in records:
        line = to_line(record)
        assert b"\n" not in line
        assert to_line(from_line(line)) == line


@pytest.mark.parametrize("page", PAGES)
async def test_a_walk_goes_on_wherever_it_was_left(
    io_loop: Any, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    set_page(monkeypatch, page)
    source = await started()
    await fill(source)
    expected = [record async for records in StoreEnd(source).pages() for record in records]
    found: list[Record] = []
    at: Cursor | None = Cursor()
    while at is not None:
        # As text, and by a reader that knows nothing of the ones before.
        at = msgspec.json.decode(msgspec.json.encode(at), type=Cursor)
        records, at = await Reader(source).page(at)
        found += records
    assert found == expected


async def test_an_empty_store_is_copied_as_well(io_loop: Any) -> None:
    source, target = await started(), await started()
    assert await copied(source, target) == 0
    assert (await compared(source, target)).differences == []
    assert await StoreEnd(target).is_empty()


async def test_a_store_with_a_hole_is_not_copied(io_loop: Any, tmp_path: Path) -> None:
    async with opened("sqlite:chatd.db", tmp_path) as source:
        for seq in (1, 3):
            await source.load([Message(str(seq), CLUB, seq, ANN, "text", 1)])
        with pytest.raises(CopyRefused, match="g:club has message 3 where 2 should be"):
            await copied(source, await started())


# -- going on with a copy that broke off -----------------------------------------------------------


class Breaking(StoreEnd):
    """A target whose store is out after so many pages, of the last of which it has a part."""

    def __init__(self, storage: Storage, pages: int) -> None:
        super().__init__(storage)
        self._pages = pages

    async def load(self, records: Sequence[Record]) -> None:
        if self._pages == 0:
            # What is written in no order may have come to any part of it.
            await super().load(records[::3])
            raise Unavailable("the store is out")
        self._pages -= 1
        await super().load(records)


@pytest.mark.parametrize("pages", range(0, 60, 4))
async def test_a_copy_that_broke_off_goes_on(
    io_loop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pages: int
) -> None:
    """Seen to fail with what lies in front of the last message taken for whole."""
    set_page(monkeypatch, 10)
    source = await started()
    await fill(source)
    async with opened("sqlite:chatd.db", tmp_path) as target:
        with pytest.raises(Unavailable):
            await copy(StoreEnd(source), Breaking(target, pages), lambda _: None, resume=False)
        assert (await compared(source, target)).differences
        await copied(source, target, resume=True)
        assert await seen(target) == await seen(source)


class Counting(StoreEnd):
    """A target that counts what it is given."""

    loaded = 0

    async def load(self, records: Sequence[Record]) -> None:
        self.loaded += sum(isinstance(record, Message) for record in records)
        await super().load(records)


async def test_what_is_there_is_not_written_again(io_loop: Any) -> None:
    source, target = await started(), await started()
    await fill_long(source, 3000)
    await copied(source, target)
    again = Counting(target)
    await copy(StoreEnd(source), again, lambda _: None, resume=True)
    assert again.loaded == 3, "the last one of each conversation"


async def test_a_store_that_is_another_one_is_not_gone_on_with(io_loop: Any) -> None:
    source, target = await started(), await started()
    await source.append([draft(), draft()])
    await target.append([draft(), draft()])
    before = await seen(target)
    with pytest.raises(CopyRefused, match=r"message 2 of u:ann@example\.org bob"):
        await copied(source, target, resume=True)
    assert await seen(target) == before


@pytest.mark.parametrize("blank", [False, True])
async def test_what_has_another_name_at_the_source_now_is_no_part_of_the_copy(
    io_loop: Any, durable_url: str, tmp_path: Path, blank: bool
) -> None:
    """Seen to fail with the conflict taken for a store that can't be reached."""
    source = await started()
    await fill(source)
    async with opened(durable_url, tmp_path) as target:
        await copied(source, target)
        before = await seen(target)
        await source.reassign(ANN_AND_BOB, ANN, "erased-1@erased.invalid", blank=blank)
        with pytest.raises(CopyRefused, match=r"no part of this copy: .*; copy to an empty place"):
            await copied(source, target, resume=True)
        assert [one for one in await seen(target) if "u:" in one] == [
            one for one in before if "u:" in one
        ]


# -- comparing -------------------------------------------------------------------------------------

CHANGES: Final[list[tuple[Record, tuple[str, str]]]] = [
    (Message("id", CLUB, 2, BOB, "other", 2), ("message", "g:club")),
    (Message("id", CLUB, 2, BOB, "text", 2, read_at=5), ("message", "g:club")),
    (Message("id", CLUB, 2, BOB, "text", 2, client_id="c"), ("message", "g:club")),
    (Message("new", CLUB, 3, BOB, "text", 2), ("message", "g:club")),
    (Message("new", ANN_AND_BOB, 1, BOB, "text", 2), ("message", ANN_AND_BOB)),
    (Place(CLUB, ANN, 1, 2, 1), ("place", "g:club")),
    (Place(CLUB, BOB, 1, 0, 0), ("place", "g:club")),
    (User("1", ANN, "hash", 1, last_seen_at=2), ("user", "")),
    (User("2", BOB, "hash", 1), ("user", "")),
    (group("club", created_by=BOB), ("group", "")),
    (RevokedToken("token", 6), ("token", "")),
]


@pytest.mark.parametrize(("change", "difference"), CHANGES)
async def test_whatever_is_changed_is_found(
    io_loop: Any, change: Record, difference: tuple[str, str]
) -> None:
    """Seen to fail with marks left out of what is compared."""
    one, other = await started(), await started()
    for storage in (one, other):
        await storage.load([group("club"), User("1", ANN, "hash", 1), RevokedToken("token", 5)])
        await storage.load([Message(f"m{seq}", CLUB, seq, BOB, "text", 2) for seq in (1, 2)])
        await storage.load([Place(CLUB, ANN, 1, 1, 1)])
    assert await differing(one, other) == []
    if isinstance(change, Message) and change.id == "id":
        change = msgspec.structs.replace(change, id="m2")
    await other.load([change])
    assert await differing(one, other) == [difference]
    assert await differing(other, one) == [difference]
    result = await compared(one, other)
    (found,) = result.differences
    counts = [sum(kind_of(one) == found.kind for one in await everything(s)) for s in (one, other)]
    assert list(found.counts) == counts
    assert result.checksum != (await compared(other, one)).checksum


async def test_the_first_conversation_that_differs_is_named(io_loop: Any) -> None:
    one, other = await started(), await started()
    for name in ("a", "b", "c"):
        for storage in (one, other):
            await storage.load([group(name)])
    for name in ("b", "c"):
        await other.append([draft(msgspec.convert(f"g:{name}", str))])  # type: ignore[arg-type]
    assert await differing(one, other) == [("message", "g:b")]


# -- the store of a running server -----------------------------------------------------------------


async def told() -> None:
    pass


async def test_a_server_in_memory_takes_a_copy_over_as_long_as_it_has_no_users(
    io_loop: Any,
) -> None:
    """Seen to fail with users taken for no obstacle."""
    target = await started()
    heard: list[int] = []

    async def on_tokens_revoked() -> None:
        heard.append(len(await target.revoked_tokens(0)))

    served = ServedStore(target, on_tokens_revoked=on_tokens_revoked)
    assert (await served.info()).empty
    await served.load([to_line(group("club")).decode()])
    assert heard == []
    await served.load([to_line(RevokedToken("token", 5)).decode()])
    assert heard == [1]
    for email in (ANN, BOB):
        await served.load([to_line(user(email)).decode()])
    with pytest.raises(Conflict, match="there are users on the server already"):
        await served.load([to_line(group("late")).decode()])
    assert not (await served.info()).empty
    with pytest.raises(Invalid, match="lines can't be taken over"):
        await served.load(["{}"])


async def test_a_server_with_a_store_that_lasts_is_written_to_by_nobody_else(
    io_loop: Any, tmp_path: Path
) -> None:
    async with opened("sqlite:chatd.db", tmp_path) as storage:
        served = ServedStore(storage, on_tokens_revoked=told)
        assert not (await served.info()).in_memory
        with pytest.raises(Conflict, match="without the server only"):
            await served.load([to_line(group("club")).decode()])


# -- reading ahead ---------------------------------------------------------------------------------


class Failing(StoreEnd):
    """A source that is out after the first page."""

    async def pages(self) -> AsyncGenerator[list[Record], None]:
        yield [group("club")]
        raise Unavailable("the store is out")


async def test_a_source_that_fails_ends_the_copy(io_loop: Any) -> None:
    source, target = await started(), await started()
    with pytest.raises(Unavailable, match="the store is out"):
        await copy(Failing(source), StoreEnd(target), lambda _: None, resume=False)
    assert [kind_of(one) for one in await everything(target)] == [Kind.GROUP]
