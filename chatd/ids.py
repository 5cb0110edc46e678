"""Message ids: a pool of uuids fetched ahead of need, so that taking one never waits.

The source may be a central generator somewhere on the network. While it is slow, wrong or out,
the pool makes ids itself (version 7, RFC 9562); storage's unique index is the last net under
every source.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import uuid_utils

_FIRST_RETRY: Final = 0.1
_LONGEST_RETRY: Final = 10.0


class Log(Protocol):
    """What the pool needs of a structlog logger."""

    def info(self, event: str, *args: Any, **fields: Any) -> Any: ...

    def warning(self, event: str, *args: Any, **fields: Any) -> Any: ...


class SourceError(Exception):
    """The source answered something that can't be used."""


class UuidSource(Protocol):
    async def fetch(self, count: int) -> Sequence[str]:
        """One to ``count`` new uuids in their canonical form; raises where there are none."""


class LocalSource:
    """Makes version 7 uuids here."""

    async def fetch(self, count: int) -> list[str]:
        return [str(uuid_utils.uuid7()) for _ in range(count)]


class HttpSource:
    """A central generator: ``GET url?count=N`` answers a JSON array of uuids.

    ``fetch`` gets a URL and returns the body of a 200 answer, of a bounded size; it raises on
    any other. An answer that takes longer than ``timeout`` seconds is given up.
    """

    def __init__(
        self, url: str, fetch: Callable[[str], Awaitable[bytes]], *, timeout: float = 5.0
    ) -> None:
        self._url = urlsplit(url)
        self._fetch = fetch
        self._timeout = timeout

    async def fetch(self, count: int) -> list[str]:
        async with asyncio.timeout(self._timeout):
            body = await self._fetch(self._asking_for(count))
        try:
            ids = msgspec.json.decode(body, type=list[uuid.UUID])
        except msgspec.MsgspecError as error:
            raise SourceError(f"not a JSON array of uuids: {error}") from None
        if not 1 <= len(ids) <= count:
            raise SourceError(f"{len(ids)} uuids where 1 to {count} were asked for")
        if any(one.variant != uuid.RFC_4122 for one in ids):
            raise SourceError("a uuid of another variant than that of RFC 9562")
        return [str(one) for one in ids]

    def _asking_for(self, count: int) -> str:
        query = f"{self._url.query}&count={count}" if self._url.query else f"count={count}"
        return self._url._replace(query=query, fragment="").geturl()


class UuidPool:
    """Keeps up to ``batch`` ids ready, and fetches more below ``low_water``.

    `run` is the background task that does so. ``on_fallback`` is called for each id that the
    pool had to make itself.
    """

    def __init__(
        self,
        source: UuidSource,
        *,
        batch: int,
        low_water: int,
        on_fallback: Callable[[], None],
        log: Log,
    ) -> None:
        self._source = source
        self._batch = batch
        self._low_water = low_water
        self._on_fallback = on_fallback
        self._log = log
        self._ids: deque[str] = deque()
        # The ids that came last, at least those in the pool: what a source may not repeat.
        self._recent: deque[str] = deque(maxlen=2 * batch)
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._filled = asyncio.Event()
        self._dry = False

    @property
    def level(self) -> int:
        """How many ids are ready: 0 to ``batch``."""
        return len(self._ids)

    def take(self) -> str:
        """A new uuid, at once."""
        if len(self._ids) <= self._low_water:
            self._wanted.set()
        if self._ids:
            return self._ids.popleft()
        if not self._dry:
            self._dry = True
            self._log.warning("uuid_pool_dry", remedy="making ids locally until the source is back")
        self._on_fallback()
        return str(uuid_utils.uuid7())

    async def ready(self) -> None:
        """Wait for the first ids; may take for ever, so set a time limit."""
        await self._filled.wait()

    async def run(self) -> None:
        """Keep the pool filled until cancelled."""
        while True:
            await self._wanted.wait()
            await self._refill()
            # Not before: what was taken during the refill has been seen to by it.
            self._wanted.clear()

    async def _refill(self) -> None:
        failures = 0
        while True:
            try:
                self._accept(await self._source.fetch(self._batch - len(self._ids)))
                break
            except Exception as error:
                # Whatever a source raises, the pool must outlive it.
                if failures == 0:
                    cause = f"{type(error).__name__}: {error}"
                    self._log.warning("uuid_source_failed", cause=cause)
                await asyncio.sleep(_retry_delay(failures))
                failures += 1
        if failures:
            self._log.info("uuid_source_recovered", failures=failures)

    def _accept(self, ids: Sequence[str]) -> None:
        if len({*ids, *self._recent}) != len(ids) + len(self._recent):
            raise SourceError("a uuid that was handed out before")
        self._ids.extend(ids)
        self._recent.extend(ids)
        self._dry = False
        self._filled.set()


def _retry_delay(failures: int) -> float:
    """Seconds to wait after that many failures before: doubling, with jitter, up to a limit."""
    longest = min(_FIRST_RETRY * 2.0 ** min(failures, 16), _LONGEST_RETRY)
    return longest * random.uniform(0.5, 1)  # noqa: S311
