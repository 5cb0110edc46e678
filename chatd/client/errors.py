"""What can go wrong between a program and its server."""

from __future__ import annotations

from typing import Final

_TRANSIENT: Final = frozenset({"rate_limited", "unavailable"})


class ClientError(Exception):
    """The base of everything below."""


class Refused(ClientError):
    """The server's answer to one call or one frame, which then had no effect."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        """``code``: the stable word of the protocol. ``message``: what was wrong, and what would
        be right. ``retry_after``: seconds until trying again makes sense, where it ever does."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether the same may be accepted a little later."""
        return self.code in _TRANSIENT


class Unreachable(ClientError):
    """There is no server at the address, or no way to it, or none that can be trusted."""


class Closed(ClientError):
    """The client was closed, by the program itself."""


class Ended(ClientError):
    """The server has ended the connection for a reason that reconnecting does not change."""

    def __init__(self, code: int, reason: str) -> None:
        """``code``: the WebSocket's close code."""
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


class SignedOut(Ended):
    """The token has expired or was revoked: sign in again."""
