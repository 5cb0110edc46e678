"""Structured logs: one event a line, on standard error, JSON or readable text.

An event is named like ``socket.opened`` and carries ids and counts; never a token, a password,
a message's text or a query's value.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from types import MappingProxyType
from typing import Any, Final, TextIO, cast

import structlog

Logger = structlog.typing.FilteringBoundLogger

_Event = MutableMapping[str, Any]

_SEVERITY: Final = MappingProxyType(
    {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}
)
_TOKEN: Final = re.compile(r"eyJ[\w-]+(?:\.|%2[Ee])[\w-]+(?:\.|%2[Ee])[\w-]*")
"""A JSON Web Token: three parts in base64url, the first of which starts with ``{"``. In an address
the dots between them may be escaped."""


class Threshold:
    """The least severe level that is written: debug, info, warning or error. It may be changed."""

    def __init__(self, level: str) -> None:
        self.level = level

    def __call__(self, _: object, method: str, event: _Event) -> _Event:
        if _SEVERITY[method] < _SEVERITY[self.level]:
            raise structlog.DropEvent
        return event


def make_logger(format_: str, threshold: str | Threshold, stream: TextIO | None = None) -> Logger:
    """A logger that writes to ``stream`` (standard error).

    ``format_``: ``json``, ``text``, or ``auto``: text on a terminal, JSON elsewhere.
    """
    if isinstance(threshold, str):
        threshold = Threshold(threshold)
    stream = stream or sys.stderr
    readable = format_ == "text" or (format_ == "auto" and stream.isatty())
    render: list[Callable[..., Any]] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                timestamp_key="time",
                repr_native_str=True,
                # Where rich is installed, the default shows every variable: passwords, tokens.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast(TextIO, _Sink(stream))),
        processors=[
            threshold,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _in_reading_order,
            *render,
            _without_tokens,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
    )
    return logger


class _Sink:
    """A stream that keeps its failures to itself: a full disk or a pipe that nobody reads any
    more must not end what was being logged."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _without_tokens(_: object, __: str, line: Any) -> str:
    """The rendered line: chatd logs no token, but a library that shows a request might."""
    return _TOKEN.sub("[token]", line)


def _in_reading_order(_: object, __: str, event: _Event) -> _Event:
    """When, how bad and what come first on every line."""
    first = ("time", "level", "event")
    return {name: event[name] for name in first} | dict(event)


class _Bridge(logging.Handler):
    """Hands what libraries log through `logging` to our logger, as events of their own."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._logger.log(
                min(record.levelno // 10 * 10, logging.CRITICAL),
                "library.message",
                logger=record.name,
                message=record.getMessage(),
                **({"exc_info": record.exc_info} if record.exc_info else {}),
            )
        except Exception:
            self.handleError(record)


def capture_library_logs(logger: Logger) -> Callable[[], None]:
    """Route `logging` (Tornado's and asyncio's warnings) to ``logger``; the result undoes it."""
    root = logging.getLogger()
    bridge = _Bridge(logger)
    bridge.setLevel(logging.WARNING)
    root.addHandler(bridge)
    # Requests are logged by chatd itself, without the query.
    access = logging.getLogger("tornado.access")
    was_disabled, access.disabled = access.disabled, True

    def undo() -> None:
        root.removeHandler(bridge)
        access.disabled = was_disabled

    return undo
