"""The rooms of a server, built from its settings and handed to each other; nothing starts here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tornado.httpclient import AsyncHTTPClient

from chatd.accounts import Accounts, SignupPolicy
from chatd.administration import Administration
from chatd.cluster.rooms import Rooms
from chatd.connection import Connection, Flusher
from chatd.deployment import refuse_debugging, refuse_open_cluster
from chatd.directory import Directory
from chatd.erasure import Erasure
from chatd.errors import CloseCode
from chatd.export import Exports
from chatd.handlers.services import OpenRequests, OpenSockets, ServerState, Services
from chatd.ids import HttpSource, LocalSource, UuidPool, UuidSource
from chatd.journal import MessageJournal
from chatd.keys import KeyRing
from chatd.limits import Buckets
from chatd.logs import Logger, Threshold, make_logger
from chatd.metrics import Metrics
from chatd.models import Ended
from chatd.neighbours import Alone, Neighbours
from chatd.presence import PresenceBoard
from chatd.receipts import Receipts
from chatd.registry import ConnectionRegistry
from chatd.reload import Reloader
from chatd.replay import Replayer
from chatd.retention import Ages, Retention
from chatd.roster import Roster
from chatd.router import ChatRouter
from chatd.security import Passwords, Tokens
from chatd.sentry import reporter
from chatd.settings import Origins, Settings
from chatd.storage import open_storage
from chatd.storage.timed import timed

if TYPE_CHECKING:
    from chatd.cluster.cluster import Cluster

    JoinCluster = Callable[..., Cluster]

NEWCOMERS: Final = 4
"""How many who connect are looked after at the same time."""

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_LIMITED_KEYS: Final = 100_000


def served_hosts(settings: Settings) -> frozenset[str]:
    """The Host names this server answers for."""
    if settings.server.allowed_hosts:
        return frozenset(settings.server.allowed_hosts)
    host = settings.server.host.lower()
    bound = f"[{host}]" if ":" in host else host
    return frozenset({bound}) | (_LOOPBACK_HOSTS if bound in _LOOPBACK_HOSTS else frozenset())


def load_cluster() -> JoinCluster:
    """What joins the servers beside this one; ValueError where the client for NATS is missing."""
    try:
        from chatd.cluster.join import join_cluster  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            "cluster.nats_url needs the client for NATS: pip install '.[cluster]' in the checkout"
        ) from None
    return join_cluster


class Building:
    """Everything that a server is made of."""

    def __init__(self, settings: Settings, log: Logger | None = None) -> None:
        """Needs a running event loop.

        Raises what makes a start impossible: a storage URL or key file that can't be used, a
        set-up that is refused.
        """
        refuse_debugging(settings, debugging=asyncio.get_running_loop().get_debug())
        refuse_open_cluster(settings)
        self.settings = settings
        self.threshold = Threshold(settings.logging.level)
        self.log = log or make_logger(settings.logging.format, self.threshold)
        dsn = settings.logging.sentry_dsn
        self.metrics = (
            Metrics(self.log, reporter(dsn.get_secret_value())) if dsn else Metrics(self.log)
        )
        self.state = ServerState(settings)
        settings.storage.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.storage = timed(
            open_storage(settings.storage.url, settings.storage.data_dir),
            self.metrics.storage_called,
        )
        self.registry = ConnectionRegistry()
        self.ids = UuidPool(
            self._uuid_source(),
            batch=settings.uuids.batch,
            low_water=settings.uuids.low_water,
            on_fallback=self.metrics.uuid_fallbacks.inc,
            log=self.log,
        )
        self.passwords = Passwords()
        auth_, limits = settings.auth, settings.limits
        keys = KeyRing.open(settings.key_path)
        self.tokens = Tokens(keys, auth_.issuer, auth_.token_seconds)
        self.sign_ins = _per_minute(limits.sign_in_per_minute)
        self.failures = _per_minute(limits.sign_in_failures_per_minute)
        self.sends = Buckets(limits.send_per_second, limits.send_burst, _LIMITED_KEYS)
        self.journal = MessageJournal(self.storage, self.metrics)
        self.cluster = self._cluster()
        self.neighbours: Neighbours = self.cluster or Alone()
        self.roster = Roster(self.registry, self.neighbours)
        self.presence = PresenceBoard(
            self.registry, self.roster, self.storage, limit=settings.limits.presence
        )
        self.services = self._services()
        if self.cluster is not None:
            self.cluster.attach(self._rooms(), self.presence.edge)
        self.receipts: Receipts = self.services.router.receipts
        self.administration = Administration(
            storage=self.storage,
            accounts=self.services.accounts,
            erasure=self.services.erasure,
            exports=self.services.exports,
            router=self.services.router,
            passwords=self.passwords,
            tokens=self.tokens,
            ids=self.ids,
            is_online=self.roster.is_online,
        )
        self._gauges()

    def _uuid_source(self) -> UuidSource:
        url = self.settings.uuids.source
        return LocalSource() if url == "local" else HttpSource(url, _fetch)

    def _cluster(self) -> Cluster | None:
        """The servers beside this one, where the settings name a way to them."""
        settings = self.settings.cluster
        if settings.nats_url is None:
            return None
        return load_cluster()(settings, self.metrics, self.tokens.fingerprints)

    def _rooms(self) -> Rooms:
        services = self.services
        return Rooms(
            storage=services.storage,
            registry=services.registry,
            router=services.router,
            journal=services.journal,
            accounts=services.accounts,
            directory=services.directory,
        )

    def _services(self) -> Services:
        settings, limits = self.settings, self.settings.limits
        directory = Directory(self.storage, self.neighbours)
        router = ChatRouter(
            storage=self.storage,
            registry=self.registry,
            journal=self.journal,
            directory=directory,
            ids=self.ids,
            send_limit=self.sends,
            observer=self.metrics,
            neighbours=self.neighbours,
            text_chars=limits.text_chars,
        )
        newcomers = asyncio.Semaphore(NEWCOMERS)
        accounts = self._accounts()
        return Services(
            state=self.state,
            storage=self.storage,
            accounts=accounts,
            router=router,
            journal=self.journal,
            registry=self.registry,
            roster=self.roster,
            neighbours=self.neighbours,
            directory=directory,
            exports=Exports(self.storage),
            erasure=Erasure(
                storage=self.storage,
                accounts=accounts,
                directory=directory,
                router=router,
                journal=self.journal,
                ids=self.ids,
            ),
            sockets=OpenSockets(),
            requests=OpenRequests(),
            presence=self.presence,
            newcomers=newcomers,
            replayer=Replayer(
                self.storage,
                router.receipts.claim,
                router.seen,
                limit=limits.replay,
                turns=newcomers,
                others=self.cluster is not None,
            ),
            flusher=Flusher(
                asyncio.get_running_loop(),
                outbox_limit=limits.outbox_bytes,
                receipt_interval=settings.websocket.receipt_interval_ms / 1000,
                on_confirmed=router.confirmed,
                on_slow_consumer=self._slow_consumer,
                on_ended=self.registry.remove,
            ),
            ids=self.ids,
            calls=Buckets(limits.call_per_second, limits.call_burst, _LIMITED_KEYS),
            metrics=self.metrics,
            log=self.log,
            hosts=served_hosts(settings),
        )

    def _accounts(self) -> Accounts:
        auth_ = self.settings.auth
        return Accounts(
            storage=self.storage,
            passwords=self.passwords,
            tokens=self.tokens,
            ids=self.ids,
            signup=SignupPolicy(
                open=auth_.signup == "open",
                domains=frozenset(auth_.signup_domains if auth_.signup == "domains" else ()),
            ),
            sign_ins=self.sign_ins,
            failures=self.failures,
            on_end=self._end_sessions,
            neighbours=self.neighbours,
        )

    def _end_sessions(self, ended: Ended) -> None:
        for connection in list(self.registry.of_user(ended.email)):
            login = connection.login
            if ended.ends(login.user_id, login.token_id, login.generation):
                connection.end(CloseCode.UNAUTHENTICATED, "signed out", reconnect=False)

    def _slow_consumer(self, connection: Connection) -> None:
        self.log.warning(
            "socket.slow_consumer", connection_id=connection.id, waiting=connection.waiting
        )

    def _gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("chatd_connections", "WebSockets open.", lambda: len(self.registry))
        gauge("chatd_users_online", "Users on line.", lambda: len(self.registry.online_users()))
        gauge("chatd_journal_waiting", "Entries the journal holds.", lambda: len(self.journal))
        gauge("chatd_uuid_pool_level", "Message ids ready.", lambda: self.ids.level)
        gauge("chatd_cluster_out", "What does not work between servers.", self._cluster_out)
        gauge("chatd_outbox_bytes", "Bytes that wait for clients to read.", self._outbox_bytes)

    def _cluster_out(self) -> int:
        return len(self.neighbours.out())

    def _outbox_bytes(self) -> int:
        return sum(connection.waiting for connection in self.registry)

    def reloader(self, origins: Origins) -> Reloader:
        """What reads the settings again while the server runs."""
        return Reloader(
            origins,
            self.services,
            self.threshold,
            self.tokens,
            sign_ins=self.sign_ins,
            failures=self.failures,
            sends=self.sends,
        )

    def retention(self) -> Retention:
        """What removes messages that are too old."""
        kept = self.settings.retention
        return Retention(self.storage, Ages(kept.days, kept.groups), self.metrics)


def _per_minute(limit: int) -> Buckets:
    return Buckets(limit / 60, limit, _LIMITED_KEYS)


async def _fetch(url: str) -> bytes:
    response = await AsyncHTTPClient().fetch(url, request_timeout=10)
    return response.body
