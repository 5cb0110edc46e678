"""The ends of a copy, by URL: a store, a dump, or the store of the server that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from chatd.commands.run import ServerRefused, ask, reach
from chatd.copying.dump import DumpReader, DumpWriter
from chatd.copying.ends import Source, StoreEnd, Target
from chatd.copying.reader import Cursor, Page, pages
from chatd.copying.records import from_line, to_line
from chatd.copying.refused import CopyRefused
from chatd.copying.served import Lines, StoreInfo
from chatd.errors import Unavailable
from chatd.models import Conversation, Message, Record
from chatd.storage import FORMS, open_storage, sqlite_path
from chatd.storage.base import Storage

_DUMP: Final = "dump:"


def check_url(url: str, data_dir: Path) -> None:
    """Raises ValueError with a sentence where nothing can be meant by it."""
    if url == _DUMP:
        raise ValueError("a dump needs a file: write dump:FILE")
    if ":" not in url:
        raise ValueError(f"an end of a copy is {FORMS}, or dump:FILE, not a word without a scheme")
    if not url.startswith(_DUMP):
        open_storage(url, data_dir)


class Ends:
    """Opens what URLs name, as it is with a server that runs on the data folder or without one."""

    def __init__(self, data_dir: Path, stack: AsyncExitStack) -> None:
        """What is opened is closed with ``stack``. Raises `CopyRefused`."""
        self._data_dir = data_dir
        self._stack = stack
        self._server = _server(data_dir)

    async def source(self, url: str) -> Source:
        """Raises `CopyRefused`, `StorageRefused` or `Unavailable`."""
        if url.startswith(_DUMP):
            dump = DumpReader(Path(url.removeprefix(_DUMP)))
            await dump.check()
            return dump
        path = sqlite_path(url, self._data_dir)
        if path is not None and not path.exists():
            raise CopyRefused(f"there is no store at {path}")
        storage = open_storage(url, self._data_dir)
        if self._is_of_memory(url) or self._is_served(storage):
            return ServerEnd(self._data_dir)
        return StoreEnd(await self._started(storage))

    async def target(self, url: str) -> Target:
        """Raises as `source` does."""
        if url.startswith(_DUMP):
            return self._new_dump(Path(url.removeprefix(_DUMP)))
        if self._is_of_memory(url):
            return ServerEnd(self._data_dir)
        storage = open_storage(url, self._data_dir)
        if not self._is_served(storage):
            await self._started(storage)
        # Some learn where they are only as they start.
        if self._is_served(storage):
            raise CopyRefused(
                "a server works on the store that is to be copied to: stop it, and copy then"
            )
        return StoreEnd(storage)

    def _new_dump(self, path: Path) -> DumpWriter:
        if path.exists():
            raise CopyRefused(f"{path} exists: give the dump a name of its own")
        dump = DumpWriter(path)
        dump.open()
        self._stack.callback(dump.close)
        return dump

    def _is_of_memory(self, url: str) -> bool:
        if url != "memory:":
            return False
        if self._server is None:
            raise CopyRefused(
                "memory: is the store of a server that runs, and none runs on the data folder"
                f" {self._data_dir}"
            )
        if not self._server.in_memory:
            raise CopyRefused(
                f"the server that runs on {self._data_dir} has no store in memory: name the store"
                " that it has"
            )
        return True

    def _is_served(self, storage: Storage) -> bool:
        return self._server is not None and self._server.promise == storage.promise

    async def _started(self, storage: Storage) -> Storage:
        self._stack.push_async_callback(storage.close)
        await storage.start()
        return storage


class ServerEnd:
    """The store of the server that runs on a data folder, which the server reads and writes."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def pages(self) -> AsyncGenerator[list[Record], None]:
        return pages(self._page)

    async def _page(self, at: Cursor) -> Page:
        answer = await self._ask("copy_page", at=msgspec.to_builtins(at))
        page = msgspec.convert(answer, Lines)
        return Page([from_line(line) for line in page.lines], page.behind)

    async def total(self) -> int:
        return int(await self._ask("copy_total"))

    async def is_empty(self) -> bool:
        return msgspec.convert(await self._ask("store"), StoreInfo).empty

    async def last_messages(self, conversation: Conversation) -> list[Message]:
        """A server that has a part of a copy is started anew instead."""
        return []

    async def load(self, records: Sequence[Record]) -> None:
        await self._ask("copy_load", lines=[to_line(record).decode() for record in records])

    async def finish(self) -> None:
        """Each page was taken over as it came."""

    async def _ask(self, operation: str, **arguments: object) -> Any:
        return await asyncio.to_thread(_ask, self._data_dir, operation, arguments)


def _server(data_dir: Path) -> StoreInfo | None:
    try:
        connected = reach(data_dir)
        if connected is None:
            return None
        return msgspec.convert(ask(connected, "store", {}), StoreInfo)
    except ServerRefused as error:
        raise CopyRefused(str(error)) from None


def _ask(data_dir: Path, operation: str, arguments: dict[str, object]) -> Any:
    try:
        connected = reach(data_dir)
        if connected is None:
            raise Unavailable(f"the server on {data_dir} runs no more")
        return ask(connected, operation, arguments)
    except ServerRefused as error:
        raise Unavailable(str(error)) from None
