"""What is on its way to the server until it is answered: in order, not all at once. No I/O."""

from __future__ import annotations

import heapq
from typing import Final

from msgspec import Struct

_WINDOW: Final = 32
"""How many may be unanswered at the same time."""


class _Letter(Struct):
    frame: bytes
    number: int
    in_flight: bool = False


class Outbox:
    """Messages by their ``client_id``. Times are seconds of a monotonic clock.

    Once the server says that there are too many, they go one by one, as fast as it lets them,
    until a window's worth has got through.
    """

    def __init__(self, window: int = _WINDOW) -> None:
        self._full_window = self._window = window
        self._letters: dict[str, _Letter] = {}
        self._waiting: list[tuple[int, str]] = []
        self._number = 0
        self._in_flight = 0
        self._streak = 0
        self._not_before = 0.0

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._letters

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, client_id: str, frame: bytes) -> None:
        """This is to be sent, behind all that is."""
        self._number += 1
        self._letters[client_id] = _Letter(frame, self._number)
        heapq.heappush(self._waiting, (self._number, client_id))

    def remove(self, client_id: str) -> None:
        """It was answered, or nobody waits for the answer any more."""
        letter = self._letters.pop(client_id, None)
        if letter is not None and letter.in_flight:
            self._in_flight -= 1

    def stored(self, client_id: str) -> None:
        """The server has stored it."""
        self.remove(client_id)
        self._streak += 1
        if self._streak >= self._full_window:
            self._window = self._full_window

    def postpone(self, client_id: str, until: float) -> None:
        """The server would not take it now: it goes again, and nothing goes before ``until``."""
        letter = self._letters.get(client_id)
        if letter is None:
            return
        self._put_back(client_id, letter)
        self._window, self._streak = 1, 0
        self._not_before = max(self._not_before, until)

    def disconnected(self) -> None:
        """What is unanswered goes again, in its old order."""
        for client_id, letter in self._letters.items():
            if letter.in_flight:
                self._put_back(client_id, letter)

    def _put_back(self, client_id: str, letter: _Letter) -> None:
        if letter.in_flight:
            letter.in_flight = False
            self._in_flight -= 1
            heapq.heappush(self._waiting, (letter.number, client_id))

    def due(self, now: float) -> list[bytes]:
        """The frames to write now."""
        frames: list[bytes] = []
        while self._waiting and self._in_flight < self._window and now >= self._not_before:
            number, client_id = heapq.heappop(self._waiting)
            letter = self._letters.get(client_id)
            if letter is not None and letter.number == number:
                letter.in_flight = True
                self._in_flight += 1
                frames.append(letter.frame)
        return frames

    def wait(self, now: float) -> float | None:
        """Seconds until more is `due`; None where that takes an answer, or something to send."""
        if not self._waiting or self._in_flight >= self._window:
            return None
        return max(0.0, self._not_before - now)
