"""One timer for all connections: Pings to the silent, an end to the dead and the expired."""

from __future__ import annotations

import asyncio
from typing import Final

from chatd.errors import CloseCode
from chatd.registry import ConnectionRegistry

_LONGEST: Final = 1.0
_SHORTEST: Final = 0.05
"""Seconds between two looks, at most and at least, whatever the settings are."""
_LOOKS: Final = 10


class KeepAlive:
    """Looks at every connection about once a second; more often where the times are short.

    A peer that falls silent is let go within ``ping_seconds + pong_seconds``. Each of the two is
    noticed up to a look too late, so the Ping leaves by as much, and one for luck, too early.
    """

    def __init__(
        self, registry: ConnectionRegistry, *, ping_seconds: float, pong_seconds: float
    ) -> None:
        """``ping_seconds``: how long a connection may be silent at most before it is sent a
        Ping; ``pong_seconds``: how long its Pong may take."""
        self.interval = max(_SHORTEST, min(_LONGEST, ping_seconds / _LOOKS, pong_seconds / _LOOKS))
        self._registry = registry
        self._ping_seconds = max(0.0, ping_seconds - 3 * self.interval)
        self._pong_seconds = pong_seconds
        self._swept: float | None = None

    async def run_forever(self) -> None:
        """The coroutine that sweeps."""
        loop = asyncio.get_running_loop()
        while True:
            self.sweep(loop.time())
            await asyncio.sleep(self.interval)

    def sweep(self, now: float) -> None:
        """Look at every connection; ``now`` is the loop's time."""
        missed = self._missed(now)
        for connection in self._registry:
            if missed:
                connection.pardon(missed)
            if connection.login.ends_at <= now:
                connection.end(CloseCode.UNAUTHENTICATED, "the token has expired", reconnect=False)
            else:
                connection.keep_alive(now, self._ping_seconds, self._pong_seconds)

    def _missed(self, now: float) -> float:
        """Seconds in which the server itself was frozen, or too busy to look.

        It knows nothing of its peers' silence then: their Pongs may still lie unread.
        """
        swept, self._swept = self._swept, now
        passed = 0.0 if swept is None else now - swept
        return passed if passed > 2 * self.interval else 0.0
