"""One MongoDB database: opened, used and closed, the driver's errors made chatd's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar, cast

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.client_options import ClientOptions
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.topology_description import TopologyDescription
from pymongo.write_concern import WriteConcern

from chatd.errors import Unavailable
from chatd.storage.mongo.address import address_of
from chatd.storage.mongo.connection import (
    TIMEOUT_MS,
    Client,
    Deployment,
    connect,
)
from chatd.storage.mongo.documents import Db
from chatd.storage.mongo.reasons import explained

T = TypeVar("T")

_GRACE: Final = 1.0
"""Seconds that a call may last beyond its time: the driver had better say itself what is wrong."""


class Database:
    """Runs work on the database, each piece within the time that the URL's ``timeoutMS`` gives.

    Whatever the URL says otherwise, work reads what a majority has, and a write returns once a
    majority has it in its journal.
    """

    def __init__(self, client: Client, db: Db, deployment: Deployment) -> None:
        self.deployment = deployment
        self._client = client
        self._db = db
        self._seconds = cast(ClientOptions, client.options).timeout or TIMEOUT_MS / 1000
        self._closed = False
        self._outage: _Outage | None = None
        self._behind: asyncio.Task[None] | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    async def open(cls, url: str, prepare: Callable[[Db, Deployment], Awaitable[None]]) -> Database:
        """Connect, and ``prepare`` the database.

        Raises `Unavailable` where that may help to try again, `StorageRefused` where it won't.
        """
        address, client = address_of(url), connect(url)
        try:
            with explained(address):
                deployment = Deployment.of(await client.admin.command("hello"), address)
                db = client.get_database(
                    address.database,
                    codec_options=CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS),
                    read_preference=ReadPreference.PRIMARY,
                    read_concern=ReadConcern("majority"),
                    write_concern=WriteConcern("majority", j=True),
                )
                await prepare(db, deployment)
        except BaseException:
            client.close()
            raise
        return cls(client, db, deployment)

    def run_behind(self, work: Callable[[Db], Awaitable[None]]) -> None:
        """Run work behind the caller's back, unless it is under way already.

        Whoever needs it done runs it himself: here nobody hears whether it could be.
        """

        async def run() -> None:
            with contextlib.suppress(Unavailable):
                await self.run(work)

        if self._behind is None or self._behind.done():
            self._behind = asyncio.create_task(run())

    async def run(self, work: Callable[[Db], Awaitable[T]]) -> T:
        self._check_open()
        return await self._run(work)

    async def _run(self, work: Callable[[Db], Awaitable[T]]) -> T:
        async with self._counted():
            try:
                # The driver's threads are few: where all of them wait for a server, the loop's
                # clock ends what has not even begun.
                async with asyncio.timeout(self._seconds + _GRACE):
                    with pymongo.timeout(self._seconds):
                        return await work(self._db)
            except (PyMongoError, TimeoutError) as error:
                if self._outage is not None:
                    self._outage.see()
                raise _unreachable() from error

    def _check_open(self) -> None:
        """Raise `Unavailable` where closed, or where the server is known to be out.

        An outage may be an election, which is worth waiting for; once it has lasted as long as
        any call waits, all others are refused at once until the driver sees the server again.
        """
        if self._closed:
            raise Unavailable("the message store is closed")
        topology = cast(TopologyDescription, self._client.topology_description)
        if topology.has_writable_server():
            self._outage = None
        elif self._outage is None or (not self._under_way and self._outage.is_over()):
            self._outage = _Outage(self._seconds)
        else:
            self._outage.see()
            if self._outage.is_known():
                raise _unreachable()

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def close(self, last: Callable[[Db], Awaitable[None]]) -> None:
        """Finish what is under way, run ``last`` and let go. The second call does nothing."""
        if not self._closed:
            self._closed = True
            await self._idle.wait()
            with contextlib.suppress(Unavailable):
                await self._run(last)
            self._client.close()


class _Outage:
    """A time without a server that takes writes, as seen by those who call meanwhile."""

    def __init__(self, patience: float) -> None:
        """``patience``: how long a call waits, in seconds."""
        self._patience = patience
        self._began = self._seen = time.monotonic()

    def see(self) -> None:
        """It lasts."""
        self._seen = time.monotonic()

    def is_over(self) -> bool:
        """Whether nobody has looked for as long as a call waits: this may be another one."""
        return time.monotonic() - self._seen > self._patience

    def is_known(self) -> bool:
        """Whether it has lasted longer than any call waits."""
        return self._seen - self._began > self._patience


def _unreachable() -> Unavailable:
    return Unavailable("the message store can't be reached, try again shortly")
