"""Presence: who came and who went, gathered, and told to everyone who sees one-to-one traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from chatd.connection import Connection
from chatd.errors import Unavailable
from chatd.frames import Presence, encode
from chatd.models import now_ms
from chatd.registry import ConnectionRegistry
from chatd.roster import Roster

_GATHER_SECONDS: Final = 0.5


class LastSeen(Protocol):
    """What presence needs of a storage."""

    async def touch_last_seen(self, seen: Mapping[str, int]) -> None: ...


class PresenceBoard:
    """Gathers the edges of users for half a second and tells what they come to.

    A user who went and came back within that time is told of nothing. While more than ``limit``
    users are on line nothing is pushed (0: always); when they are fewer again, everyone gets
    the whole list.
    """

    def __init__(
        self, registry: ConnectionRegistry, roster: Roster, storage: LastSeen, *, limit: int
    ) -> None:
        self._registry = registry
        self._roster = roster
        self._storage = storage
        self.limit = limit
        self._told: set[str] = set()
        # Of whom a welcome has said otherwise than what everyone was told.
        self._doubtful: set[str] = set()
        self._changed: set[str] = set()
        self._seen: dict[str, int] = {}
        self._silent = False
        self._wake = asyncio.Event()
        registry.on_edge(self.edge)

    def edge(self, user: str, online: bool) -> None:
        """A user has come on line here or elsewhere, or has gone there."""
        self._changed.add(user)
        if not online and not self._roster.is_online(user):
            self._seen[user] = now_ms()
        self._wake.set()

    def _too_many(self) -> bool:
        return bool(self.limit) and len(self._roster.online_users()) > self.limit

    def welcome(self, connection: Connection) -> None:
        """Tell a new connection who is on line; changes follow."""
        if not connection.scope.pairs:
            return
        if self._too_many():
            self._silent = True
            return
        online = set(self._roster.online_users())
        self._doubtful |= (online ^ self._told) - {connection.user}
        connection.write(encode(Presence(online=sorted(online), offline=[])))

    async def run_forever(self) -> None:
        """The coroutine that tells, and stores when users were last seen."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._wake.clear()
            self.tell()
            await self.store()

    def tell(self) -> None:
        """Tell everyone what changed since the last time."""
        roster = self._roster
        was_silent, self._silent = self._silent, self._too_many()
        if self._silent:
            return
        changed, self._changed = self._changed, set()
        doubtful, self._doubtful = self._doubtful, set()
        online = {user for user in changed if roster.is_online(user)}
        came = set(roster.online_users()) if was_silent else online - (self._told - doubtful)
        went = (changed - online) & (self._told | doubtful)
        self._told = (self._told | online) - went
        if came or went:
            frame = encode(Presence(online=sorted(came), offline=sorted(went)))
            for connection in self._registry:
                if connection.scope.pairs:
                    connection.write(frame)

    async def store(self) -> None:
        """Store when the users who went were last seen; tried again soon if that fails."""
        seen = dict(self._seen)
        if not seen:
            return
        try:
            await self._storage.touch_last_seen(seen)
        except Unavailable:
            self._wake.set()
        else:
            self._seen = dict(self._seen.items() - seen.items())
