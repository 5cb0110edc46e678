"""A running server for each test, on every store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.app import App, documented_operations
from chatd.openapi import asyncapi_document, openapi_document
from tests.chat import Chat, start_app


@pytest.fixture(scope="session", autouse=True)
def documents() -> Iterator[None]:
    """What servers say of themselves is alike for all, and is half of what their start costs."""
    openapi, asyncapi = openapi_document(documented_operations()), asyncapi_document()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatd.app.openapi_document", lambda _: openapi)
        patch.setattr("chatd.app.asyncapi_document", lambda: asyncapi)
        yield


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the ``settings`` mark of the test asks for."""
    mark = request.node.get_closest_marker("settings")
    return dict(mark.kwargs) if mark else {}


@pytest.fixture
async def server(
    io_loop: object, tmp_path: Path, storage_url: str, settings: dict[str, Any]
) -> AsyncIterator[App]:
    app = await start_app(tmp_path, storage_url, **settings)
    yield app
    await app.stop()


@pytest.fixture
async def chat(server: App) -> AsyncIterator[Chat]:
    chat = Chat(await server.start())
    yield chat
    chat.close()
