"""`chatd chat` at a terminal of its own (pty(7)), and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

_PATIENCE = 30.0
_AT_ITS_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""The first terminal that the leader of a session opens is its own: Ctrl-C there means it."""
_SEQUENCE = re.compile(r"\x1b(?:\[(\d*)([A-Za-z])|([78]))")


class Screen:
    """As much of a terminal as a line at the bottom and ticks above it need (ECMA-48)."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = [""]
        self._height = rows
        self._columns = columns
        self._row = self._column = 0
        self._saved = (0, 0)
        self._rest = ""

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def feed(self, text: str) -> None:
        text = self._rest + text
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._character(text[at])
                at += 1
            elif (found := _SEQUENCE.match(text, at)) is not None:
                self._obey(found[1], found[2] or found[3])
                at = found.end()
            elif len(text) - at < 8:
                break
            else:
                raise AssertionError(f"unknown: {text[at : at + 8]!r}")
        self._rest = text[at:]

    def _character(self, one: str) -> None:
        if one == "\r":
            self._column = 0
        elif one == "\n":
            self._down()
        else:
            assert one.isprintable(), repr(one)
            if self._column == self._columns:
                self._down()
                self._column = 0
            row = self.rows[self._row].ljust(self._column)
            self.rows[self._row] = row[: self._column] + one + row[self._column + 1 :]
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")

    def _obey(self, number: str, what: str) -> None:
        match what:
            case "A":
                assert int(number) < self._height, "the cursor stops at the top of a terminal"
                self._row -= int(number)
            case "K":
                self.rows[self._row] = self.rows[self._row][: self._column]
            case "7":
                self._saved = (self._row, self._column)
            case "8":
                self._row, self._column = self._saved
            case "m":
                pass
            case _:
                raise AssertionError(what)


class Terminal:
    """A program at a terminal; to be entered with ``with``."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        self.screen = Screen(rows, columns)
        self.written = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_ITS_TERMINAL, "-m", "chatd.cli", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, *patterns: str) -> None:
        """Return once each of these stands on the screen, each in a row of its own."""

        def stands() -> bool:
            return all(
                any(re.search(pattern, row) for row in self.screen.rows) for pattern in patterns
            )

        self._until(stands, patterns)

    def expect_last(self, row: str) -> None:
        """Return once this is the screen's last row."""
        self._until(lambda: self.screen.rows[-1] == row, row)

    def expect_written(self, sequence: str) -> None:
        """Return once the program has written this."""
        self._until(lambda: sequence in self.written, repr(sequence))

    def ended(self) -> int:
        """Wait for the program's end; its exit status."""
        self._until(lambda: self.process.poll() is not None, "its end")
        return self.process.wait()

    @property
    def settings(self) -> list[object]:
        """How the terminal is set: see termios(3)."""
        return termios.tcgetattr(self._slave)

    def _until(self, condition: Callable[[], bool], what: object) -> None:
        until = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < until, f"{what} in\n{self.screen.text}"
            if select.select([self._master], [], [], 0.05)[0]:
                data = os.read(self._master, 65536).decode()
                self.written += data
                self.screen.feed(data)
