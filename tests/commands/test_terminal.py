"""What stands on a terminal, and what is typed there."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chatd.client import Conversation, Message, Receipt
from chatd.commands.terminal import Editor, Line, Pipe, Tick, shown, width
from chatd.commands.ticks import Ticks

BOB, EVE = "bob@example.org", "eve@example.org"
WITH_BOB, CLUB = Conversation(user=BOB), Conversation(group="club")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "on_screen"),
    [
        ("Grüße, 世界 👩\u200d🚀", "Grüße, 世界 👩\u200d🚀"),
        ("a\tb", "a    b"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("back\rover", r"back\rover"),
        ("\u202eright to left\u2069", r"\u202eright to left\u2069"),
        ("two\nlines\u2028or three", "two\n  lines\\u2028or three"),
        ("\ud800", r"\ud800"),
    ],
)
def test_text_is_shown_and_drives_nothing(text: str, on_screen: str) -> None:
    assert shown(text, "  ") == on_screen


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("世界", 4), ("e\u0301", 1), ("🚀", 2)]
)
def test_the_width_is_that_on_a_terminal(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("keys", "lines", "left"),
    [
        ("hello\rwor", ["hello"], "wor"),
        ("one\ntwo\n", ["one", "two"], ""),
        ("helo\x7flo", [], "hello"),
        ("\x7f\x7fa", [], "a"),
        ("all of it\x15b", [], "b"),
        ("the last word\x17", [], "the last"),
        ("a\x1b[Db\x1b[3~c\x1b[1;5Cd\x1bOPe", [], "abcde"),
        ("a\x00\x01b", [], "ab"),
        ("👩\u200d🚀", [], "👩\u200d🚀"),
    ],
)
def test_what_is_typed_becomes_lines(keys: str, lines: list[str], left: str) -> None:
    for pieces in ([keys], list(keys)):
        editor = Editor()
        assert [line for piece in pieces for line in editor.feed(piece)] == lines
        assert editor.text == left
        assert not editor.is_over


def test_ctrl_d_ends_an_empty_line_only() -> None:
    editor = Editor()
    editor.feed("a\x04")
    assert not editor.is_over
    editor.feed("\x7f\x04")
    assert editor.is_over


async def test_a_pipe_is_read_by_lines_whatever_pieces_they_come_in(io_loop: Any) -> None:
    reading, writing = os.pipe()
    pipe = Pipe(reading, 1)

    async def write() -> None:
        for piece in (b"one\r\ntw", b"o\n\xf0\x9f", b"\x9a\x80\nno end"):
            os.write(writing, piece)
            await asyncio.sleep(0.01)
        os.close(writing)

    writer = asyncio.create_task(write())
    assert [line async for line in pipe.lines()] == ["one", "two", "🚀", "no end"]
    await writer
    os.close(reading)


async def test_a_file_is_read_as_well(io_loop: Any, tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\n")
    with file.open() as opened:
        assert [line async for line in Pipe(opened.fileno(), 1).lines()] == ["one", "two"]


class Marked(Pipe):
    """A screen that keeps the last tick of each line."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.ticks: dict[str, Tick] = {}

    def mark(self, line: Line, tick: Tick) -> None:
        self.ticks[line.text] = tick


@pytest.fixture
def screen() -> Marked:
    return Marked()


@pytest.fixture
def ticks(screen: Marked) -> Ticks:
    return Ticks(screen)


def receipt(kind: Any, by: str, seq: int, **where: str) -> Receipt:
    return Receipt(kind, by, seq, NOON, **where)


def test_a_tick_follows_the_receipts(screen: Marked, ticks: Ticks) -> None:
    for seq in (1, 2, 3):
        ticks.follow(WITH_BOB, seq, Line(str(seq), 0), Tick.SENDING)
    assert screen.ticks == dict.fromkeys("123", Tick.STORED)
    ticks.take(receipt("delivered", BOB, 2, to=BOB))
    ticks.take(receipt("read", BOB, 1, to=BOB))
    assert screen.ticks == {"1": Tick.READ, "2": Tick.DELIVERED, "3": Tick.STORED}
    ticks.take(receipt("read", BOB, 3, to=BOB))
    assert screen.ticks == dict.fromkeys("123", Tick.READ)


def test_a_receipt_that_was_faster_than_the_answer_counts(screen: Marked, ticks: Ticks) -> None:
    ticks.take(receipt("delivered", BOB, 1, to=BOB))
    ticks.follow(WITH_BOB, 1, Line("1", 0), Tick.SENDING)
    assert screen.ticks == {"1": Tick.DELIVERED}


def test_in_a_group_a_tick_means_everyone(screen: Marked, ticks: Ticks) -> None:
    ticks.know(CLUB, BOB, 5, 5)
    ticks.know(CLUB, EVE, 4, 0)
    ticks.follow(CLUB, 5, Line("5", 0), Tick.STORED)
    ticks.know(CLUB, EVE, 3, 0)
    assert ticks.of(CLUB, 4) is Tick.DELIVERED
    assert not screen.ticks
    ticks.forget(CLUB, EVE)
    assert screen.ticks == {"5": Tick.READ}


def test_the_history_tells_how_far_messages_have_got(ticks: Ticks) -> None:
    messages = [
        Message(WITH_BOB, seq, "me", "text", NOON, "id", True, None, delivered, read)
        for seq, delivered, read in ((1, NOON, NOON), (2, NOON, None), (3, None, None))
    ]
    ticks.learn(messages)
    assert [ticks.of(WITH_BOB, seq) for seq in (1, 2, 3)] == [
        Tick.READ,
        Tick.DELIVERED,
        Tick.STORED,
    ]
