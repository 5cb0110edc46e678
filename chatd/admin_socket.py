"""The socket in the data folder by which commands reach a running server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application

NAME: Final = "admin.sock"
_LONGEST: Final = 100
"""Bytes of a socket's path that every system takes (unix(7))."""


class AdminSocket:
    """Listens while it is open, for chatd's own user alone."""

    def __init__(self, data_dir: Path, application: Application) -> None:
        self._data_dir = data_dir
        self._server = HTTPServer(application)
        self._bound: os.stat_result | None = None

    def open(self) -> None:
        """Take the socket's place; raises OSError where that can't be, or another server has it."""
        if (another := connect(self._data_dir)) is not None:
            another.close()
            raise OSError(errno.EADDRINUSE, "another server answers there", str(self._path))
        with short_path(self._data_dir) as path:
            self._server.add_socket(bind_unix_socket(path, mode=0o600))
        self._bound = self._path.stat()

    async def close(self) -> None:
        """Answer nobody any more, and leave no socket behind."""
        if self._bound is None:
            return
        with contextlib.suppress(FileNotFoundError):
            # Before the socket is closed: until then no other file can have its number.
            if os.path.samestat(self._path.stat(), self._bound):
                self._path.unlink()
        self._bound = None
        self._server.stop()
        await self._server.close_all_connections()

    @property
    def _path(self) -> Path:
        return self._data_dir / NAME


def connect(data_dir: Path) -> socket.socket | None:
    """A connection to the server of this data folder; None where none is running."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        with short_path(data_dir) as path:
            connected.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connected.close()
        return None
    except OSError:
        connected.close()
        raise
    return connected


@contextlib.contextmanager
def short_path(data_dir: Path) -> Iterator[str]:
    """The socket's path, by way of the folder's own file where it would be too long."""
    path = str(data_dir / NAME)
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{NAME}"
    finally:
        os.close(folder)
