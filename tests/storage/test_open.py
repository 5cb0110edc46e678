"""A store is opened from its URL, or the URL's forms are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from chatd.storage import open_storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.sqlite import SqliteStorage


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_memory_is_a_store_without_a_place(tmp_path: Path) -> None:
    assert isinstance(open_storage("memory:", tmp_path), MemoryStorage)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:chat.db", "data/chat.db"),
        ("sqlite:deeper/down/chat.db", "data/deeper/down/chat.db"),
        ("sqlite:{folder}/elsewhere/chat.db", "elsewhere/chat.db"),
        ("sqlite:odd name?mode=ro&x=#1%20.db", "data/odd name?mode=ro&x=#1%20.db"),
    ],
)
async def test_a_sqlite_path_is_relative_to_the_data_folder_or_absolute(
    io_loop: IOLoop, tmp_path: Path, url: str, file: str
) -> None:
    storage = open_storage(url.format(folder=tmp_path), tmp_path / "data")
    assert isinstance(storage, SqliteStorage)
    assert is_empty(tmp_path), "nothing is made before the start"
    await storage.start()
    assert str(tmp_path / file) in storage.promise
    await storage.close()
    assert (tmp_path / file).stat().st_size > 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "chat.db",
        "memory:x",
        "sqlite",
        "sqlite:",
        "sqlite:a\0b",
        "sqlite://chat.db",
        "sqlite:///srv/chat.db",
        "SQLITE:chat.db",
        "mysql://root:secret@localhost/chat",
        "secret@localhost",
    ],
)
def test_any_other_url_is_told_the_form_and_never_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"memory:|sqlite:PATH") as refused:
        open_storage(url, tmp_path)
    assert "secret" not in str(refused.value)
    assert is_empty(tmp_path)
