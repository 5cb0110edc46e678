"""Everything of a person, as one JSON document that is written as it is read.

That is the account, the memberships, the whole of every one-to-one conversation, and of groups
what the person wrote. `chatd.schemas.ExportView` is its shape.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from chatd.errors import RateLimited
from chatd.models import (
    Conversation,
    Message,
    Position,
    User,
    group_of,
    now_ms,
    other_of,
    rfc3339,
)
from chatd.schemas import ExportedUserView, MembershipView, MessageView
from chatd.storage.base import Storage

_PAGE: Final = 500
_WAIT_SECONDS: Final = 10.0

_More = Callable[[int], Awaitable[list[Message]]]
"""The messages behind a seq."""


class Exports:
    """Writes exports, one at a time for each user: it may be long, and costs much to read."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._under_way: set[str] = set()

    async def of(self, user: User) -> AsyncGenerator[str, None]:
        """The document, in pieces. Raises `RateLimited` where one of this user's is under way."""
        if user.email in self._under_way:
            raise RateLimited("an export of this account is under way", _WAIT_SECONDS)
        self._under_way.add(user.email)
        try:
            async for piece in self._document(user):
                yield piece
        finally:
            self._under_way.discard(user.email)

    async def _document(self, user: User) -> AsyncIterator[str]:
        yield f'{{"exported_at":"{rfc3339(now_ms())}"'
        yield f',"user":{ExportedUserView.of(user).model_dump_json()},"groups":['
        comma = ""
        for name in await self._storage.group_names_of(user.email):
            member = await self._storage.member(name, user.email)
            if member is not None:
                yield comma + MembershipView.of(member).model_dump_json()
                comma = ","
        yield '],"conversations":['
        comma = ""
        async for head, more in self._conversations(user.email):
            first = await more(0)
            if not first:
                continue
            yield f'{comma}{head[:-1]},"messages":['
            async for piece in _messages(user.email, first, more):
                yield piece
            yield "]}"
            comma = ","
        yield "]}"

    async def _conversations(self, email: str) -> AsyncIterator[tuple[str, _More]]:
        """How each conversation's object starts, and its messages."""
        for position in await self._storage.positions(email):
            if group_of(position.conversation) is None:
                yield _pair_head(position, email), self._all_of(position.conversation)
        after = ""
        # All groups: what was written in one that was left is the writer's all the same.
        while page := await self._storage.conversations(prefix="g:", after=after, limit=_PAGE):
            for conversation in page:
                head = json.dumps({"group": group_of(conversation)})
                yield head, self._own_of(conversation, email)
            after = page[-1]

    def _all_of(self, conversation: Conversation) -> _More:
        return lambda seq: self._storage.history(conversation, after_seq=seq, limit=_PAGE)

    def _own_of(self, conversation: Conversation, email: str) -> _More:
        return lambda seq: self._storage.written_by(email, conversation, after_seq=seq, limit=_PAGE)


def _pair_head(position: Position, email: str) -> str:
    return json.dumps(
        {
            "user": other_of(position.conversation, email),
            "delivered_seq": position.delivered_seq,
            "read_seq": position.read_seq,
        }
    )


async def _messages(email: str, page: list[Message], more: _More) -> AsyncIterator[str]:
    comma = ""
    while page:
        yield comma + ",".join(MessageView.of(one, email).model_dump_json() for one in page)
        comma = ","
        page = await more(page[-1].seq)
