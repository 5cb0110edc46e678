"""When a client connects again, and when it had better not. No I/O."""

from __future__ import annotations

from random import SystemRandom
from typing import Final

from chatd.client.errors import ClientError, Ended, Refused, SignedOut
from chatd.client.frames import Bye

_FIRST_SECONDS: Final = 0.2
_LONGEST_SECONDS: Final = 30.0
_FLOODING_SECONDS: Final = 5.0

_SIGNED_OUT: Final = 4401
_FLOODING: Final = 4429
_FINAL: Final = frozenset((1002, 1003, 1007, 1009, 4400, 4403, 4404))
"""Close codes behind which the same would happen again."""


class Backoff:
    """Pauses that double, up to half a minute, each cut short by chance: not all at once."""

    def __init__(self) -> None:
        self._chance = SystemRandom()
        self._seconds = _FIRST_SECONDS

    def reset(self) -> None:
        """It went well: the next pause is a short one."""
        self._seconds = _FIRST_SECONDS

    def next(self, at_least: float = 0) -> float:
        """Seconds to wait; ``at_least`` is what the server asks for."""
        pause = self._chance.uniform(self._seconds / 2, self._seconds)
        self._seconds = min(2 * self._seconds, _LONGEST_SECONDS)
        return at_least + pause


def why_final(code: int | None, bye: Bye | None) -> Ended | None:
    """The error where connecting again makes no sense behind this end, None where it does."""
    reason = bye.reason if bye is not None else "the server closed the connection"
    if code == _SIGNED_OUT:
        return SignedOut(code, reason)
    if code in _FINAL:
        return Ended(code, reason)
    return None


def asked_for(code: int | None, bye: Bye | None) -> float:
    """Seconds that the server wants a client to stay away."""
    after = bye.after if bye is not None and bye.after is not None else 0.0
    return max(after, _FLOODING_SECONDS) if code == _FLOODING else after


def why_no_handshake(refused: Refused, status: int) -> ClientError | None:
    """The error where a refused handshake would be refused again."""
    if status == 401:
        return SignedOut(_SIGNED_OUT, refused.message)
    if refused.is_transient or status >= 500:
        return None
    return refused
