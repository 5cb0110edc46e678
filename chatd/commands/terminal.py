"""A person at a terminal, or a program at a pipe: lines in, lines out, ticks in front of them.

On a terminal what is typed stays at the bottom, whatever arrives meanwhile, and a tick changes
where it stands. In a pipe a line is printed once it has its tick, and again when that changes.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
import termios
import tty
import unicodedata
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol, Self

_CHUNK: Final = 4096
_JOINERS: Final = "\u200c\u200d"
"""These shape what stands beside them, in words of many languages and in emoji."""
_UNSHOWN: Final = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def shown(text: str, indent: str = "") -> str:
    """Text of others', fit for a terminal: it can neither drive it nor look like another line."""
    return f"\n{indent}".join(_escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(
        repr(one)[1:-1]
        if unicodedata.category(one) in _UNSHOWN and one not in _JOINERS and one != "\t"
        else one
        for one in line
    ).replace("\t", "    ")


def width(text: str) -> int:
    """Columns that a line takes on a terminal."""
    return sum(_columns(one) for one in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Tick(Enum):
    """How far a message of one's own has got; the tick's three columns."""

    NONE = "   "
    SENDING = "·  "
    REFUSED = "!  "
    STORED = "✓  "
    DELIVERED = "✓✓ "
    READ = "\x1b[34m✓✓\x1b[0m "


class Line(NamedTuple):
    """A line that was printed, and where: rows from the beginning."""

    text: str
    row: int


class Screen(Protocol):
    """Where a chat takes place."""

    prompt: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...

    def lines(self) -> AsyncIterator[str]:
        """What is typed, line by line, until that ends."""

    def print(self, text: str, tick: Tick = Tick.NONE) -> Line:
        """Print a line, or some."""

    def mark(self, line: Line, tick: Tick) -> None:
        """Change the tick of what was printed."""


def screen() -> Screen:
    """What standard input and output are."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return Terminal(sys.stdin.fileno(), sys.stdout.fileno())
    return Pipe(sys.stdin.fileno(), sys.stdout.fileno())


class Pipe:
    """Lines in, lines out."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.prompt = ""
        self._stdin = stdin
        self._stdout = stdout
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def lines(self) -> AsyncIterator[str]:
        while data := await _read(self._stdin):
            *whole, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
            for line in whole:
                yield line.rstrip("\r")
        if self._rest:
            yield self._rest

    def print(self, text: str, tick: Tick = Tick.NONE) -> Line:
        if tick is not Tick.SENDING:
            _write(self._stdout, f"{_plain(tick)}{text}\n")
        return Line(text, 0)

    def mark(self, line: Line, tick: Tick) -> None:
        self.print(line.text + (" (read)" if tick is Tick.READ else ""), tick)


class Editor:
    """One line that is being typed: its end is where one types. No I/O."""

    def __init__(self) -> None:
        self.text = ""
        self.is_over = False
        self._escape = ""

    def feed(self, keys: str) -> list[str]:
        """What keys were pressed; the lines that this has ended."""
        ended = []
        for key in keys:
            if self._is_escape(key):
                continue
            if key in "\r\n":
                ended.append(self.text)
                self.text = ""
            else:
                self._press(key)
        return ended

    def _press(self, key: str) -> None:
        match key:
            case "\x7f" | "\b":
                self.text = self.text[:-1]
            case "\x15":  # Ctrl-U
                self.text = ""
            case "\x17":  # Ctrl-W
                self.text = self.text.rstrip().rpartition(" ")[0]
            case "\x04":  # Ctrl-D
                self.is_over = self.is_over or not self.text
            case _ if key.isprintable() or key in _JOINERS:
                self.text += key

    def _is_escape(self, key: str) -> bool:
        """Whether it belongs to what an arrow or a function key sends (ECMA-48): passed over."""
        if not self._escape:
            self._escape = key if key == "\x1b" else ""
            return bool(self._escape)
        is_first = self._escape == "\x1b"
        goes_on = (is_first and key in "[O") or (not is_first and not "@" <= key <= "~")
        self._escape = self._escape + key if goes_on else ""
        return True


class Terminal:
    """A terminal: the prompt below, everything else above it."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._prompt = ""
        self._stdin = stdin
        self._stdout = stdout
        self._editor = Editor()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._row = 0
        self._size = os.get_terminal_size(stdout)
        self._first_row = 0

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._stdin)
        tty.setcbreak(self._stdin)
        return self

    def __exit__(self, *_: object) -> None:
        _write(self._stdout, "\r\x1b[K")
        termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._before)

    @property
    def prompt(self) -> str:
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: str) -> None:
        self._prompt = prompt
        self._draw_prompt()

    async def lines(self) -> AsyncIterator[str]:
        self._draw_prompt()
        while not self._editor.is_over and (data := await _read(self._stdin)):
            ended = self._editor.feed(self._decoder.decode(data))
            self._draw_prompt()
            for line in ended:
                yield line

    def print(self, text: str, tick: Tick = Tick.NONE) -> Line:
        self._look_at_size()
        line = Line(text, self._row)
        _write(self._stdout, f"\r\x1b[K{tick.value}{text}\n{self._bottom()}")
        columns = max(1, self._size.columns)
        first, *others = text.split("\n")
        widths = [len(Tick.NONE.value) + width(first), *map(width, others)]
        self._row += sum(max(1, -(-one // columns)) for one in widths)
        return line

    def mark(self, line: Line, tick: Tick) -> None:
        self._look_at_size()
        up = self._row - line.row
        if line.row >= self._first_row and up < self._size.lines:
            _write(self._stdout, f"\x1b7\x1b[{up}A\r{tick.value}\x1b8")

    def _look_at_size(self) -> None:
        size = os.get_terminal_size(self._stdout)
        if size.columns != self._size.columns:
            # Lines are broken elsewhere now: nobody knows where earlier ones stand.
            self._first_row = self._row
        self._size = size

    def _draw_prompt(self) -> None:
        _write(self._stdout, f"\r\x1b[K{self._bottom()}")

    def _bottom(self) -> str:
        """The prompt and, of what is typed, as much of its end as a row has room for."""
        room = max(0, self._size.columns - width(self._prompt) - 1)
        text = self._editor.text[-room:] if room else ""
        while text and width(text) > room:
            text = text[1:]
        return self._prompt + text


def _plain(tick: Tick) -> str:
    return Tick.DELIVERED.value if tick is Tick.READ else tick.value


def _write(stdout: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(stdout, data) :]


async def _read(stdin: int) -> bytes:
    """What comes next, nothing once there is no more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(stdin, _wake, ready)
    except PermissionError:
        return os.read(stdin, _CHUNK)  # a file: there is nothing to wait for
    try:
        await ready
    finally:
        loop.remove_reader(stdin)
    try:
        return os.read(stdin, _CHUNK)
    except OSError:
        return b""  # the terminal is gone


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
