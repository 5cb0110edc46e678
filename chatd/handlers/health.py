"""For those who run the server: is it alive, can it work, what does it count."""

from __future__ import annotations

import hmac
from typing import Final

from chatd.errors import Forbidden, Unauthenticated, Unavailable
from chatd.handlers.api import ApiHandler, operation
from chatd.handlers.base import Route
from chatd.networks import is_among, is_loopback
from chatd.openapi import Answer
from chatd.schemas import HealthView

_TAG = "Operation"
_OF_PROXIES: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")


class LiveHandler(ApiHandler):
    @operation(
        "Whether the process lives",
        _TAG,
        answers={200: Answer("It does.", HealthView)},
        public=True,
        while_draining=True,
    )
    async def get(self) -> HealthView:
        return HealthView(status="ok")


class ReadyHandler(ApiHandler):
    @operation(
        "Whether the server can take work",
        _TAG,
        answers={200: Answer("It can.", HealthView)},
        public=True,
        while_draining=True,
    )
    async def get(self) -> HealthView:
        state = self.services.state
        if state.draining:
            raise Unavailable("shutting down")
        state.check_started()
        if not state.ready:
            raise Unavailable("not ready: a part of the server has failed; its log says which")
        await state.check_storage(self.services.storage)
        return HealthView(status="ok", out=sorted(self.services.neighbours.out()))


class MetricsHandler(ApiHandler):
    @operation(
        "Counters in Prometheus' text format; from this machine, or with metrics.token",
        _TAG,
        Forbidden,
        Unauthenticated,
        answers={200: Answer("The metrics.", media_type="text/plain")},
        public=True,
        while_draining=True,
    )
    async def get(self) -> None:
        self._check_reader()
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.write(self.services.metrics.text())

    def _check_reader(self) -> None:
        secret = self.services.settings.metrics.token
        if secret is None:
            if not self._is_local():
                raise Forbidden("metrics are for this machine only, unless metrics.token is set")
            return
        token = self.bearer_token() or ""
        if not hmac.compare_digest(token.encode(), secret.get_secret_value().encode()):
            raise Unauthenticated("send metrics.token as Authorization: Bearer TOKEN")

    def _is_local(self) -> bool:
        """Whether it comes from this machine, and for nobody else."""
        peer, headers = str(self.request.remote_ip), self.request.headers
        if not (is_loopback(peer) and is_loopback(self.client_address)):
            return False
        proxies = self.services.settings.server.trusted_proxies
        if headers.get("X-Forwarded-For") and is_among(peer, proxies):
            return True
        # A proxy on this machine that does not say for whom passes on what comes from anywhere.
        return not any(name in headers for name in _OF_PROXIES)


ROUTES = [
    Route("/healthz", LiveHandler),
    Route("/readyz", ReadyHandler),
    Route("/metrics", MetricsHandler),
]
