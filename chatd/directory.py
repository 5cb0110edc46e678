"""Who is registered: a bounded memory of addresses that are known to be users."""

from __future__ import annotations

from typing import Final, Protocol

from chatd.addresses import normalize_email
from chatd.errors import UnknownUser
from chatd.models import Conversation, User, is_erased, pair_of
from chatd.neighbours import Neighbours
from chatd.news import UserClosedNews

_REMEMBERED: Final = 100_000


class Users(Protocol):
    """What the directory needs of a storage."""

    async def user_by_email(self, email: str) -> User | None: ...


class Directory:
    """Answers whether an address is a user's, mostly without asking the storage."""

    def __init__(self, storage: Users, neighbours: Neighbours) -> None:
        self._storage = storage
        self._known: dict[str, None] = {}
        self._neighbours = neighbours
        self._closed: dict[str, str] = {}

    def knows(self, email: str) -> bool:
        """Whether an address in its one form is known to be a user's, without asking."""
        return email in self._known

    async def require(self, email: str) -> str:
        """The address in its one form; `UnknownUser` where nobody has signed up with it."""
        if self.knows(email):
            return email
        address = _address(email)
        return address if address in self._known else (await self.user(address)).email

    async def user(self, email: str) -> User:
        """The user of that address, in any spelling, as the storage has them; or `UnknownUser`."""
        address = _address(email)
        user = await self._storage.user_by_email(address)
        # It may have been read before the account was closed.
        if user is None or self._closed.get(address) == user.id or user.author is not None:
            raise _unknown(address)
        self._closed.pop(address, None)
        self._remember(address)
        return user

    def close(self, user: User) -> None:
        """Let nobody write to this user any more, until somebody signs up with the address anew."""
        self.hear_closed(user.email, user.id)
        self._neighbours.tell(UserClosedNews(user.id, user.email))

    def hear_closed(self, email: str, user_id: str) -> None:
        """Somebody is being erased, here or elsewhere."""
        self._known.pop(email, None)
        self._closed[email] = user_id

    def meet(self, user: User) -> None:
        """This user is signed in: if the address was another one's who was erased, it is so no
        more."""
        if self._closed.get(user.email, user.id) != user.id:
            del self._closed[user.email]

    def forget(self) -> None:
        """Ask the storage anew for everybody."""
        self._known.clear()

    def check_open(self, conversation: Conversation) -> None:
        """`UnknownUser` where one side of a pair has gone since somebody asked for it."""
        for email in pair_of(conversation) or ():
            if email in self._closed or is_erased(email):
                raise _unknown(email)

    def _remember(self, address: str) -> None:
        if address not in self._known and len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[address] = None


def _address(email: str) -> str:
    try:
        return normalize_email(email)
    except ValueError:
        raise _unknown(email) from None


def _unknown(email: str) -> UnknownUser:
    return UnknownUser(f"nobody has signed up as {email[:254]!r}")
