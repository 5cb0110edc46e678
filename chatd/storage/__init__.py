"""Where things are kept: one contract (`base`), one adapter a backend, opened from a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from chatd.storage.base import Storage
from chatd.storage.memory import MemoryStorage
from chatd.storage.sqlite import SqliteStorage

FORMS: Final = (
    "memory:, sqlite:PATH (PATH relative to the data folder, or absolute) "
    "or mongodb://HOST/DATABASE"
)


def sqlite_path(url: str, data_dir: Path) -> Path | None:
    """The file of the SQLite store that ``url`` names; None where it names another kind."""
    scheme, _, rest = url.partition(":")
    return data_dir / rest if scheme == "sqlite" and rest else None


def open_storage(url: str, data_dir: Path) -> Storage:
    """The store that ``url`` names, not started yet.

    Raises ValueError with one sentence where no adapter reads the URL. The sentence repeats
    nothing behind the scheme: a URL may hold a password.
    """
    scheme, colon, rest = url.partition(":")
    opener = _OPENERS.get(scheme)
    if not colon or opener is None:
        named = f"{scheme}:" if colon else "a word without a scheme"
        raise ValueError(f"a store URL is {FORMS}, not {named}")
    return opener(rest, data_dir)


def _memory(rest: str, _data_dir: Path) -> Storage:
    if rest:
        raise ValueError("a store in memory has no path: write memory: with nothing behind it")
    return MemoryStorage()


def _sqlite(rest: str, data_dir: Path) -> Storage:
    if not rest or "\0" in rest:
        raise ValueError("a SQLite store needs a file: write sqlite:PATH, like sqlite:chatd.db")
    if rest.startswith("//"):
        raise ValueError(
            "a SQLite store is sqlite:PATH without slashes in between: "
            "sqlite:chatd.db in the data folder, or sqlite:/srv/chatd.db"
        )
    return SqliteStorage(data_dir / rest)


def _mongodb(scheme: str, rest: str) -> Storage:
    if not rest.startswith("//"):
        raise ValueError(f"a MongoDB store is {scheme}://HOST/DATABASE")
    # The driver takes a while to load, and megabytes: only those pay who use it.
    from chatd.storage.mongo import MongoStorage  # noqa: PLC0415

    return MongoStorage(f"{scheme}:{rest}")


_OPENERS: Final[Mapping[str, Callable[[str, Path], Storage]]] = MappingProxyType(
    {
        "memory": _memory,
        "sqlite": _sqlite,
        "mongodb": lambda rest, _data_dir: _mongodb("mongodb", rest),
        "mongodb+srv": lambda rest, _data_dir: _mongodb("mongodb+srv", rest),
    }
)
