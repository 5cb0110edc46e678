"""Who is registered: a bounded memory of addresses that are known to be users."""

from __future__ import annotations

from typing import Final, Protocol

from chatd.addresses import normalize_email
from chatd.errors import UnknownUser
from chatd.models import User

_REMEMBERED: Final = 100_000


class Users(Protocol):
    """What the directory needs of a storage."""

    async def user_by_email(self, email: str) -> User | None: ...


class Directory:
    """Answers whether an address is a user's, mostly without asking the storage."""

    def __init__(self, storage: Users) -> None:
        self._storage = storage
        self._known: dict[str, None] = {}

    async def require(self, email: str) -> str:
        """The address in its one form; `UnknownUser` where nobody has signed up with it."""
        if email in self._known:
            return email
        try:
            address = normalize_email(email)
        except ValueError:
            raise unknown_user(email) from None
        if address not in self._known:
            if await self._storage.user_by_email(address) is None:
                raise unknown_user(address)
            self._remember(address)
        return address

    def _remember(self, address: str) -> None:
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[address] = None


def unknown_user(email: str) -> UnknownUser:
    """What is said of an address that nobody has signed up with."""
    return UnknownUser(f"nobody has signed up as {email[:254]!r}")
