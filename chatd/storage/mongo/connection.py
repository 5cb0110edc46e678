"""From a URL to a client of MongoDB, and to what kind of server answers there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dns.exception import DNSException
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConfigurationError

from chatd.errors import Unavailable
from chatd.storage.mongo.address import Address, address_of, parts_of
from chatd.storage.mongo.reasons import reason
from chatd.storage.refused import StorageRefused

Client = AsyncIOMotorClient[dict[str, Any]]

OLDEST: Final = "5.0"
OLDEST_WIRE_VERSION: Final = 13
"""What MongoDB 5.0 speaks."""

TIMEOUT_MS: Final = 5000

_DEFAULTS: Final[Mapping[str, Any]] = {
    "appname": "chatd",
    # How long a call may take, with all that the driver tries again: in an election, for one.
    "timeoutMS": TIMEOUT_MS,
    # How long one host may take to connect, and DNS to answer.
    "connectTimeoutMS": TIMEOUT_MS,
    # What a broken connection left open is written again, and once, by the driver.
    "retryWrites": True,
    # How soon the driver sees that a server is back.
    "heartbeatFrequencyMS": 2000,
}
"""Options that the URL may set otherwise."""

_RESERVED: Final = frozenset({"admin", "config", "local"})

_USER: Final = re.compile(r"(?:[^%:/?@]|%[0-9A-Fa-f]{2})*(?::(?:[^%:/?@]|%[0-9A-Fa-f]{2})*)?")
"""User and password as they may stand in a URL."""

_ENCODE: Final = (
    "the URL of the MongoDB store can't be used: in user and password, each of % : / ? @ must be"
    " percent-encoded, as %25 or %40."
)


def connect(url: str) -> Client:
    """A client that connects when it is first used.

    Raises `StorageRefused` where the URL can't be used, `Unavailable` where DNS can't tell which
    hosts it means.
    """
    address = address_of(url)
    if "@" in parts_of(url)[1]:
        raise StorageRefused(_ENCODE)
    if address.database in _RESERVED:
        raise StorageRefused(
            f"the database {address.database} is MongoDB's own: name one of chatd's own, as in "
            "mongodb://HOST/DATABASE?authSource=admin."
        )
    given = {one.partition("=")[0].lower() for one in re.split("[&;]", parts_of(url)[2])}
    options = {key: value for key, value in _DEFAULTS.items() if key.lower() not in given}
    try:
        with warnings.catch_warnings():
            # Of an option that it doesn't know, or whose value is wrong, the driver only warns.
            warnings.simplefilter("error", UserWarning)
            return AsyncIOMotorClient(url, **options)
    except (ConfigurationError, ValueError, UserWarning, OSError) as error:
        if _is_misread(url):
            # Whatever the driver says may quote what it took for something else.
            raise StorageRefused(_ENCODE) from None
        if isinstance(error.__cause__, DNSException):
            raise Unavailable(f"{address} can't be found: {reason(error)}") from error
        raise StorageRefused(
            f"the URL of the MongoDB store can't be used: {reason(error)}."
        ) from error


def _is_misread(url: str) -> bool:
    """Whether the driver may have taken a part of the password for something else."""
    user, at, _ = parts_of(url)[0].rpartition("@")
    return "@" in url and not (at and _USER.fullmatch(user))


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
        if not hello.get("isWritablePrimary", True):
            raise Unavailable(
                f"{address} is not the primary of its replica set now; with directConnection=true "
                "in the URL the primary can't be found"
            )
        members = len(hello.get("hosts", [])) + len(hello.get("passives", []))
        return cls(hello.get("setName"), members, hello.get("msg") == "isdbgrid")

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
