"""Several servers of one store, the NATS between them, and what may come late there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from chatd.app import App
from chatd.cluster.bus import Bus
from chatd.cluster.cluster import Cluster
from chatd.cluster.packets import decode_packet
from chatd.news import AnyNews, News
from tests.chat import Chat, eventually, start_app
from tests.nats import NatsServer


class Team(NamedTuple):
    """Three servers in this loop, each by its own address."""

    apps: list[App]
    chats: list[Chat]

    def cluster(self, number: int) -> Cluster:
        cluster = self.apps[number].cluster
        assert cluster is not None
        return cluster

    async def heard(self, number: int) -> None:
        """Return once the others have heard all that this server has told everybody by now: it
        tells them, last, who comes on line."""
        user = await self.chats[number].user(f"{uuid.uuid4().hex}@example.org")
        async with user.socket():
            others = [self.cluster(other) for other in range(3) if other != number]
            await eventually(lambda: all(user.email in one.online() for one in others))


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.close()


@pytest.fixture
async def team(
    io_loop: Any, tmp_path: Path, mongo_url: str, nats: NatsServer
) -> AsyncIterator[Team]:
    apps = [
        await start_app(
            tmp_path / name,
            mongo_url,
            cluster__nats_url=nats.url,
            auth__key_file=tmp_path / "keys.json",
        )
        for name in ("one", "two", "three")
    ]
    chats = [Chat(await app.start()) for app in apps]
    await eventually(
        lambda: all(app.cluster is not None and app.cluster.neighbours == 2 for app in apps)
    )
    yield Team(apps, chats)
    for chat, app in zip(chats, apps, strict=True):
        chat.close()
        await app.stop()


class Post:
    """What the servers tell each other: some of it comes late, or never."""

    def __init__(self, publish: Callable[[Bus, int, bytes], None]) -> None:
        self.told: list[tuple[str, AnyNews]] = []
        """All that was told, and by which server."""
        self._publish = publish
        self._late: set[tuple[str, type[News]]] = set()
        self._held: list[tuple[Bus, int, bytes]] = []
        self._cut = False

    def hold(self, cluster: Cluster, kind: type[News]) -> None:
        """Hold back, from now on, this server's packets with news of that kind."""
        self._late.add((cluster.server, kind))

    def release(self) -> None:
        """Send what was held back, behind what went before; and hold back nothing more."""
        self._late.clear()
        assert self._held, "nothing was held back"
        while self._held:
            self._publish(*self._held.pop(0))

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Inside, whatever is told is lost."""
        self._cut = True
        try:
            yield
        finally:
            self._cut = False

    def publish(self, bus: Bus, shard: int, data: bytes) -> None:
        packet = decode_packet(data)
        self.told += [(packet.server, news) for news in packet.news]
        if self._cut:
            return
        if any((packet.server, type(news)) in self._late for news in packet.news):
            self._held.append((bus, shard, data))
        else:
            self._publish(bus, shard, data)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    post = Post(Bus.publish)

    def publish(bus: Bus, shard: int, data: bytes) -> None:
        post.publish(bus, shard, data)

    monkeypatch.setattr(Bus, "publish", publish)
    return post


class Late:
    """A call that is made at once, and whose answer is held back until it is let go; or some of
    its calls: those that have all of ``only`` among their arguments."""

    def __init__(self, call: Callable[..., Awaitable[Any]], only: Collection[str] = ()) -> None:
        self._call = call
        self._only = set(only)
        self.made = asyncio.Event()
        self.go = asyncio.Event()

    @classmethod
    def put(
        cls, monkeypatch: pytest.MonkeyPatch, where: object, name: str, only: Collection[str] = ()
    ) -> Self:
        """Have it take the place of a method."""
        late = cls(getattr(where, name), only)
        monkeypatch.setattr(where, name, late)
        return late

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = await self._call(*args, **kwargs)
        if self._only <= kwargs.keys():
            self.made.set()
            await self.go.wait()
        return answer
