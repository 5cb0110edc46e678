"""Structured logs: one event a line, on standard error, JSON or readable text.

An event is named like ``socket.opened`` and carries ids and counts; never a token, a password,
a message's text or a query's value.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

Logger = structlog.typing.FilteringBoundLogger

_Event = MutableMapping[str, Any]


def make_logger(format_: str, level: str, stream: TextIO | None = None) -> Logger:
    """A logger that writes to ``stream`` (standard error).

    ``format_``: ``json``, ``text``, or ``auto``: text on a terminal, JSON elsewhere.
    ``level``: ``debug``, ``info``, ``warning`` or ``error``.
    """
    stream = stream or sys.stderr
    readable = format_ == "text" or (format_ == "auto" and stream.isatty())
    render: list[Callable[..., Any]] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), repr_native_str=True)]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _in_reading_order,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return logger


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
        self._logger.log(
            record.levelno,
            "library.message",
            logger=record.name,
            message=record.getMessage(),
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )


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
