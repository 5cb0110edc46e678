"""A fresh token before the old one ends, for as long as a client lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from chatd.client.errors import Refused, Unreachable
from chatd.client.pauses import Backoff
from chatd.client.rest import Rest

_LONGEST_SECONDS: Final = 600.0
"""The loop's clock may stand still while a machine sleeps: it is looked at now and then."""


async def keep_fresh(rest: Rest, tell: Callable[[str], None]) -> None:
    """Replace the token again and again; ``tell`` hears of each new one.

    Returns where the server does not take the old one any more: the connection's end will say so.
    """
    backoff = Backoff()
    while True:
        await _until_due(rest)
        try:
            token = await rest.new_token()
        except (Refused, Unreachable) as error:
            if isinstance(error, Refused) and error.code == "unauthenticated":
                return
            await asyncio.sleep(backoff.next())
            continue
        backoff.reset()
        rest.use(token)
        tell(token.token)


async def _until_due(rest: Rest) -> None:
    while (seconds := rest.seconds_fresh()) > 0:
        rest.token_changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, _LONGEST_SECONDS)):
                await rest.token_changed.wait()
