"""What attackers share: a server's address, and users beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.chat import Chat
from tests.e2e.server import Server


@pytest.fixture
async def chat(io_loop: Any, server: Server) -> AsyncIterator[Chat]:
    """The module's ``server``, as users reach it."""
    chat = Chat(server.url)
    yield chat
    chat.close()
