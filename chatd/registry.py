"""The connection registry: which users are on line, and through which connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from chatd.connection import Connection
from chatd.models import Conversation, group_of, pair_of

_NOBODY: Final[Collection[Connection]] = ()


class _OnlineUser:
    """A user with at least one connection.

    While the groups are still being read from storage (``groups`` is None), joins and leaves
    are noted, to be laid over what the storage says.
    """

    __slots__ = ("changes", "connections", "groups")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.groups: set[str] | None = None
        self.changes: dict[str, bool] = {}


class ConnectionRegistry:
    """Users and groups, each with their live connections.

    Nothing here waits, so that who gets a message is decided in one step.
    """

    def __init__(self) -> None:
        self._edge_listeners: list[Callable[[str, bool], None]] = []
        self._interest_listeners: list[Callable[[str, bool], None]] = []
        self._users: dict[str, _OnlineUser] = {}
        self._groups: dict[str, dict[Connection, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many connections are live."""
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        """All connections; a copy, so that they may end meanwhile."""
        return iter([c for user in self._users.values() for c in user.connections])

    def on_edge(self, listener: Callable[[str, bool], None]) -> None:
        """Have ``listener`` told of each user's first connection (True) and last end (False)."""
        self._edge_listeners.append(listener)

    def on_interest(self, listener: Callable[[str, bool], None]) -> None:
        """Have ``listener`` told of each group's first connection (True) and last end (False)."""
        self._interest_listeners.append(listener)

    def _edge(self, user: str, *, online: bool) -> None:
        for listener in self._edge_listeners:
            listener(user, online)

    # -- connections -------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """Take in a connection; group messages reach it once its user's groups are known."""
        user = self._users.get(connection.user)
        first = user is None
        if user is None:
            user = self._users[connection.user] = _OnlineUser()
        user.connections[connection] = None
        self._count += 1
        for group in user.groups or ():
            self._subscribe(group, connection)
        if first:
            self._edge(connection.user, online=True)

    def remove(self, connection: Connection) -> None:
        """Forget a connection; one that isn't here is ignored."""
        user = self._users.get(connection.user)
        if user is None or connection not in user.connections:
            return
        del user.connections[connection]
        self._count -= 1
        for group in user.groups or ():
            self._unsubscribe(group, connection)
        if not user.connections:
            del self._users[connection.user]
            self._edge(connection.user, online=False)

    def of_user(self, user: str) -> Collection[Connection]:
        """The user's connections, whatever their scope."""
        online = self._users.get(user)
        return online.connections if online else _NOBODY

    def of_group(self, group: str) -> Collection[Connection]:
        """The connections of the group's members whose scope covers it."""
        return self._groups.get(group, _NOBODY)

    def carrying(self, conversation: Conversation) -> list[Connection]:
        """The connections that carry the conversation; a copy, so that they may end meanwhile."""
        group = group_of(conversation)
        if group is not None:
            return list(self.of_group(group))
        pair = pair_of(conversation)
        assert pair is not None
        return [
            c for user in dict.fromkeys(pair) for c in self.of_user_carrying(user, conversation)
        ]

    def of_user_carrying(self, user: str, conversation: Conversation) -> list[Connection]:
        """The user's connections whose scope covers the conversation; a copy as well."""
        return [one for one in self.of_user(user) if one.scope.covers(conversation)]

    def carries(self, conversation: Conversation) -> bool:
        """Whether anybody is here who carries the conversation."""
        group = group_of(conversation)
        if group is not None:
            return group in self._groups
        return any(user in self._users for user in pair_of(conversation) or ())

    def groups(self) -> Collection[str]:
        """The groups that connections here carry; a live view."""
        return self._groups.keys()

    # -- users -------------------------------------------------------------------------------

    def is_online(self, user: str) -> bool:
        return user in self._users

    def online_users(self) -> Collection[str]:
        """The users with at least one connection; a live view."""
        return self._users.keys()

    # -- memberships -------------------------------------------------------------------------

    def groups_of(self, user: str) -> Collection[str] | None:
        """The groups of a user who is on line, None where they are not known here."""
        online = self._users.get(user)
        return online.groups if online else None

    def set_groups(self, user: str, groups: Iterable[str]) -> None:
        """The groups of a user as storage has them; what changed meanwhile is laid over them."""
        online = self._users.get(user)
        if online is None or online.groups is not None:
            return
        known = set(groups)
        for group, joined in online.changes.items():
            (known.add if joined else known.discard)(group)
        online.groups = known
        online.changes.clear()
        for group in known:
            for connection in online.connections:
                self._subscribe(group, connection)

    def join(self, group: str, user: str) -> None:
        """The user is a member from now on."""
        self._change(group, user, joined=True)

    def leave(self, group: str, user: str) -> None:
        """The user is no member any more."""
        self._change(group, user, joined=False)

    def _change(self, group: str, user: str, *, joined: bool) -> None:
        online = self._users.get(user)
        if online is None:
            return
        if online.groups is None:
            online.changes[group] = joined
            return
        if joined:
            online.groups.add(group)
        else:
            online.groups.discard(group)
        for connection in online.connections:
            (self._subscribe if joined else self._unsubscribe)(group, connection)

    def _subscribe(self, group: str, connection: Connection) -> None:
        if connection.scope.covers_group(group):
            if group not in self._groups:
                self._groups[group] = {}
                self._tell_interest(group, carried=True)
            self._groups[group][connection] = None

    def _unsubscribe(self, group: str, connection: Connection) -> None:
        connections = self._groups.get(group)
        if connections is not None:
            connections.pop(connection, None)
            if not connections:
                del self._groups[group]
                self._tell_interest(group, carried=False)

    def _tell_interest(self, group: str, *, carried: bool) -> None:
        for listener in self._interest_listeners:
            listener(group, carried)
