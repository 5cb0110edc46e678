"""The rooms of this server, as the cluster is given them."""

from __future__ import annotations

from dataclasses import dataclass

from chatd.accounts import Accounts
from chatd.directory import Directory
from chatd.journal import MessageJournal
from chatd.registry import ConnectionRegistry
from chatd.router import ChatRouter
from chatd.storage.base import Storage


@dataclass(frozen=True)
class Rooms:
    """What news is for."""

    storage: Storage
    registry: ConnectionRegistry
    router: ChatRouter
    journal: MessageJournal
    accounts: Accounts
    directory: Directory
