"""Frames that nothing but an error answers: how to know that they were taken. No I/O.

The server deals with a connection's frames one after the other. So behind each of these goes a
``ping``, and its ``pong`` says that it was taken, unless an error came before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from chatd.client import frames
from chatd.client.errors import Refused

_RETRY_SECONDS: Final = 1.0


class _Ask(NamedTuple):
    frame: bytes
    answer: asyncio.Future[None]


class Asks:
    """What is asked, until it is answered; again on each new connection."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """``write``: sends a frame where there is a connection."""
        self._write = write
        self._open: deque[_Ask] = deque()
        self._refused: Refused | None = None

    def __bool__(self) -> bool:
        return bool(self._open)

    def ask(self, frame: bytes) -> asyncio.Future[None]:
        """Ask this; whether somebody waits for the answer or not."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._add(_Ask(frame, answer))
        return answer

    def connected(self) -> None:
        """There is a new connection: what is not answered goes again."""
        self._refused = None
        for one in self._open:
            self._write_one(one)

    def refused(self, error: Refused) -> None:
        """An error came, to the oldest of what is asked: what came before has been answered."""
        self._refused = error

    def pong(self) -> None:
        """The oldest of what is asked has been dealt with."""
        if not self._open:
            return
        one, error, self._refused = self._open.popleft(), self._refused, None
        if one.answer.done():
            return
        if error is None:
            one.answer.set_result(None)
        elif error.is_transient:
            pause = error.retry_after or _RETRY_SECONDS
            asyncio.get_running_loop().call_later(pause, self._add, one)
        else:
            one.answer.set_exception(error)

    def end(self, error: BaseException) -> None:
        """There will be no answer to anything."""
        for one in self._open:
            if not one.answer.done():
                one.answer.set_exception(error)

    def _add(self, one: _Ask) -> None:
        self._open.append(one)
        self._write_one(one)

    def _write_one(self, one: _Ask) -> None:
        self._write(one.frame)
        self._write(frames.ping())


def _seen(answer: asyncio.Future[None]) -> None:
    """An error that nobody waits for is no error of the loop's."""
    if not answer.cancelled():
        answer.exception()
