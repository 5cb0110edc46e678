"""The embedded store: one SQLite file, one writer thread, two readers beside it."""

from chatd.storage.sqlite.store import SqliteStorage

__all__ = ["SqliteStorage"]
