"""Servers in processes of their own, for tests that kill, stop and restart them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Server

MakeServer = Callable[..., Server]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """A server for the test's own folder; all that were made are ended behind the test."""
    servers: list[Server] = []

    def make(*arguments: str, **options: Any) -> Server:
        server = Server(tmp_path / "data", *arguments, **options)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
