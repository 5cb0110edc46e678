"""Erasing a person: the account goes, what others need to read their conversations stays.

An author takes the person's place: an address that says nothing, as which nobody can sign in. While
it lasts the account's record names that author, so that an erasure which broke off goes on with the
same one, and takes as much away.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import msgspec

from chatd.accounts import Accounts
from chatd.directory import Directory
from chatd.errors import NothingToLeave, UnknownGroup, UnknownUser
from chatd.journal import MessageJournal
from chatd.models import Conversation, User, is_erased, now_ms, other_of, pair_of
from chatd.router import ChatRouter
from chatd.storage.base import Storage

_PAGE: Final = 500
_WORD_BYTES: Final = 8
_RETRY_SECONDS: Final = 60.0
_ERASED: Final = "erased-"
_DELETED: Final = "deleted-"
"""How the author's address starts: it tells whether the texts stay."""


class IdPool(Protocol):
    """Where users' ids come from."""

    def take(self) -> str: ...


class Erased(msgspec.Struct, frozen=True):
    """Who was erased, who stands in their place, and what remains, a sentence each."""

    email: str
    author: str
    remains: list[str]


class Erasure:
    """Erases one person after the other."""

    def __init__(
        self,
        *,
        storage: Storage,
        accounts: Accounts,
        directory: Directory,
        router: ChatRouter,
        journal: MessageJournal,
        ids: IdPool,
    ) -> None:
        self._storage = storage
        self._accounts = accounts
        self._directory = directory
        self._router = router
        self._journal = journal
        self._ids = ids
        self._turn = asyncio.Lock()
        self._under_way: list[str] = []
        self._broke_off = asyncio.Event()

    def is_under_way(self, email: str) -> bool:
        """Whether this user is being erased here at this moment, or is about to be."""
        return email in self._under_way

    async def erase(self, user: User, *, blank: bool = False) -> Erased:
        """Erase a user; where ``blank``, the texts they wrote too. Returns once all is done.

        They are signed out at once, and nobody can write to them from then on. Raises
        `UnknownUser` where another erasure was faster.
        """
        self._under_way.append(user.email)
        try:
            async with self._turn:
                return await self._erase(user, blank=blank)
        finally:
            self._under_way.remove(user.email)

    async def _erase(self, user: User, *, blank: bool) -> Erased:
        # The address may be somebody else's by now.
        stored = await self._storage.user_by_id(user.id)
        if stored is None:
            raise UnknownUser(f"there is no account {user.email!r}")
        try:
            return await self._replace_by_author(stored, blank=blank)
        except Exception:
            self._broke_off.set()
            raise

    async def _replace_by_author(self, user: User, *, blank: bool) -> Erased:
        author = await self._begin(user, _DELETED if blank else _ERASED)
        blank = author.startswith(_DELETED)
        await self._leave_groups(user.email)
        async for conversation in self._conversations_of(user.email):
            await self._take_out(conversation, user.email, author, blank=blank)
        await self._storage.delete_user(user.email)
        # Once more: what neighbours knew of these conversations when it began is void now.
        self._directory.close(user)
        self._router.hear_closed(user.email)
        return Erased(user.email, author, _remains(author, blank=blank))

    async def _begin(self, user: User, prefix: str) -> str:
        """Close the account; the address of the author."""
        author = user.author
        if author is None:
            name = prefix + secrets.token_hex(_WORD_BYTES)
            made = User.nobody(self._ids.take(), name, now_ms())
            await self._storage.create_user(made)
            await self._accounts.replace(user, lambda stored: stored.hash_erased_for(made))
            author = made.email
        self._directory.close(user)
        # What they sent before, and what was sent to them, is stored when this returns.
        await self._journal.run(_nothing)
        return author

    async def _leave_groups(self, email: str) -> None:
        for group in await self._storage.group_names_of(email):
            # It may be deleted at this moment.
            with contextlib.suppress(UnknownGroup, NothingToLeave):
                await self._router.leave(email, group)

    async def _conversations_of(self, email: str) -> AsyncIterator[Conversation]:
        """Those that may name the user: every group, as anyone may have left one, and all pairs."""
        after = ""
        while page := await self._storage.conversations(prefix="g:", after=after, limit=_PAGE):
            for conversation in page:
                yield conversation
            after = page[-1]
        for position in await self._storage.positions(email):
            yield position.conversation

    async def _take_out(
        self, conversation: Conversation, email: str, author: str, *, blank: bool
    ) -> None:
        if pair_of(conversation) and _is_nobodys(other_of(conversation, email), email):
            await self._storage.delete_conversation(conversation)
        else:
            await self._storage.reassign(conversation, email, author, blank=blank)

    async def finish(self) -> int:
        """Go on with the erasures that broke off; how many there were."""
        begun = [user async for user in self._all_users() if user.author is not None]
        for user in begun:
            # It may be gone on with at this moment.
            with contextlib.suppress(UnknownUser):
                await self.erase(user)
        return len(begun)

    async def finish_in_time(self, failed: Callable[[str, BaseException], Any]) -> None:
        """`finish`, and once more whenever another breaks off; ``failed`` hears why it waits."""
        while True:
            self._broke_off.clear()
            try:
                await self.finish()
            except Exception as error:
                # Chat goes on without this.
                failed("erasure.failed", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await self._broke_off.wait()

    async def _all_users(self) -> AsyncIterator[User]:
        after = ""
        while page := await self._storage.list_users(after=after, limit=_PAGE):
            for user in page:
                yield user
            after = page[-1].email


def _is_nobodys(other: str, email: str) -> bool:
    """Whether nobody is left who could read what these two wrote."""
    return other == email or is_erased(other)


def _remains(author: str, *, blank: bool) -> list[str]:
    kept = (
        "the places of the messages they wrote, without the texts" if blank else "what they wrote"
    )
    return [
        f"in groups and in the conversations of others: {kept}, as by {author}",
        "what others wrote, to them and about them",
        "backups made before, and log lines with the account's id, until these are deleted",
    ]


async def _nothing() -> None:
    pass
