"""The calls of the REST API that a chat program makes, typed."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from chatd.client.errors import Unreachable
from chatd.client.events import Conversation, Group, History, Member, Summary, User
from chatd.client.frames import MessageFrame
from chatd.client.http import Http

_LEAD_SECONDS: Final = 600.0
"""How long before its end a token is replaced, at most; a short one when a third is left."""

T = TypeVar("T")
Query = Mapping[str, str | int | bool | None]


class Account(Struct, frozen=True):
    """Who has signed in."""

    id: str
    email: str
    created_at: datetime


class Token(Struct, frozen=True):
    """A token, and for how many seconds it is good."""

    token: str
    expires_in: float
    user: Account


class _Page(Struct, frozen=True):
    items: list[msgspec.Raw]
    next: str | None


class _History(Struct, frozen=True):
    items: list[MessageFrame]
    has_more: bool


class _Summary(Struct, frozen=True):
    last_message: MessageFrame | None
    last_seq: int
    read_seq: int
    unread: int
    user: str | None = None
    group: str | None = None


class _Nothing(Struct, frozen=True):
    pass


class Rest:
    """One server, with or without a ``token``. Raises `Refused` and `Unreachable`."""

    def __init__(self, url: str, token: str | None, context: ssl.SSLContext | None) -> None:
        """``context``: how servers prove who they are, where that is not as usual."""
        if not url.startswith(("http://", "https://")):
            raise Unreachable(f"{url!r} is no address: give one like https://chat.example.org")
        self.url = url.rstrip("/")
        self.token = token
        self.me = ""
        self._http = Http(self.url, context)
        self.token_changed = asyncio.Event()
        self._fresh_until = math.inf

    def close(self) -> None:
        self._http.close()

    # -- signing in ----------------------------------------------------------------------------

    async def sign_in(self, email: str, password: str) -> Token:
        body = {"email": email, "password": password}
        return await self._call(Token, "POST", "/v1/auth/sign-in", body)

    def use(self, token: Token) -> None:
        """Call as this user, by this token, from now on."""
        self.token = token.token
        self.me = token.user.email
        self.good_for(token.expires_in)

    def good_for(self, seconds: float) -> None:
        """The token ends in so many seconds; before anybody has said so, it never does."""
        fresh = seconds - min(seconds / 3, _LEAD_SECONDS)
        self._fresh_until = asyncio.get_running_loop().time() + fresh
        self.token_changed.set()

    def seconds_fresh(self) -> float:
        """How long until the token had better be replaced."""
        return self._fresh_until - asyncio.get_running_loop().time()

    async def new_token(self) -> Token:
        return await self._call(Token, "POST", "/v1/auth/token")

    async def sign_out(self) -> None:
        await self._call(_Nothing, "POST", "/v1/auth/sign-out")

    # -- users and groups ----------------------------------------------------------------------

    async def user(self, email: str) -> User:
        return await self._call(User, "GET", f"/v1/users/{quote(email, safe='')}")

    def users(self, *, prefix: str, online: bool | None) -> AsyncIterator[User]:
        return self._pages(User, "/v1/users", {"prefix": prefix, "online": online})

    def groups(self, *, prefix: str, sort: str, joined: bool) -> AsyncIterator[Group]:
        path = "/v1/me/groups" if joined else "/v1/groups"
        return self._pages(Group, path, {"prefix": prefix, "sort": sort})

    async def create_group(self, name: str, title: str | None) -> Group:
        body = {"name": name} if title is None else {"name": name, "title": title}
        return await self._call(Group, "POST", "/v1/groups", body)

    async def join(self, group: str) -> Group:
        return await self._call(Group, "POST", f"{_path(Conversation(group=group))}/join")

    async def leave(self, group: str) -> None:
        await self._call(_Nothing, "POST", f"{_path(Conversation(group=group))}/leave")

    def members(self, group: str) -> AsyncIterator[Member]:
        return self._pages(Member, f"{_path(Conversation(group=group))}/members", {})

    # -- messages ------------------------------------------------------------------------------

    async def history(
        self,
        conversation: Conversation,
        *,
        before_seq: int | None = None,
        after_seq: int | None = None,
        limit: int = 50,
    ) -> History:
        await self._know_me()
        query = {"before_seq": before_seq, "after_seq": after_seq, "limit": limit}
        path = _with_query(f"{_path(conversation)}/messages", query)
        found = await self._call(_History, "GET", path)
        messages = tuple(one.seen_by(self.me) for one in found.items)
        return History(messages, found.has_more)

    async def conversations(self) -> AsyncIterator[Summary]:
        await self._know_me()
        async for one in self._pages(_Summary, "/v1/me/conversations", {}):
            last = one.last_message
            yield Summary(
                conversation=Conversation(one.user, one.group),
                last_message=None if last is None else last.seen_by(self.me),
                last_seq=one.last_seq,
                read_seq=one.read_seq,
                unread=one.unread,
            )

    async def _know_me(self) -> None:
        """Whose messages are one's own is not told by a token."""
        if not self.me:
            self.me = (await self._call(Account, "GET", "/v1/auth/me")).email

    # -- requests ------------------------------------------------------------------------------

    async def _pages(self, kind: type[T], path: str, query: Query) -> AsyncIterator[T]:
        """All there is of a list, fetched as it is asked for."""
        after: str | None = None
        while True:
            page = await self._call(_Page, "GET", _with_query(path, {**query, "after": after}))
            for item in page.items:
                yield msgspec.json.decode(item, type=kind)
            if (after := page.next) is None:
                return

    async def _call(self, kind: type[T], method: str, path: str, body: object = None) -> T:
        answer = await self._http.fetch(method, path, self.token, body)
        try:
            return msgspec.json.decode(answer or b"{}", type=kind)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"{self.url} does not answer as chatd does: {error}") from None


def _path(conversation: Conversation) -> str:
    kind = "users" if conversation.group is None else "groups"
    return f"/v1/{kind}/{quote(str(conversation), safe='')}"


def _with_query(path: str, query: Query) -> str:
    given: dict[str, Any] = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value not in (None, "")
    }
    return f"{path}?{urlencode(given)}" if given else path
