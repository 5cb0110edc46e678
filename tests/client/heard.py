"""Clients whose events are all kept, for tests that ask afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from chatd.client import Client, Connected, Conversation, Event, Message, Sent
from tests.chat import PASSWORD
from tests.leaks import watch

_PATIENCE: Final = 60.0
"""Seconds: servers are killed meanwhile."""


async def sign_in(url: str, email: str, **options: Any) -> Client:
    client = await Client.sign_in(url, email, PASSWORD, **options)
    watch.keep({"password": PASSWORD, "token": client.token})
    return client


class Heard:
    """All that a client hears, kept by a task that does nothing else."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[Event] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self.client:
            async with self._news:
                self.events.append(event)
                self._news.notify_all()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self, conversation: Conversation) -> list[str]:
        return [one.text for one in self.of(Message) if one.conversation == conversation]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE), self._news:
            await self._news.wait_for(lambda: condition() or self._task.done())
        assert condition(), self._task

    async def first(self, wanted: type, /, **fields: object) -> Any:
        """The first event of this kind with these fields."""

        def found() -> list[Any]:
            return [
                one
                for one in self.of(wanted)
                if all(getattr(one, name) == value for name, value in fields.items())
            ]

        await self.until(lambda: bool(found()))
        return found()[0]

    async def end(self) -> None:
        await self.client.close()
        await self._task


@asynccontextmanager
async def listening(url: str, email: str, **options: Any) -> AsyncIterator[Heard]:
    """A client on line, and all it hears."""
    async with await sign_in(url, email, **options) as client:
        heard = Heard(client)
        await heard.first(Connected)
        yield heard
        await heard.end()


async def numbered(client: Client, count: int, **target: str) -> list[Sent]:
    """Send so many messages, as fast as the client lets us."""
    texts = [f"{client.user} says {number}" for number in range(count)]
    watch.keep({"text": f"{client.user} says"})
    return await asyncio.gather(*(client.send(text, **target) for text in texts))
