"""The rooms of the server, as the handlers are given them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

from chatd.accounts import Accounts
from chatd.connection import Flusher
from chatd.directory import Directory
from chatd.errors import Unavailable
from chatd.ids import UuidPool
from chatd.journal import MessageJournal
from chatd.logs import Logger
from chatd.metrics import Metrics
from chatd.presence import PresenceBoard
from chatd.registry import ConnectionRegistry
from chatd.replay import Replayer
from chatd.router import ChatRouter
from chatd.settings import Settings
from chatd.storage.base import Storage

_STORAGE_CHECK_SECONDS: Final = 1.0


class ServerState:
    """What changes while the server runs: whether it takes work, and the store's epoch.

    The epoch is empty until the storage is open, and what it revoked has been read.
    """

    def __init__(self) -> None:
        self.ready = False
        self.draining = False
        self.epoch = ""
        self._storage_good_until = 0.0

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


class AddressCounter:
    """How many sockets each network address has open."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, address: str) -> int:
        return self._counts[address]

    def add(self, address: str) -> None:
        self._counts[address] += 1

    def remove(self, address: str) -> None:
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]


@dataclass(frozen=True)
class Services:
    """The rooms of the server, as the handlers are given them."""

    settings: Settings
    state: ServerState
    storage: Storage
    accounts: Accounts
    router: ChatRouter
    journal: MessageJournal
    registry: ConnectionRegistry
    directory: Directory
    addresses: AddressCounter
    presence: PresenceBoard
    newcomers: asyncio.Semaphore
    """Who connects passes here, a few at a time: a thousand who come back together must not keep
    the loop from those who are there."""
    replayer: Replayer
    flusher: Flusher
    ids: UuidPool
    metrics: Metrics
    log: Logger
    hosts: frozenset[str]
