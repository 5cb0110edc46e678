"""The way to NATS: one connection, made anew when it is lost, and a subject for each shard."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
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
_RECONNECT_SECONDS: Final = 0.5
_PING_SECONDS: Final = 1
_UNANSWERED_PINGS: Final = 2
_LOOK_SECONDS: Final = 0.25
_FLUSH_SECONDS: Final = 2
_END_SECONDS: Final = 0.4
_MOST_BYTES: Final = 8 * 1024 * 1024
"""What may wait to be sent, or of one shard to be heard; what is more is dropped, and found
missing by the numbers of the packets."""


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


class _Client(Client):
    """One that does not say who it is without TLS, where TLS is asked for."""

    def _connect_command(self) -> bytes:
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise nats.errors.Error("this NATS does not ask for TLS: it may not be the one meant")
        return super()._connect_command()


class Bus:
    """Publishes and hears bytes by shard. NATS may be out at any time: then nothing goes out,
    nothing is heard, and nobody waits.

    Each connection is a client of its own. One that comes back by itself says that it is there
    before it listens, keeps for later what was to go out before it broke, and never comes back
    from some of NATS's refusals.
    """

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
        self._client: Client | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._wanted: set[int] = {EVERYBODY}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._waited_in_vain = False
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._outgoing_bytes = 0
        self._to_send = asyncio.Event()
        self._said: set[str] = set()
        self._trouble = ""
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether NATS is there, as far as is known, and was listened to when it came."""
        return self._client is not None and self._client.is_connected

    def _say(self, event: str, detail: str) -> None:
        """Once, until there is a new connection: what is out stays so for many attempts."""
        if event not in self._said:
            self._said.add(event)
            self._observer.bus_changed(event, detail)

    # -- out ---------------------------------------------------------------------------------

    def publish(self, shard: int, data: bytes) -> None:
        """Send, as soon as may be; what can't be sent now is dropped."""
        if self.connected and self._outgoing_bytes + len(data) <= _MOST_BYTES:
            self._outgoing.append((shard, data))
            self._outgoing_bytes += len(data)
            self._to_send.set()

    async def _send_forever(self, client: Client) -> None:
        # A client that has broken off may swallow that this is cancelled.
        while client.is_connected:
            await self._to_send.wait()
            self._to_send.clear()
            await self._send_all(client)

    async def _send_all(self, client: Client) -> None:
        while self._outgoing and client.is_connected:
            shard, data = self._outgoing.popleft()
            self._outgoing_bytes -= len(data)
            try:
                await client.publish(self._subject(shard), data)
            except Exception as error:
                self._say("cluster.not_sent", repr(error))

    def _subject(self, shard: int) -> str:
        return f"{self._prefix}.{'all' if shard == EVERYBODY else shard}"

    # -- in ----------------------------------------------------------------------------------

    def want(self, shard: int, wanted: bool) -> None:
        """Listen to a shard, or no longer."""
        (self._wanted.add if wanted else self._wanted.discard)(shard)
        if wanted:
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

    async def _subscribe(self, client: Client) -> None:
        """Have the subscriptions as they are wanted; NATS has them when this returns."""
        self._changed.clear()
        for shard in self._wanted - self._subscriptions.keys():
            self._subscriptions[shard] = await client.subscribe(
                self._subject(shard),
                cb=self._receiver(shard),
                pending_bytes_limit=_MOST_BYTES,
            )
        for shard in self._subscriptions.keys() - self._wanted:
            await self._subscriptions.pop(shard).unsubscribe()
        await client.flush(_FLUSH_SECONDS)
        if self._subscriptions.keys() >= self._wanted:
            self._settled.set()

    def _receiver(self, shard: int) -> Callable[[Msg], Awaitable[None]]:
        async def receive(message: Msg) -> None:
            await self._heard(shard, message.data)

        return receive

    # -- the connection ----------------------------------------------------------------------

    async def run_forever(self) -> None:
        """The coroutine that connects, again and again, and listens to what is wanted."""
        while True:
            try:
                client = await self._connect()
            except Exception as error:
                self._say("cluster.unreachable", self._trouble or repr(error))
            else:
                await self._serve(client)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _connect(self) -> Client:
        self._trouble = ""
        client = _Client()
        try:
            await client.connect(
                **self._access.options(),
                no_echo=True,
                allow_reconnect=False,
                connect_timeout=_CONNECT_SECONDS,
                reconnect_time_wait=0,
                # Of each of the servers named; it has no way to say one.
                max_reconnect_attempts=1,
                ping_interval=_PING_SECONDS,
                max_outstanding_pings=_UNANSWERED_PINGS,
                flush_timeout=_FLUSH_SECONDS,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
            )
        except BaseException:
            self._end(client)
            raise
        return client

    async def _serve(self, client: Client) -> None:
        """Return once the connection is lost."""
        sending = asyncio.create_task(self._send_forever(client))
        try:
            await self._subscribe(client)
            self._client = client
            self._say_connected(client)
            while client.is_connected:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._changed.wait()
                if self._changed.is_set() and client.is_connected:
                    await self._subscribe(client)
                    self._make_good()
        except Exception as error:
            self._say("cluster.not_listening", repr(error))
        finally:
            self._let_go(client)
            sending.cancel()
        self._observer.bus_changed("cluster.disconnected", self._trouble)

    def _say_connected(self, client: Client) -> None:
        self._said.clear()
        self._trouble = ""
        self._waited_in_vain = False
        url = client.connected_url
        where = f"{url.hostname}:{url.port}" if url is not None else ""
        self._observer.bus_changed("cluster.connected", where)

    def _make_good(self) -> None:
        if self._waited_in_vain and self._settled.is_set():
            self._waited_in_vain = False
            self._observer.heard_late()

    def _let_go(self, client: Client) -> None:
        self._client = None
        self._settled.clear()
        self._subscriptions.clear()
        self._outgoing.clear()
        self._outgoing_bytes = 0
        self._end(client)

    def _end(self, client: Client) -> None:
        # It may wait for a peer that is gone, or has none of our TLS.
        task = asyncio.create_task(_close(client))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _on_error(self, error: Exception) -> None:
        self._trouble = repr(error)
        if self.connected:
            self._say("cluster.failed", self._trouble)

    async def _on_disconnected(self) -> None:
        self._changed.set()

    async def drain(self) -> None:
        """Send what waits."""
        client = self._client
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                if client is not None:
                    await self._send_all(client)
                    await client.flush(_FLUSH_SECONDS)

    async def close(self) -> None:
        """Let go, once `run_forever` has ended."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=_END_SECONDS)


async def _close(client: Client) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CONNECT_SECONDS):
            await client.close()
