"""How fast the stores are beside each other: ``python -m bench.storage --help`` in the checkout."""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shlex
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from pymongo.errors import PyMongoError

from bench.report import comparison, machine
from bench.rounds import CPU, MEDIAN, P99, RATES, Operation, Rounds, measure_all
from bench.stores import STORES, Store, mongod, mongod_version, opened
from bench.traffic import MEMBERS, Traffic, conversations
from chatd.errors import Unavailable
from chatd.models import (
    Conversation,
    Draft,
    Group,
    Mark,
    ReceiptKind,
    Stored,
    group_conversation,
    group_of,
    now_ms,
)
from chatd.storage.base import Storage
from chatd.storage.refused import StorageRefused

BASELINE: Final = "sqlite"
PARTS: Final = ("appends", "reads", "undelivered")

APPENDS: Final[Mapping[int, int]] = {1: 500, 10: 200, 100: 100, 1000: 20}
"""How many batches of each size a round appends."""

FILL_BATCH: Final = 1000
READS: Final = 500
RECONNECTS: Final = 20
"""How many a round has."""

RECONNECTING: Final = "reconnecting@example.org"


# -- what users do ---------------------------------------------------------------------------------


async def make_groups(stores: Sequence[Store], among: Sequence[Conversation], member: str) -> None:
    for _, storage, _ in stores:
        for name in filter(None, map(group_of, among)):
            await storage.create_group(Group(name, None, MEMBERS[0], now_ms()))
            await storage.join(name, member, now_ms())


def appends_of(traffic: Traffic, size: int, batches: int) -> list[Operation]:
    return [partial(append, traffic.batch(size)) for _ in range(batches)]


async def append(batch: Sequence[Draft], storage: Storage) -> int:
    outcomes = await storage.append(batch)
    assert set(map(type, outcomes)) == {Stored}, "drafts with new ids are stored"
    return len(outcomes)


async def read_last(conversation: Conversation, storage: Storage) -> int:
    return len(await storage.history(conversation, limit=50))


async def read_undelivered(storage: Storage) -> int:
    pages = [
        await storage.history(one.conversation, after_seq=one.delivered_seq, limit=100)
        for one in await storage.positions(RECONNECTING)
        if one.delivered_seq < one.last_seq
    ]
    assert [len(page) for page in pages] == [20] * 20, "what was written to one away is undelivered"
    return sum(map(len, pages))


# -- the lines of the comparison -------------------------------------------------------------------


async def appends(stores: Sequence[Store], runs: int) -> str:
    among = conversations(50, "append")
    await make_groups(stores, among, MEMBERS[1])
    traffic = Traffic(among)
    rounds = {
        f"{size:,}": await measure_all(stores, partial(appends_of, traffic, size, count), runs=runs)
        for size, count in APPENDS.items()
    }
    return comparison(("batch", "store"), rounds, RATES, BASELINE)


class Filled:
    """Stores with half of their messages in one conversation, the rest in a thousand others."""

    def __init__(self, stores: Sequence[Store], messages: int, runs: int) -> None:
        self._stores = stores
        self._runs = runs
        self._batches = max(1, messages // FILL_BATCH // 100)
        self._rounds = messages // FILL_BATCH // self._batches
        self._big = group_conversation("big")
        self._small = conversations(1000, "small")

    @property
    def messages(self) -> int:
        """As many of what was asked for as come out even."""
        return self._rounds * self._batches * FILL_BATCH

    async def fill(self) -> str:
        await make_groups(self._stores, [self._big, *self._small], MEMBERS[1])
        traffic = Traffic([one for small in self._small for one in (self._big, small)])
        make = partial(appends_of, traffic, FILL_BATCH, self._batches)
        rounds = await measure_all(self._stores, make, runs=self._rounds, warm_up=0)
        tenth = max(1, self._rounds // 10)
        shown = {
            "first tenth": {name: done[:tenth] for name, done in rounds.items()},
            "last tenth": {name: done[-tenth:] for name, done in rounds.items()},
        }
        return comparison(("part", "store"), shown, RATES, BASELINE)

    async def last(self) -> str:
        rounds = {
            "big": await self._read_last([self._big]),
            "small": await self._read_last(self._small),
        }
        return comparison(("conversation", "store"), rounds, (MEDIAN, P99, *CPU), BASELINE)

    async def _read_last(self, among: Sequence[Conversation]) -> Rounds:
        chosen = random.Random(2).choices(among, k=READS)
        operations = [partial(read_last, one) for one in chosen]
        return await measure_all(self._stores, lambda: operations, runs=self._runs)

    async def undelivered(self) -> str:
        await self._write_to_one_away()
        operations = [read_undelivered] * RECONNECTS
        rounds = await measure_all(self._stores, lambda: operations, runs=self._runs)
        cases = {"20 in 20 of 200": rounds}
        return comparison(("undelivered", "store"), cases, (MEDIAN, *CPU), BASELINE)

    async def _write_to_one_away(self) -> None:
        """Give a user 200 conversations with 10 messages, and in every tenth 20 undelivered."""
        mine = conversations(200, "mine", RECONNECTING)
        await make_groups(self._stores, mine, RECONNECTING)
        delivered = Traffic(mine).batch(10 * len(mine))
        undelivered = Traffic(mine[::10]).batch(20 * len(mine[::10]))
        marks = [Mark(one, RECONNECTING, ReceiptKind.DELIVERED, 10, now_ms()) for one in mine]
        for _, storage, _ in self._stores:
            await append(delivered, storage)
            await storage.advance(marks)
            await append(undelivered, storage)


async def tables(
    options: argparse.Namespace, folder: Path, mongo_url: str | None
) -> AsyncIterator[str]:
    only, runs = options.only, options.runs

    async def open_all(stack: AsyncExitStack) -> list[Store]:
        return [
            await stack.enter_async_context(opened(name, folder, mongo_url))
            for name in options.stores
        ]

    if only in {None, "appends"}:
        async with AsyncExitStack() as stack:
            yield "### Appends of 200-byte messages to 50 conversations"
            yield await appends(await open_all(stack), runs)
    if only != "appends":
        async with AsyncExitStack() as stack:
            filled = Filled(await open_all(stack), options.messages, runs)
            yield f"### Filling with {filled.messages:,} messages, {FILL_BATCH:,} at a time"
            yield await filled.fill()
            if only in {None, "reads"}:
                yield "### The last 50 messages of a conversation"
                yield await filled.last()
            if only in {None, "undelivered"}:
                yield "### What a user missed who is back"
                yield await filled.undelivered()


# -- the command line ------------------------------------------------------------------------------


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.storage", description="Compare the stores' speed."
    )
    parser.add_argument(
        "--messages",
        type=partial(whole, FILL_BATCH),
        default=1_000_000,
        help="how many the stores of the reads hold, in thousands (default: 1000000)",
    )
    parser.add_argument(
        "--runs",
        type=partial(whole, 1),
        default=5,
        help="of each figure, behind a warm-up (default: 5)",
    )
    parser.add_argument("--only", choices=PARTS, help="one part of the comparison")
    parser.add_argument(
        "--stores", type=named, default=STORES, help=f"some of {','.join(STORES)} (default: all)"
    )
    parser.add_argument(
        "--mongo",
        metavar="URL",
        help="a MongoDB that runs already, instead of one made for this; databases of its own are "
        "made there and dropped. The URL's user may do that, and may call serverStatus",
    )
    return parser.parse_args(arguments)


def whole(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} on")
    return int(text)


def named(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := set(names) - set(STORES):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))} is none of the stores {', '.join(STORES)}"
        )
    return names


def heading(arguments: Sequence[str], mongo_url: str | None, folder: Path) -> str:
    # A MongoDB's URL may hold a password.
    shown = [re.sub("mongodb.*://.*", "URL", one) for one in arguments]
    mongodb = f", MongoDB {mongod_version(mongo_url)}" if mongo_url else ""
    return (
        f"{shlex.join(['python', '-m', 'bench.storage', *shown])}\n"
        f"{machine(folder)}, SQLite {sqlite3.sqlite_version}{mongodb}\n\n"
        "Medians of the runs (least–most). × is the ratio to SQLite's figure in the same run. CPU "
        '"here" is that of this process, SQLite itself included; mongod\'s is beside it.'
    )


async def compare(options: argparse.Namespace, folder: Path, mongo_url: str | None) -> None:
    async for text in tables(options, folder, mongo_url):
        print(f"\n{text}", flush=True)


def main(arguments: Sequence[str]) -> None:
    options = parsed(arguments)
    # Whoever ends this by SIGTERM wants no server left behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatd-bench-")))
            mongo_url = None
            if "mongodb" in options.stores:
                mongo_url = options.mongo or stack.enter_context(mongod(folder))
            print(heading(arguments, mongo_url, folder), flush=True)
            asyncio.run(compare(options, folder, mongo_url))
    except (PyMongoError, StorageRefused, Unavailable) as error:
        # The driver's sentence goes on with all its options.
        sys.exit(f"bench.storage: {str(error).partition(' (configured timeouts')[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
