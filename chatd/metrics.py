"""What is counted, in Prometheus' terms. Each server has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from chatd.logs import Logger


class Metrics:
    """The server's counters; it observes the journal, the receipts and the router."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._registry = CollectorRegistry()
        registry = self._registry
        self.connections_opened = Counter(
            "chatd_connections_opened", "WebSockets authenticated.", registry=registry
        )
        self.connections_closed = Counter(
            "chatd_connections_closed",
            "WebSockets ended, by close code.",
            ["code"],
            registry=registry,
        )
        self._frames_received = Counter(
            "chatd_frames_received", "Frames from clients, by type.", ["type"], registry=registry
        )
        self._frames_by_type: dict[type, Counter] = {}
        self.refusals = Counter(
            "chatd_refusals", "Requests and frames refused, by code.", ["code"], registry=registry
        )
        self.sign_ins = Counter(
            "chatd_sign_ins", "Sign-ins, by result.", ["result"], registry=registry
        )
        self.requests = Histogram(
            "chatd_http_request_seconds",
            "REST requests, by method and status.",
            ["method", "status"],
            registry=registry,
        )
        self.uuid_fallbacks = Counter(
            "chatd_uuid_fallbacks",
            "Message ids made locally because the pool was dry.",
            registry=registry,
        )
        self._stored = Counter("chatd_messages_stored", "Messages stored.", registry=registry)
        self._delivered = Counter(
            "chatd_messages_delivered", "Copies of messages put into outboxes.", registry=registry
        )
        self._replayed = Counter(
            "chatd_messages_replayed", "Messages replayed to connections.", registry=registry
        )
        self._batch_size = Histogram(
            "chatd_journal_batch_size",
            "Messages stored in one round trip.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "chatd_journal_batch_seconds",
            "Time to store a batch.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
            registry=registry,
        )
        self._marks = Counter("chatd_marks_stored", "Receipt marks stored.", registry=registry)
        self._failures = Counter(
            "chatd_failures",
            "Things that went wrong inside, by event.",
            ["event"],
            registry=registry,
        )

    def gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """A gauge that asks ``read`` whenever the metrics are read."""
        Gauge(name, help_, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    # -- what the rooms below report ---------------------------------------------------------

    def frame_received(self, frame: object) -> None:
        """A client's frame, to be counted by its class."""
        kind = type(frame)
        counter = self._frames_by_type.get(kind)
        if counter is None:
            counter = self._frames_received.labels(kind.__name__.lower())
            self._frames_by_type[kind] = counter
        counter.inc()

    def batch_stored(self, size: int, seconds: float) -> None:
        self._stored.inc(size)
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)

    def message_routed(self, copies: int) -> None:
        self._delivered.inc(copies)

    def replayed(self, count: int) -> None:
        self._replayed.inc(count)

    def marks_stored(self, size: int) -> None:
        self._marks.inc(size)

    def failed(self, event: str, error: BaseException) -> None:
        """Something inside went wrong; the log has the traceback."""
        self._failures.labels(event).inc()
        self._log.error(event, error=repr(error), exc_info=error)
