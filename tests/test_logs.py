from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from chatd.logs import Logger, capture_library_logs, make_logger

NASTY = 'a\nb\r\n{"event":"forged"}\x1b[31m\u2028\x00é'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A full disk, or a pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise OSError("no space left on device")


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(stream: io.StringIO) -> Logger:
    return make_logger("json", "info", stream)


@pytest.fixture
def captured(log: Logger) -> Iterator[None]:
    undo = capture_library_logs(log)
    yield
    undo()


# -- json --------------------------------------------------------------------------------------


def test_an_event_is_one_line_of_json_that_starts_with_when_how_bad_and_what(
    log: Logger, stream: io.StringIO
) -> None:
    log.info("socket.opened", connection_id="c1", count=3)
    log.warning("socket.slow_consumer", waiting=None)
    first, second = events(stream)
    assert list(first) == ["time", "level", "event", "connection_id", "count"]
    assert first["time"].endswith("Z")
    assert (first["level"], first["event"], first["count"]) == ("info", "socket.opened", 3)
    assert (second["level"], second["waiting"]) == ("warning", None)


@pytest.mark.parametrize("format_", ["json", "text"])
def test_no_value_breaks_the_line_or_reaches_a_terminal_raw(
    stream: io.StringIO, format_: str
) -> None:
    log = make_logger(format_, "info", stream)
    log.info("http.request", path=NASTY, agent=NASTY)
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "\x00" not in text
    if format_ == "json":
        assert events(stream)[0]["path"] == NASTY


def test_what_json_does_not_know_is_shown_as_well(log: Logger, stream: io.StringIO) -> None:
    log.info("odd", value=object(), text="\ud800", raw=b"\xff")
    assert len(events(stream)) == 1


def test_a_traceback_stays_on_the_line(log: Logger, stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log.error("http.failed", exc_info=error)
    (event,) = events(stream)
    assert event["exception"].startswith("Traceback")
    assert "two\nlines" in event["exception"]


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_traceback_shows_no_variables(stream: io.StringIO, format_: str) -> None:
    def sign_in(password: str) -> None:
        raise ValueError("no")

    try:
        sign_in("horse" * 2)
    except ValueError as error:
        make_logger(format_, "info", stream).error("http.failed", exc_info=error)
    assert "ValueError: no" in stream.getvalue()
    assert "horsehorse" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_what_is_below_the_level_is_left_out(stream: io.StringIO, level: str, shown: int) -> None:
    log = make_logger("json", level, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
    assert len(events(stream)) == shown


@pytest.mark.parametrize(
    ("format_", "stream", "readable"),
    [
        ("auto", io.StringIO(), False),
        ("auto", Terminal(), True),
        ("json", Terminal(), False),
        ("text", io.StringIO(), True),
    ],
)
def test_the_format(format_: str, stream: io.StringIO, readable: bool) -> None:
    make_logger(format_, "info", stream).info("server.started", url="http://x")
    assert "server.started" in stream.getvalue()
    assert stream.getvalue().startswith("{") is not readable
    assert ("\x1b[" in stream.getvalue()) is (readable and stream.isatty())


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_log_that_can_not_be_written_ends_nothing(format_: str) -> None:
    log = make_logger(format_, "info", Broken())
    log.error("journal.append_failed", exc_info=ValueError("no"))
    closed = io.StringIO()
    log = make_logger(format_, "info", closed)
    closed.close()
    log.info("server.stopped")


# -- what libraries log ------------------------------------------------------------------------


def test_library_warnings_become_events_and_less_is_left_out(
    captured: None, stream: io.StringIO
) -> None:
    library = logging.getLogger("talkative.library")
    library.setLevel(logging.DEBUG)
    library.warning("odd %s from %s", "thing", NASTY)
    library.info("nothing worth telling")
    (event,) = events(stream)
    assert event["event"] == "library.message"
    assert event["logger"] == "talkative.library"
    assert event["level"] == "warning"
    assert event["message"] == f"odd thing from {NASTY}"


def test_a_librarys_traceback_is_kept(captured: None, stream: io.StringIO) -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("asyncio").exception("failed")
    (event,) = events(stream)
    assert event["level"] == "error"
    assert "ValueError: inside" in event["exception"]


@pytest.mark.parametrize("level", [logging.WARNING, 35, logging.ERROR, logging.CRITICAL, 99])
def test_any_level_from_warning_up_is_kept(captured: None, stream: io.StringIO, level: int) -> None:
    logging.getLogger("library").log(level, "hello")
    (event,) = events(stream)
    assert event["message"] == "hello"


def test_a_librarys_message_that_does_not_fit_its_arguments_ends_nothing(
    captured: None, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    text = "%d of %d"
    logging.getLogger("library").warning(text, "one")
    logging.getLogger("library").warning("next")
    assert events(stream)[-1]["message"] == "next"


@pytest.mark.parametrize("dot", [".", "%2E", "%2e"])
def test_tokens_in_what_a_library_logs_are_not_shown(
    captured: None, stream: io.StringIO, dot: str
) -> None:
    token = dot.join(("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJ1MSJ9", "c2lnbmF0dXJl-_"))
    logging.getLogger("tornado.application").error("Uncaught GET /v1/ws?Authorization=%s", token)
    assert "c2lnbmF0dXJl" not in stream.getvalue()
    assert "eyJzdWIiOiJ1MSJ9" not in stream.getvalue()
    assert "Uncaught GET /v1/ws" in stream.getvalue()


def test_requests_are_logged_by_chatd_alone_while_captured(
    log: Logger, stream: io.StringIO
) -> None:
    access = logging.getLogger("tornado.access")
    undo = capture_library_logs(log)
    access.warning("404 GET /v1/ws?Authorization=secret")
    assert stream.getvalue() == ""
    undo()
    assert not access.disabled


def test_what_was_captured_is_let_go_again(log: Logger, stream: io.StringIO) -> None:
    before = list(logging.getLogger().handlers)
    undo = capture_library_logs(log)
    assert logging.getLogger().handlers != before
    undo()
    assert logging.getLogger().handlers == before
    logging.getLogger("library").warning("not ours")
    assert stream.getvalue() == ""
