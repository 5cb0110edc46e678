"""Who is on line: here, or at any of the neighbours."""

from __future__ import annotations

from collections.abc import Collection

from chatd.neighbours import Neighbours
from chatd.registry import ConnectionRegistry


class Roster:
    """The users with at least one connection anywhere."""

    def __init__(self, registry: ConnectionRegistry, neighbours: Neighbours) -> None:
        self._registry = registry
        self._neighbours = neighbours

    def is_online(self, user: str) -> bool:
        return self._registry.is_online(user) or user in self._neighbours.online()

    def online_users(self) -> Collection[str]:
        """All of them."""
        elsewhere = self._neighbours.online()
        here = self._registry.online_users()
        return {*here, *elsewhere} if elsewhere else here
