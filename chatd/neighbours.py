"""The other servers on the same store, as the rooms of this one speak to them.

`Alone` is for a server that has none, and `chatd.cluster` for one that has. Nothing here waits for
the others: what they are told is a hint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from chatd.models import Advance, Conversation
from chatd.news import AnyNews


class Neighbours(Protocol):
    """What this server tells the others, and waits for before it goes on."""

    def stored(
        self, conversation: Conversation, seq: int, frame: bytes, tell: Callable[[], None]
    ) -> None:
        """A message of this server's is stored. Have ``tell`` called once everything before it
        has been told here, and the others told of it."""

    def receipt(self, advance: Advance, tell: Callable[[Advance], None]) -> None:
        """A mark moved here. Have ``tell`` called with what is news to those who are here, and the
        others told of it."""

    def tell(self, news: AnyNews) -> None:
        """Tell the others."""

    async def admit(self, group: str, user: str) -> None:
        """A user has just joined here, by the store: give them what was told here since."""

    async def settled(self) -> None:
        """Return once nothing that was stored here by now waits to be told."""

    async def listening(self) -> None:
        """Return once what they tell of the conversations carried here is heard."""

    def online(self) -> Collection[str]:
        """The users who are on line at the others."""

    def out(self) -> Collection[str]:
        """What of the way to them does not work now, by name."""


class Alone:
    """No neighbours at all."""

    def stored(
        self, conversation: Conversation, seq: int, frame: bytes, tell: Callable[[], None]
    ) -> None:
        tell()

    def receipt(self, advance: Advance, tell: Callable[[Advance], None]) -> None:
        tell(advance)

    def tell(self, news: AnyNews) -> None:
        pass

    async def admit(self, group: str, user: str) -> None:
        pass

    async def settled(self) -> None:
        pass

    async def listening(self) -> None:
        pass

    def online(self) -> Collection[str]:
        return ()

    def out(self) -> Collection[str]:
        return ()
