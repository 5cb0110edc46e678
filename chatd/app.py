"""The composition root: build the server from its settings, start it, drain it, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from chatd.accounts import Accounts, Ended, SignupPolicy
from chatd.admin_socket import AdminSocket
from chatd.administration import Administration
from chatd.cluster.rooms import Rooms
from chatd.connection import Connection, Flusher
from chatd.deployment import dangers, refuse_debugging, refuse_open_cluster
from chatd.directory import Directory
from chatd.erasure import Erasure
from chatd.errors import CloseCode, Unavailable
from chatd.export import Exports
from chatd.handlers import auth, groups, health, me, messages, pages, users
from chatd.handlers import socket as sockets
from chatd.handlers.admin import admin_application
from chatd.handlers.api import ApiHandler
from chatd.handlers.base import GuardedHandler, NothingHere, Route
from chatd.handlers.services import OpenRequests, OpenSockets, ServerState, Services
from chatd.ids import HttpSource, LocalSource, UuidPool, UuidSource
from chatd.journal import MessageJournal
from chatd.keepalive import KeepAlive
from chatd.keys import KeyRing
from chatd.limits import Buckets
from chatd.listener import BoundedServer, Listener
from chatd.logs import Logger, Threshold, make_logger
from chatd.metrics import Metrics, watch_loop
from chatd.neighbours import Alone, Neighbours
from chatd.openapi import Documented, asyncapi_document, openapi_document
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

ROUTES: Final[list[Route]] = [
    *pages.ROUTES,
    *auth.ROUTES,
    *users.ROUTES,
    *groups.ROUTES,
    *me.ROUTES,
    *messages.ROUTES,
    *health.ROUTES,
    *sockets.ROUTES,
]

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104
_POOL_SECONDS: Final = 2.0
_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 4.0
"""Seconds until a storage that could not be opened is tried again."""
_NEWCOMERS: Final = 4
_LIMITED_KEYS: Final = 100_000


def documented_operations() -> Documented:
    """Every REST operation, by path and method."""
    return {
        route.path: route.handler.operations
        for route in ROUTES
        if issubclass(route.handler, ApiHandler)
    }


def served_hosts(settings: Settings) -> frozenset[str]:
    """The Host names this server answers for."""
    if settings.server.allowed_hosts:
        return frozenset(settings.server.allowed_hosts)
    host = settings.server.host.lower()
    bound = f"[{host}]" if ":" in host else host
    return frozenset({bound}) | (_LOOPBACK_HOSTS if bound in _LOOPBACK_HOSTS else frozenset())


class App:
    """One chatd server."""

    def __init__(self, settings: Settings, log: Logger | None = None) -> None:
        """Builds everything and starts nothing; needs a running event loop.

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
        self._admin_socket = AdminSocket(
            settings.storage.data_dir, admin_application(self.services, self.administration)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._opening: asyncio.Task[None] | None = None
        self._storage_started = False
        self._url = ""
        self._server: HTTPServer | None = None
        self._listener: Listener | None = None
        self._stopped = False
        self._gauges()

    def _uuid_source(self) -> UuidSource:
        url = self.settings.uuids.source
        return LocalSource() if url == "local" else HttpSource(url, _fetch)

    def _cluster(self) -> Cluster | None:
        """The servers beside this one, where the settings name a way to them."""
        settings = self.settings.cluster
        if settings.nats_url is None:
            return None
        try:
            from chatd.cluster.join import join_cluster  # noqa: PLC0415
        except ImportError:
            raise ValueError(
                "cluster.nats_url needs the client for NATS: pip install 'chatd[cluster]'"
            ) from None
        return join_cluster(settings, self.metrics, self.tokens.fingerprints)

    def _rooms(self) -> Rooms:
        services = self.services
        return Rooms(
            storage=services.storage,
            registry=services.registry,
            router=services.router,
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
        newcomers = asyncio.Semaphore(_NEWCOMERS)
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
            if ended.ends(connection.login.token_id, connection.login.generation):
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
        gauge("chatd_outbox_bytes", "Bytes that wait for clients to read.", self._outbox_bytes)

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

    # -- the life of the server --------------------------------------------------------------

    async def start(self) -> str:
        """Listen and open the storage; returns the address to connect to.

        Where the storage can't be reached, the server goes on trying, and until then answers
        503: see `opened`. Raises `StorageRefused` or OSError.
        """
        keep_alive = KeepAlive(
            self.registry,
            ping_seconds=self.settings.websocket.ping_seconds,
            pong_seconds=self.settings.websocket.pong_seconds,
        )
        for coroutine in (
            self.ids.run(),
            self.journal.run_forever(),
            self.receipts.run_forever(),
            self.presence.run_forever(),
            keep_alive.run_forever(),
            watch_loop(self.metrics.loop_was_late),
        ):
            self._run(coroutine)
        self._url = self._listen()
        try:
            await self._open()
        except Unavailable as error:
            self._opening = asyncio.create_task(self._keep_opening(error))
        for danger in dangers(self.settings):
            self.log.warning(danger.event, remedy=danger.remedy)
        if not self.settings.server.allowed_hosts and self.settings.server.host in _ANY_ADDRESS:
            self.log.warning(
                "server.no_host_allowed",
                remedy="name the hosts that people use in server.allowed_hosts; "
                "any other gets 421 Misdirected Request",
            )
        return self._url

    async def open_alone(self) -> None:
        """Open the storage without serving: for work on a store that no server has open."""
        self._run(self.journal.run_forever())
        await self.storage.start()

    async def _open(self) -> None:
        """Open the storage, and take work. Raises `StorageRefused` or `Unavailable`."""
        if not self._storage_started:
            await self.storage.start()
            self._storage_started = True
            self._open_admin_socket()
        epoch = await self.storage.epoch()
        await self.services.accounts.start()
        self.state.epoch = epoch
        if self.cluster is not None:
            self.cluster.start(epoch)
        self._run(self.services.erasure.finish_in_time(self.metrics.failed))
        self._run(self._retention().run_forever())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ids.ready(), _POOL_SECONDS)
        self.state.ready = True
        self.log.info("server.started", url=self._url, storage=self.storage.promise)

    def _retention(self) -> Retention:
        kept = self.settings.retention
        return Retention(self.storage, Ages(kept.days, kept.groups), self.metrics)

    def _open_admin_socket(self) -> None:
        try:
            self._admin_socket.open()
        except OSError as error:
            self.log.warning("admin.no_socket", detail=str(error))

    async def _keep_opening(self, error: Unavailable) -> None:
        delay = _FIRST_RETRY
        while not self.state.ready:
            self.log.warning("storage.unavailable", detail=error.detail, retry_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_RETRY)
            try:
                await self._open()
            except Unavailable as another:
                error = another

    async def opened(self) -> None:
        """Return once the storage is open. Raises `StorageRefused` where it won't be."""
        if self._opening is not None:
            await self._opening

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.state.ready = False
            self.metrics.failed("server.coroutine_failed", error)

    def _listen(self) -> str:
        server = self.settings.server
        limits = self.settings.limits
        self._server = BoundedServer(
            self.application(),
            max_body_size=_drained_body(limits.body_bytes),
            # Room for all of a place's sockets to come back at once beside its requests.
            most_of_a_place=2 * limits.connections_per_address,
            proxies=server.trusted_proxies,
        )
        self._listener = Listener(server.host, server.port, self._server, self._accept_failed)
        host = f"[{server.host}]" if ":" in server.host else server.host
        return f"http://{host}:{self._listener.port}"

    def _accept_failed(self, error: OSError) -> None:
        self.log.error("server.accept_failed", detail=str(error), connections=len(self.registry))

    def application(self) -> Application:
        """Tornado's application: the routes with their services."""
        documents = {
            "/openapi.json": json.dumps(openapi_document(documented_operations())).encode(),
            "/asyncapi.json": json.dumps(asyncapi_document()).encode(),
        }
        arguments = {"services": self.services}
        return Application(
            [(pattern(route.path), route.handler, arguments) for route in ROUTES]
            + pages.asset_routes(self.services, documents),
            default_handler_class=NothingHere,
            default_handler_args=arguments,
            log_function=self._log_request,
        )

    def _log_request(self, handler: RequestHandler) -> None:
        request, status = handler.request, handler.get_status()
        # By the wall clock, which may have been set back meanwhile.
        seconds = max(0.0, request.request_time())
        if isinstance(handler, ApiHandler):
            # A client may invent any method; a label for each would be without end.
            known = request.method in handler.SUPPORTED_METHODS
            method = str(request.method) if known else "other"
            self.metrics.requests.labels(method, str(status)).observe(seconds)
        if isinstance(handler, GuardedHandler):
            self.log.info(
                "http.request",
                method=request.method,
                path=request.path,
                status=status,
                milliseconds=round(seconds * 1000, 1),
                address=handler.client_address,
                user_id=handler.user_id,
                request_id=handler.request_id,
            )

    async def drain(self) -> None:
        """Take nothing new, answer what was taken, say good-bye, store what is known; stop."""
        if self.state.draining:
            return
        self.state.draining = True
        sockets, seconds = self.services.sockets, self.settings.server.drain_seconds
        ends_at = asyncio.get_running_loop().time() + seconds
        self.log.info("server.draining", connections=len(sockets))
        # A storage that hangs leaves time to say good-bye, and who is deaf to that leaves some for
        # what has to be stored.
        await self._within(0.4 * seconds, self.journal.drain())
        for socket in sockets:
            socket.go_away()
        await self._within(0.3 * seconds, self._everybody_gone())
        left = ends_at - 0.2 * seconds - asyncio.get_running_loop().time()
        await self._within(left, self.services.requests.answered())
        await self.stop(ends_at)

    async def _within(self, seconds: float, work: Awaitable[object]) -> None:
        """Wait for a step of the drain, but no longer than this."""
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            self.log.warning(
                "server.drain_timeout",
                connections=len(self.services.sockets),
                unanswered=len(self.journal) + len(self.services.requests),
            )

    async def _everybody_gone(self) -> None:
        """Return once those who stood in line have been refused, and no socket is open."""
        for _ in range(_NEWCOMERS):
            await self.services.newcomers.acquire()
        await self.services.sockets.gone()

    async def stop(self, ends_at: float | None = None) -> None:
        """Let go of everything. Safe at any time, started or not.

        What waits for the storage gives up at ``ends_at``, a time of the loop, but has a second
        at least; without it there are ``drain_seconds`` from now on.
        """
        if self._stopped:
            return
        self._stopped = self.state.draining = True
        now = asyncio.get_running_loop().time
        if ends_at is None:
            ends_at = now() + self.settings.server.drain_seconds
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.close_all_connections(), 1)
        await self._admin_socket.close()
        tasks = [*self._tasks, *filter(None, [self._opening])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._within(max(1, ends_at - 1 - now()), self._store_the_last())
        if self.cluster is not None:
            await self._within(1, self.cluster.close())
        self.passwords.close()
        await self._within(max(1, ends_at - now()), self.storage.close())
        if self.state.epoch:
            self.log.info("server.stopped")

    async def _store_the_last(self) -> None:
        await self.receipts.flush()
        await self.presence.store()


def pattern(path: str) -> str:
    """Tornado's regular expression for a path like ``/v1/groups/{name}``."""
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))


def _drained_body(limit: int) -> int:
    """How much of a body that is too large is read and thrown away, in bytes.

    ApiHandler answers 413 before it reads; a client that is still sending hears that only if
    its connection isn't reset meanwhile. Beyond this Tornado closes.
    """
    return limit + (1 << 20) if limit else 1 << 30


def _per_minute(limit: int) -> Buckets:
    return Buckets(limit / 60, limit, _LIMITED_KEYS)


async def _fetch(url: str) -> bytes:
    response = await AsyncHTTPClient().fetch(url, request_timeout=10)
    return response.body
