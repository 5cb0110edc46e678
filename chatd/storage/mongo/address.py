"""What a store's URL names, read as the driver reads it."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote_plus

DEFAULT_DATABASE: Final = "chatd"


class Address(NamedTuple):
    """What a store's URL names, without its user and password."""

    hosts: str
    database: str

    def __str__(self) -> str:
        return f"MongoDB at {self.hosts}"


def address_of(url: str) -> Address:
    """As the driver reads it, for whom a password may hold what ends it elsewhere, like "#"."""
    authority, database, _ = parts_of(url)
    return Address(authority.rpartition("@")[2], unquote_plus(database) or DEFAULT_DATABASE)


def parts_of(url: str) -> tuple[str, str, str]:
    """User, password and hosts; the database; the options."""
    rest, _, options = url.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    return authority, database, options
