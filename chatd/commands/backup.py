"""``chatd backup`` and ``chatd restore``: the SQLite store as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chatd.commands.options import (
    FAILED,
    as_json,
    fail,
    load_or_fail,
    origins,
    sentence,
    settings_options,
    tell,
)
from chatd.storage import sqlite_path
from chatd.storage.refused import StorageRefused
from chatd.storage.sqlite.backup import back_up
from chatd.storage.sqlite.backup import restore as put_back

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@settings_options
@as_json
def backup(file: Path, as_json: bool, **where: Any) -> None:
    """Copy the SQLite store to FILE, as it is at one moment, while the server goes on.

    The keys that tokens are signed with are not in it: without them everybody signs in again.
    """
    store = _store(where)
    try:
        messages = back_up(store, file)
    except (StorageRefused, OSError) as error:
        fail(sentence(error), FAILED)
    answer = {"file": str(file), "bytes": file.stat().st_size, "messages": messages}
    tell(answer, f"{file} has {messages} messages, {answer['bytes']} bytes.", in_json=as_json)


@click.command()
@_file
@click.option("--replace", is_flag=True, help="Put it in the place of the store that there is.")
@settings_options
@as_json
def restore(file: Path, replace: bool, as_json: bool, **where: Any) -> None:
    """Make the SQLite store what it was when FILE was written. No server may be running."""
    store = _store(where)
    try:
        messages = put_back(file, store, replace=replace)
    except (StorageRefused, OSError) as error:
        fail(sentence(error), FAILED)
    answer = {"store": str(store), "messages": messages}
    tell(answer, f"{store} has {messages} messages again.", in_json=as_json)


def _store(where: dict[str, Any]) -> Path:
    settings = load_or_fail(origins(**where))
    path = sqlite_path(settings.storage.url, settings.storage.data_dir)
    if path is None:
        fail("only a SQLite store is backed up by chatd; for MongoDB use mongodump --oplog", FAILED)
    return path
