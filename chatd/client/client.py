"""`Client`: a user of a chatd server, as a program has one."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Literal, Self

from chatd.client import frames
from chatd.client.errors import Closed, Refused
from chatd.client.events import (
    Conversation,
    Cursors,
    Event,
    Group,
    History,
    Member,
    Message,
    Sent,
    Summary,
    User,
)
from chatd.client.inbox import Inbox
from chatd.client.live import Live
from chatd.client.reader import Reader
from chatd.client.rest import Rest
from chatd.client.tokens import keep_fresh

_WAITING: Final = 1000


class Client:
    """One signed-in user, connected for as long as an ``async with`` lasts.

    Iterate over it for what happens; each message of a conversation comes once and in its order,
    over reconnects too. What goes wrong for good is raised, by the iteration and by every call.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        cursors: Cursors | None = None,
        explicit: bool = False,
        listen: bool = True,
        waiting: int = _WAITING,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """``url``: the server's, as in ``https://chat.example.org``.

        ``cursors``: where this program stood when it ended; else what is undelivered comes.
        ``explicit``: nothing counts as delivered before it was said by `received`.
        ``listen``: False for a program that sends only; nothing is delivered to it.
        ``waiting``: how many events may wait to be taken before the server is slowed down.
        ``context``: how the server proves who it is, where that is not as usual.
        """
        self._rest = Rest(url, token, context)
        self._inbox = Inbox(waiting, cursors)
        self._live = Live(
            self._rest, self._inbox, explicit=explicit, listen=listen, context=context
        )
        self._reader = Reader(self._rest, self._inbox, self._live, explicit=explicit)
        self._fresh: asyncio.Task[None] | None = None

    @classmethod
    async def sign_in(
        cls,
        url: str,
        email: str,
        password: str,
        *,
        cursors: Cursors | None = None,
        explicit: bool = False,
        listen: bool = True,
        waiting: int = _WAITING,
        context: ssl.SSLContext | None = None,
    ) -> Self:
        """A client of this user, who is signed up where the server lets new ones in.

        Raises `Refused` (``bad_credentials``, ``signup_closed`` …) and `Unreachable`.
        """
        rest = Rest(url, None, context)
        try:
            token = await rest.sign_in(email, password)
        finally:
            rest.close()
        client = cls(
            url,
            token.token,
            cursors=cursors,
            explicit=explicit,
            listen=listen,
            waiting=waiting,
            context=context,
        )
        client._rest.use(token)
        return client

    async def __aenter__(self) -> Self:
        self._live.start()
        self._fresh = asyncio.create_task(keep_fresh(self._rest, self._tell_token))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect; whoever waits for something of this client's gets `Closed`."""
        if self._fresh is not None:
            self._fresh.cancel()
            await asyncio.wait([self._fresh])
        await self._live.stop()
        self._rest.close()

    def _tell_token(self, token: str) -> None:
        self._live.tell(frames.auth(token))

    # -- who and where -------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """The user's address; empty before the first connection of a client made from a token."""
        return self._rest.me

    @property
    def token(self) -> str:
        """The token as it is now: it is replaced before it expires."""
        return self._rest.token or ""

    @property
    def is_connected(self) -> bool:
        return self._live.is_connected

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        return len(self._inbox)

    @property
    def cursors(self) -> Cursors:
        """How far messages have been handed to the program; JSON by ``msgspec.json.encode``."""
        return self._inbox.cursors

    # -- what happens --------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._reader.next()
        except Closed:
            raise StopAsyncIteration from None

    # -- messages ------------------------------------------------------------------------------

    async def send(
        self,
        text: str,
        *,
        to: str | None = None,
        group: str | None = None,
        client_id: str | None = None,
    ) -> Sent:
        """Send to a user or a group; return once the server has stored it.

        It is sent until then, over any number of connections, and stays one message: by its
        ``client_id`` (1–64 printable characters), which a program that may be restarted chooses
        itself. To wait no longer, cancel. Raises `Refused` for what the server will never take.
        """
        client_id = client_id or uuid.uuid4().hex
        frame = frames.send(text, **_target(to, group), client_id=client_id)
        if len(frame) > frames.FRAME_BYTES:
            raise Refused("too_large", f"a frame has at most {frames.FRAME_BYTES} bytes")
        return await self._live.send(frame, client_id)

    async def reply(self, message: Message, text: str, *, client_id: str | None = None) -> Sent:
        """Send to where this message came from."""
        where = message.conversation
        return await self.send(text, to=where.user, group=where.group, client_id=client_id)

    async def received(self, message: Message) -> None:
        """All up to this message has been dealt with: for ``explicit=True``."""
        await self._live.ask(frames.received(message.conversation, message.seq))

    async def read(self, message: Message) -> None:
        """All up to this message has been read."""
        await self._live.ask(frames.read(message.conversation, message.seq))

    def typing(self, *, to: str | None = None, group: str | None = None) -> None:
        """Show for five seconds that the user is typing, if there is a connection."""
        frame = frames.typing(**_target(to, group))
        if self._live.is_connected:
            self._live.ask(frame)

    async def history(
        self,
        *,
        user: str | None = None,
        group: str | None = None,
        before_seq: int | None = None,
        after_seq: int | None = None,
        limit: int = 50,
    ) -> History:
        """Messages in front of or behind a ``seq``, else the newest; ``limit``: 200 at most."""
        _target(user, group)
        return await self._rest.history(
            Conversation(user, group), before_seq=before_seq, after_seq=after_seq, limit=limit
        )

    def conversations(self) -> AsyncIterator[Summary]:
        """The user's conversations, the newest first."""
        return self._rest.conversations()

    # -- users and groups ----------------------------------------------------------------------

    async def find_user(self, email: str) -> User:
        """One user; `Refused` with ``unknown_user`` where there is none."""
        return await self._rest.user(email)

    def users(self, *, prefix: str = "", online: bool | None = None) -> AsyncIterator[User]:
        """Everybody, or those whose address begins so, or who are (not) on line."""
        return self._rest.users(prefix=prefix, online=online)

    def groups(
        self,
        *,
        prefix: str = "",
        sort: Literal["name", "members", "messages"] = "name",
        joined: bool = False,
    ) -> AsyncIterator[Group]:
        """All groups, or those that the user has joined."""
        return self._rest.groups(prefix=prefix, sort=sort, joined=joined)

    async def create_group(self, name: str, title: str | None = None) -> Group:
        return await self._rest.create_group(name, title)

    async def join(self, group: str) -> Group:
        return await self._rest.join(group)

    async def leave(self, group: str) -> None:
        await self._rest.leave(group)

    def members(self, group: str) -> AsyncIterator[Member]:
        """The members of a group that the user is in."""
        return self._rest.members(group)

    async def sign_out(self) -> None:
        """Revoke the token, here and wherever else it is used."""
        await self._rest.sign_out()


def _target(to: str | None, group: str | None) -> dict[str, str | None]:
    if (to is None) == (group is None):
        raise ValueError("name a user or a group, and one only")
    return {"to": to, "group": group}
