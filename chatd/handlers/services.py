"""The rooms of the server, as the handlers are given them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from chatd.accounts import Accounts, Session
from chatd.connection import Flusher
from chatd.directory import Directory
from chatd.erasure import Erasure
from chatd.errors import Unavailable
from chatd.export import Exports
from chatd.ids import UuidPool
from chatd.journal import MessageJournal
from chatd.limits import Buckets
from chatd.logs import Logger
from chatd.metrics import Metrics
from chatd.neighbours import Neighbours
from chatd.presence import PresenceBoard
from chatd.registry import ConnectionRegistry
from chatd.replay import Replayer
from chatd.roster import Roster
from chatd.router import ChatRouter
from chatd.settings import Settings
from chatd.storage.base import Storage

_STORAGE_CHECK_SECONDS: Final = 1.0


class ServerState:
    """What changes while the server runs: whether it takes work, the store's epoch, settings.

    The epoch is empty until the storage is open, and what it revoked has been read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ready = False
        self.draining = False
        self.epoch = ""
        self._storage_good_until = 0.0

    def check_taking_sockets(self) -> None:
        """`Unavailable` before the start, while draining, and where the server is broken."""
        self.check_started()
        if self.draining or not self.ready:
            raise Unavailable("the server is shutting down; connect again shortly")

    def check_taking_requests(self) -> None:
        """`Unavailable` while draining."""
        if self.draining:
            raise Unavailable("the server is shutting down; try again shortly")

    def check_started(self) -> None:
        """`Unavailable` until the storage is open."""
        if not self.epoch:
            raise Unavailable("the server is starting: its message store is not open yet")

    async def check_storage(self, storage: Storage) -> None:
        """Return where the storage can work, or could a second ago; `Unavailable` else.

        Trying it costs a commit, and anybody may ask.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._storage_good_until:
            await storage.ping()
            self._storage_good_until = now + _STORAGE_CHECK_SECONDS


class Leaver(Protocol):
    """An open socket, as the drain knows it."""

    def go_away(self) -> None:
        """Say that the server is stopping, and close."""


class OpenSockets:
    """Every socket from the end of its handshake until it is gone, and where it comes from.

    Wider than the registry: those who have not said who they are yet, and those who have heard
    ``bye`` and have not answered yet, have sockets too.
    """

    def __init__(self) -> None:
        self._sockets: dict[Leaver, str] = {}
        self._counts: Counter[str] = Counter()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[Leaver]:
        """All of them; a copy, so that they may close meanwhile."""
        return iter(list(self._sockets))

    def count(self, address: str) -> int:
        """How many a network address has."""
        return self._counts[address]

    def add(self, socket: Leaver, address: str) -> None:
        self._sockets[socket] = address
        self._counts[address] += 1
        self._none.clear()

    def remove(self, socket: Leaver) -> None:
        """Forget a socket; one that isn't here is ignored."""
        address = self._sockets.pop(socket, None)
        if address is None:
            return
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        if not self._sockets:
            self._none.set()

    async def gone(self) -> None:
        """Return once there is none."""
        await self._none.wait()


class OpenRequests:
    """The REST requests that are being answered."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request is being answered for as long as this is entered."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def answered(self) -> None:
        """Return once there is none."""
        await self._none.wait()


@dataclass(frozen=True)
class Services:
    """The rooms of the server, as the handlers are given them."""

    state: ServerState
    storage: Storage
    accounts: Accounts
    router: ChatRouter
    journal: MessageJournal
    registry: ConnectionRegistry
    roster: Roster
    neighbours: Neighbours
    directory: Directory
    exports: Exports
    erasure: Erasure
    sockets: OpenSockets
    requests: OpenRequests
    presence: PresenceBoard
    newcomers: asyncio.Semaphore
    """Who connects passes here, a few at a time: a thousand who come back together must not keep
    the loop from those who are there."""
    replayer: Replayer
    flusher: Flusher
    ids: UuidPool
    calls: Buckets
    """How often each user may call, over REST and by frames; sends have a limit of their own."""
    metrics: Metrics
    log: Logger
    hosts: frozenset[str]

    async def session(self, token: str) -> Session:
        """Whose token this is; `Unauthenticated` where it is none, expired or revoked."""
        session = await self.accounts.authenticate(token)
        self.directory.meet(session.user)
        return session

    @property
    def settings(self) -> Settings:
        """The settings as they hold now."""
        return self.state.settings
