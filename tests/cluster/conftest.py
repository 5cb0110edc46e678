"""Several servers of one store, and the NATS between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatd.app import App
from tests.chat import Chat, eventually, start_app
from tests.nats import NatsServer


class Team(NamedTuple):
    """Three servers in this loop, each by its own address."""

    apps: list[App]
    chats: list[Chat]


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
