"""Has an operation done: by the running server, or without one on the store itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from chatd import admin_socket
from chatd.app import App
from chatd.commands.options import fail
from chatd.errors import ChatError
from chatd.keys import KeyFileRefused
from chatd.logs import make_logger
from chatd.settings import Settings
from chatd.storage import sqlite_path
from chatd.storage.refused import StorageRefused

FAILED = 1


def run(
    settings: Settings, operation: str, arguments: Mapping[str, Any], *, makes_store: bool = False
) -> Any:
    """What the operation answers; what it refuses is said, and the program exits with 1.

    ``makes_store``: whether it may begin a store where there is none. Otherwise whoever names
    another place than the server's would be told of an empty one.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        server = reach(settings.storage.data_dir)
        if server is not None:
            return ask(server, operation, given)
        if not makes_store:
            _require_store(settings)
        return asyncio.run(_alone(settings, operation, given))
    except ChatError as error:
        fail(error.detail, FAILED)
    except (StorageRefused, KeyFileRefused, ServerRefused) as error:
        fail(str(error), FAILED)


def _require_store(settings: Settings) -> None:
    url, data_dir = settings.storage.url, settings.storage.data_dir
    path = sqlite_path(url, data_dir)
    if url == "memory:" or (path is not None and not path.exists()):
        store = "a store in memory ends with its server" if path is None else f"no store at {path}"
        raise StorageRefused(
            f"{store}, and no server runs on the data folder {data_dir}:"
            " name the server's own with --config or --data-dir"
        )


class ServerRefused(Exception):
    """The running server did not do what it was asked: why, in a sentence."""


def reach(data_dir: Path) -> socket.socket | None:
    """A connection to the server of this data folder; None where none is running."""
    try:
        return admin_socket.connect(data_dir)
    except OSError as error:
        raise ServerRefused(
            f"{data_dir / admin_socket.NAME}: {error.strerror}: run this as the user that chatd"
            " runs as"
        ) from None


class _Connection(HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("chatd")
        self.sock = connected


def ask(server: socket.socket, operation: str, arguments: Mapping[str, Any]) -> Any:
    """What the running server answers; the connection ends with that."""
    connection = _Connection(server)
    try:
        connection.request("POST", f"/{operation}", json.dumps(arguments))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError) as error:
        raise ServerRefused(f"the server did not answer: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise ServerRefused(str(answer["detail"]))
    return answer


async def _alone(settings: Settings, operation: str, arguments: Mapping[str, Any]) -> Any:
    app = App(settings, make_logger("auto", "error"))
    try:
        await app.open_alone()
        return await app.administration.call(operation, arguments)
    finally:
        await app.stop()
