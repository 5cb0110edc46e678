"""One timer for all connections: Pings to the silent, an end to the dead and the expired."""

from __future__ import annotations

import asyncio
from typing import Final

from chatd.errors import CloseCode
from chatd.registry import ConnectionRegistry

_SWEEP_SECONDS: Final = 1.0


class KeepAlive:
    """Looks at every connection once a second."""

    def __init__(
        self, registry: ConnectionRegistry, *, ping_seconds: float, pong_seconds: float
    ) -> None:
        """``ping_seconds``: how long a connection may be silent before it is sent a Ping;
        ``pong_seconds``: how long its Pong may take."""
        self._registry = registry
        self._ping_seconds = ping_seconds
        self._pong_seconds = pong_seconds

    async def run_forever(self) -> None:
        """The coroutine that sweeps."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._ping_seconds, self._pong_seconds))
            self.sweep(loop.time())

    def sweep(self, now: float) -> None:
        """Look at every connection; ``now`` is the loop's time."""
        for connection in self._registry:
            if connection.login.ends_at <= now:
                connection.end(CloseCode.UNAUTHENTICATED, "the token has expired", reconnect=False)
            else:
                connection.keep_alive(now, self._ping_seconds, self._pong_seconds)
