"""Has an operation done: by the running server, or without one on the store itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

from chatd import admin_socket
from chatd.app import App
from chatd.commands.options import fail
from chatd.errors import ChatError
from chatd.keys import KeyFileRefused
from chatd.logs import make_logger
from chatd.settings import Settings
from chatd.storage.refused import StorageRefused

FAILED = 1


def run(settings: Settings, operation: str, arguments: Mapping[str, Any]) -> Any:
    """What the operation answers; what it refuses is said, and the program exits with 1."""
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        server = admin_socket.connect(settings.storage.data_dir)
    except OSError as error:
        place = settings.storage.data_dir / admin_socket.NAME
        fail(f"{place}: {error.strerror}: run this as the user that chatd runs as", FAILED)
    if server is not None:
        return _ask(server, operation, given)
    try:
        return asyncio.run(_alone(settings, operation, given))
    except ChatError as error:
        fail(error.detail, FAILED)
    except (StorageRefused, KeyFileRefused) as error:
        fail(str(error), FAILED)


class _Connection(HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("chatd")
        self.sock = connected


def _ask(server: socket.socket, operation: str, arguments: Mapping[str, Any]) -> Any:
    connection = _Connection(server)
    try:
        connection.request("POST", f"/{operation}", json.dumps(arguments))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError) as error:
        fail(f"the server did not answer: {error}", FAILED)
    finally:
        connection.close()
    if response.status != 200:
        fail(str(answer["detail"]), FAILED)
    return answer


async def _alone(settings: Settings, operation: str, arguments: Mapping[str, Any]) -> Any:
    app = App(settings, make_logger("auto", "error"))
    try:
        await app.storage.start()
        return await app.administration.call(operation, arguments)
    finally:
        await app.stop()
