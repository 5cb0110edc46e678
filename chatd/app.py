"""The server's life: start it, drain it, stop it; and what it answers at which address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Coroutine
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from chatd.admin_socket import AdminSocket
from chatd.building import NEWCOMERS, Building
from chatd.deployment import dangers
from chatd.errors import Unavailable
from chatd.handlers import auth, groups, health, me, messages, pages, users
from chatd.handlers import socket as sockets
from chatd.handlers.admin import admin_application
from chatd.handlers.api import ApiHandler
from chatd.handlers.base import GuardedHandler, NothingHere, Route
from chatd.keepalive import KeepAlive
from chatd.listener import BoundedServer, Listener
from chatd.logs import Logger
from chatd.metrics import watch_loop
from chatd.openapi import Documented, asyncapi_document, openapi_document
from chatd.settings import Settings

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

_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104
_POOL_SECONDS: Final = 2.0
_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 4.0
"""Seconds until a storage that could not be opened is tried again."""


def documented_operations() -> Documented:
    """Every REST operation, by path and method."""
    return {
        route.path: route.handler.operations
        for route in ROUTES
        if issubclass(route.handler, ApiHandler)
    }


class App:
    """One chatd server."""

    def __init__(self, settings: Settings, log: Logger | None = None) -> None:
        """Builds everything and starts nothing: see `Building`."""
        building = Building(settings, log)
        self.settings = settings
        self.building = building
        self.log, self.metrics, self.state = building.log, building.metrics, building.state
        self.storage, self.registry = building.storage, building.registry
        self.journal, self.services = building.journal, building.services
        self.cluster, self.administration = building.cluster, building.administration
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
            self.building.ids.run(),
            self.journal.run_forever(),
            self.building.receipts.run_forever(),
            self.services.presence.run_forever(),
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
        self._run(self.building.retention().run_forever())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.building.ids.ready(), _POOL_SECONDS)
        self.state.ready = True
        self.log.info("server.started", url=self._url, storage=self.storage.promise)

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
        await self._within(0.4 * seconds, self._senders_answered())
        for socket in sockets:
            socket.go_away()
        await self._within(0.3 * seconds, self._everybody_gone())
        left = ends_at - 0.2 * seconds - asyncio.get_running_loop().time()
        await self._within(left, self.services.requests.answered())
        await self.stop(ends_at)

    async def _senders_answered(self) -> None:
        await self.journal.drain()
        await self.building.neighbours.settled()

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
        for _ in range(NEWCOMERS):
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
        self.building.passwords.close()
        await self._within(max(1, ends_at - now()), self.storage.close())
        if self.state.epoch:
            self.log.info("server.stopped")

    async def _store_the_last(self) -> None:
        await self.building.receipts.flush()
        await self.services.presence.store()


def pattern(path: str) -> str:
    """Tornado's regular expression for a path like ``/v1/groups/{name}``."""
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))


def _drained_body(limit: int) -> int:
    """How much of a body that is too large is read and thrown away, in bytes.

    ApiHandler answers 413 before it reads; a client that is still sending hears that only if
    its connection isn't reset meanwhile. Beyond this Tornado closes.
    """
    return limit + (1 << 20) if limit else 1 << 30
