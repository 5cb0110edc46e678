"""From a URL to a client of MongoDB, and to what kind of server answers there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError, InvalidName, OperationFailure, PyMongoError

from chatd.errors import Unavailable
from chatd.storage.refused import StorageRefused

Client = AsyncIOMotorClient[dict[str, Any]]

DEFAULT_DATABASE: Final = "chatd"

OLDEST: Final = "5.0"
OLDEST_WIRE_VERSION: Final = 13
"""What MongoDB 5.0 speaks."""

TIMEOUT_MS: Final = 5000

_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "chatd",
    # How long a call may take, with all that the driver tries again: in an election, for one.
    "timeoutMS": TIMEOUT_MS,
    # How soon the driver sees that a server is back.
    "heartbeatFrequencyMS": 2000,
}
"""Options that the URL may set otherwise."""

_REFUSALS: Final = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed and AtlasError in MongoDB's list of error codes."""


class Address(NamedTuple):
    """What a store's URL names, without its user and password."""

    hosts: str
    database: str

    def __str__(self) -> str:
        return f"MongoDB at {self.hosts}"


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return Address(hosts, unquote(parts.path.strip("/")) or DEFAULT_DATABASE)


def connect(url: str) -> Client:
    """A client that connects when it is first used.

    Raises `StorageRefused` where the URL can't be used, `Unavailable` where DNS can't tell which
    hosts it means.
    """
    parts = urlsplit(url)
    given = {key.lower() for key, _ in parse_qsl(parts.query)}
    options = {key: value for key, value in _DEFAULTS.items() if key.lower() not in given}
    try:
        with warnings.catch_warnings():
            # Of an option that it doesn't know, or whose value is wrong, the driver only warns.
            warnings.simplefilter("error", UserWarning)
            return AsyncIOMotorClient(url, **options)
    except (ConfigurationError, ValueError, UserWarning) as error:
        if parts.scheme == "mongodb+srv" and type(error) is ConfigurationError:
            raise Unavailable(f"{address_of(url)} can't be found: {error}") from error
        raise StorageRefused(f"the URL of the MongoDB store can't be used: {error}.") from error


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """While opening: the driver's errors as `Unavailable` or `StorageRefused`, with the reason."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in _REFUSALS:
            raise Unavailable(f"{address} can't be used now: {_reason(error)}") from error
        raise StorageRefused(
            f"{address} refuses: {_reason(error)}. The user that the URL names needs the role "
            f"dbOwner on {address.database}, or readWrite and dbAdmin."
        ) from error
    except (InvalidName, ConfigurationError) as error:
        raise StorageRefused(f"{address} can't be used: {_reason(error)}.") from error
    except PyMongoError as error:
        raise Unavailable(f"{address} can't be reached: {_reason(error)}") from error


def _reason(error: PyMongoError) -> str:
    """What a person needs of the driver's sentence."""
    text, _, _ = str(error).partition(", Timeout: ")
    text, _, _ = text.partition(", full error: ")
    return re.sub(r" \(configured timeouts: [^)]*\)", "", text).rstrip(".")


class Deployment(NamedTuple):
    """What answers at the address: ``set_name`` and ``members`` of a replica set, or nothing."""

    set_name: str | None
    members: int
    sharded: bool

    @classmethod
    def of(cls, hello: Mapping[str, Any], address: Address) -> Deployment:
        """Read it from the answer to ``hello``.

        Raises `StorageRefused` where the server is too old.
        """
        if hello.get("maxWireVersion", 0) < OLDEST_WIRE_VERSION:
            raise StorageRefused(f"{address} is too old: chatd needs MongoDB {OLDEST} or newer.")
        return cls(
            hello.get("setName"), len(hello.get("hosts", [])), hello.get("msg") == "isdbgrid"
        )

    def promise(self, address: Address) -> str:
        """What is safe here and what is not, in one sentence."""
        kept = f"Everything is kept in {address}, database {address.database}"
        if self.sharded:
            return f"{kept}; what is confirmed is on disk on a majority of its shard's members."
        if self.set_name is None:
            return (
                f"{kept}, a single server; what is confirmed is in its journal, and is lost with "
                "its disk, and while it is down nothing works: a replica set spares you both."
            )
        if self.members == 1:
            return (
                f"{kept}, replica set {self.set_name} of one; what is confirmed is in its journal, "
                "and is lost with its disk: three members spare you that."
            )
        return (
            f"{kept}, replica set {self.set_name} of {self.members}; what is confirmed is on disk "
            "on a majority of its members, and survives the loss of the others."
        )
