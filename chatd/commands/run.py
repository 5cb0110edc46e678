"""Has an operation done: by the running server, or without one on the store itself."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Coroutine, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec

from chatd import admin_socket
from chatd.app import App
from chatd.commands.options import BAD_SETTINGS, FAILED, fail, sentence
from chatd.commands.places import check_places
from chatd.copying.served import StoreInfo
from chatd.deployment import UnsafeDeployment
from chatd.errors import ChatError
from chatd.keys import KeyFileRefused
from chatd.logs import make_logger
from chatd.settings import Settings, SettingsError
from chatd.storage import open_storage, sqlite_path
from chatd.storage.refused import StorageRefused

Alone = Callable[[Settings, str, Mapping[str, Any]], Coroutine[Any, Any, Any]]
"""What has an operation done without a server."""


def run(
    settings: Settings,
    operation: str,
    arguments: Mapping[str, Any],
    *,
    makes_store: bool = False,
    alone: Alone | None = None,
) -> Any:
    """What the operation answers; what it refuses is said, and the program exits with 1.

    ``makes_store``: whether it may begin a store where there is none. Otherwise whoever names
    another place than the server's would be told of an empty one.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        _require_text(given)
        server = _reach_named(settings)
        if server is not None:
            return ask(server, operation, given)
        _require_store(settings, makes_store=makes_store)
        return asyncio.run((alone or _alone)(settings, operation, given))
    except ChatError as error:
        fail(error.detail, FAILED)
    except (StorageRefused, KeyFileRefused, ServerRefused) as error:
        fail(str(error), FAILED)
    except (SettingsError, UnsafeDeployment) as error:
        fail(str(error), BAD_SETTINGS)


def _require_text(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        # What is not UTF-8 reaches Python as lone surrogates (PEP 383).
        if re.search("[\ud800-\udfff]", str(value)):
            raise SettingsError(f"{name} should be UTF-8 text")


def _reach_named(settings: Settings) -> socket.socket | None:
    """The server of the data folder, which must have the store that is named, if one is."""
    data_dir = settings.storage.data_dir
    server = reach(data_dir)
    if server is None or "url" not in settings.storage.model_fields_set:
        return server
    if not _is_of(settings, msgspec.convert(ask(server, "store", {}), StoreInfo).promise):
        raise ServerRefused(
            f"the server on {data_dir} works on another store: leave --storage out, or name"
            " another --data-dir or the server's own --config"
        )
    return reach(data_dir)


def _is_of(settings: Settings, promise: str) -> bool:
    """Whether a server that promises this has the store that the settings name."""
    url, data_dir = settings.storage.url, settings.storage.data_dir
    try:
        own = open_storage(url, data_dir).promise
    except ValueError as error:
        raise SettingsError(str(error)) from None
    path = sqlite_path(url, data_dir)
    if path is not None and promise != own:
        before, _, behind = own.partition(str(path.absolute()))
        return _is_same(Path(promise.removeprefix(before).removesuffix(behind)), path)
    # Of MongoDB more is known once it was reached.
    return re.match(re.escape(own.removesuffix(".")) + "[.,;]", promise) is not None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _require_store(settings: Settings, *, makes_store: bool) -> None:
    url, data_dir = settings.storage.url, settings.storage.data_dir
    path = sqlite_path(url, data_dir)
    is_missing = path is not None and not path.exists()
    if url == "memory:" or (is_missing and not makes_store):
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
    except (OSError, HTTPException, ValueError) as error:
        raise ServerRefused(f"the server did not answer: {error}") from None
    finally:
        connection.close()
    if response.status != 200:
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise ServerRefused(str(detail or f"the server answered {response.status}"))
    return answer


async def _alone(settings: Settings, operation: str, arguments: Mapping[str, Any]) -> Any:
    app = _app(settings)
    try:
        await app.open_alone()
        return await app.administration.call(operation, arguments)
    finally:
        await app.stop()


def _app(settings: Settings) -> App:
    try:
        check_places(settings)
        return App(settings, make_logger("auto", "error"))
    except (ValueError, OSError) as error:
        raise SettingsError(sentence(error)) from None
