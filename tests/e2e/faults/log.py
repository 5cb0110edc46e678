"""What one device saw, line by line: what `checker` compares with what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

_E = TypeVar("_E", bound="Event")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a device on its ``connection``'th connection.

    ``at`` is in seconds of a clock that all devices of a test share and nobody sets.
    """

    at: float = field(default_factory=time.monotonic, kw_only=True)
    connection: int = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Sent(Event):
    """A message was written to the socket, the first time or again."""

    client_id: str
    conversation: str
    text: str


@dataclass(frozen=True, slots=True)
class Held(Event):
    """The device knows this message from now on."""

    conversation: str
    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class Acked(Held):
    """The server said ``sent``."""

    client_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """The server said ``error``."""

    client_id: str | None
    code: str


@dataclass(frozen=True, slots=True)
class Received(Held):
    """A message came by itself, or was ``fetched`` because of a gap."""

    sender: str
    text: str
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """The server announced that it leaves these out."""

    conversation: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Receipt(Event):
    """The server said that ``by`` has everything up to ``seq``."""

    conversation: str
    by: str
    seq: int


@dataclass(frozen=True, slots=True)
class Bye(Event):
    """The server said that it is about to close, and whether to come back, after how many
    seconds."""

    reconnect: bool
    after: float | None


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The connection is over: its close code, None where it broke without a word, the HTTP
    status where its handshake was refused, with the answer's Retry-After."""

    code: int | None
    retry_after: str | None = None


@dataclass(slots=True)
class Log:
    """All that happened to one device, in order."""

    user: str
    device: str
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type[_E]) -> Iterator[_E]:
        """The events of one kind."""
        return (event for event in self.events if isinstance(event, kind))
