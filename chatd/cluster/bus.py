"""The way to NATS: one connection, which comes back by itself, and a subject for each shard."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chatd.cluster.shards import EVERYBODY

_CONNECT_SECONDS: Final = 2
_RECONNECT_SECONDS: Final = 1
_PING_SECONDS: Final = 2
_UNANSWERED_PINGS: Final = 2
_FLUSH_SECONDS: Final = 2.0
_MOST_WAITING: Final = 10_000
"""Packets; what is more is dropped, and the others see by their numbers that it is missing."""


class Access(msgspec.Struct, frozen=True):
    """Where NATS is, and what it wants to see."""

    url: str
    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """As `nats.connect` takes them."""
        options: dict[str, Any] = {
            "servers": [one.strip() for one in self.url.split(",")],
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "nkeys_seed": None if self.nkey_file is None else str(self.nkey_file),
        }
        if "tls://" in self.url or self.ca_file or self.cert_file:
            options["tls"] = self._tls()
        return options

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.cert_key_file)
        return context


class Observer(Protocol):
    """Who hears how the bus does."""

    def bus_changed(self, event: str, detail: str) -> None: ...

    def heard_late(self) -> None:
        """Something may have gone by before it was listened to."""


class Bus:
    """Publishes and hears bytes by shard. NATS may be out at any time: then nothing goes out,
    nothing is heard, and nobody waits."""

    def __init__(
        self,
        access: Access,
        prefix: str,
        heard: Callable[[int, bytes], Awaitable[None]],
        observer: Observer,
    ) -> None:
        """``prefix``: how the subjects start; servers that share a store have it in common."""
        self._access = access
        self._prefix = prefix
        self._heard = heard
        self._observer = observer
        self._client = Client()
        self._subscriptions: dict[int, Subscription] = {}
        self._wanted: set[int] = {EVERYBODY}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._waited_in_vain = False
        self._outgoing: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_MOST_WAITING)

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    # -- out ---------------------------------------------------------------------------------

    def publish(self, shard: int, data: bytes) -> None:
        """Send, as soon as may be; what can't be sent now is dropped."""
        if self.connected:
            with contextlib.suppress(asyncio.QueueFull):
                self._outgoing.put_nowait((shard, data))

    async def send_forever(self) -> None:
        """The coroutine that sends."""
        while True:
            shard, data = await self._outgoing.get()
            try:
                await self._client.publish(self._subject(shard), data)
            except (nats.errors.Error, OSError) as error:
                self._observer.bus_changed("cluster.not_sent", repr(error))

    def _subject(self, shard: int) -> str:
        return f"{self._prefix}.{'all' if shard == EVERYBODY else shard}"

    # -- in ----------------------------------------------------------------------------------

    def want(self, shard: int, wanted: bool) -> None:
        """Listen to a shard, or no longer."""
        (self._wanted.add if wanted else self._wanted.discard)(shard)
        self._settled.clear()
        self._changed.set()

    async def listening(self) -> None:
        """Return once all shards that are wanted are heard; where that takes long, return all the
        same, and tell later that something may have gone by."""
        if self._settled.is_set():
            return
        try:
            async with asyncio.timeout(_FLUSH_SECONDS if self.connected else 0):
                await self._settled.wait()
        except TimeoutError:
            self._waited_in_vain = True

    async def run_forever(self) -> None:
        """The coroutine that connects, and keeps what is listened to as it is wanted."""
        await self._connect()
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._subscribe()
            except (nats.errors.Error, OSError) as error:
                self._observer.bus_changed("cluster.not_listening", repr(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
                self._changed.set()

    async def _connect(self) -> None:
        """The first time; later the client does it by itself."""
        while True:
            try:
                await self._client.connect(
                    **self._access.options(),
                    no_echo=True,
                    connect_timeout=_CONNECT_SECONDS,
                    reconnect_time_wait=_RECONNECT_SECONDS,
                    max_reconnect_attempts=-1,
                    ping_interval=_PING_SECONDS,
                    max_outstanding_pings=_UNANSWERED_PINGS,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_connected,
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                self._observer.bus_changed("cluster.unreachable", repr(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                await self._on_connected()
                return

    async def _subscribe(self) -> None:
        for shard in self._wanted - self._subscriptions.keys():
            self._subscriptions[shard] = await self._client.subscribe(
                self._subject(shard), cb=self._receiver(shard)
            )
        for shard in self._subscriptions.keys() - self._wanted:
            await self._subscriptions.pop(shard).unsubscribe()
        await self._client.flush(int(_FLUSH_SECONDS))
        if not self._changed.is_set():
            self._settled.set()
            if self._waited_in_vain:
                self._waited_in_vain = False
                self._observer.heard_late()

    def _receiver(self, shard: int) -> Callable[[Msg], Awaitable[None]]:
        async def receive(message: Msg) -> None:
            await self._heard(shard, message.data)

        return receive

    async def _on_error(self, error: Exception) -> None:
        self._observer.bus_changed("cluster.failed", repr(error))

    async def _on_disconnected(self) -> None:
        self._settled.clear()
        self._observer.bus_changed("cluster.disconnected", "")

    async def _on_connected(self) -> None:
        self._changed.set()
        url = self._client.connected_url
        where = f"{url.hostname}:{url.port}" if url is not None else ""
        self._observer.bus_changed("cluster.connected", where)

    async def close(self) -> None:
        """Send what waits, and let go."""
        while not self._outgoing.empty() and self.connected:
            shard, data = self._outgoing.get_nowait()
            await self._client.publish(self._subject(shard), data)
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if self.connected:
                await self._client.flush(1)
        if not self._client.is_closed:
            await self._client.close()
