"""What is counted, in Prometheus' terms. Each server has a registry of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from chatd.logs import Logger

_LOOK_SECONDS: Final = 0.5
_FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Seconds, for what takes milliseconds while all is well."""
_SLOW: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Seconds, for what waits for people's devices."""
_COUNTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """The server's counters; it observes the journal, the receipts and the router.

    Names, labels and units stay as they are: docs/operations.md lists them, and people build
    dashboards and alerts on them. No label has values that clients make up.
    """

    def __init__(
        self, log: Logger, report: Callable[[BaseException], None] = lambda _: None
    ) -> None:
        """``report`` is told of failures too."""
        self._log = log
        self._report = report
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._frames_by_type: dict[type, Counter] = {}
        self._count_calls()
        self._count_messages()
        self._count_what_goes_wrong()

    def _count_calls(self) -> None:
        self.connections_opened = self._counter(
            "chatd_connections_opened", "WebSockets authenticated."
        )
        self.connections_closed = self._counter(
            "chatd_connections_closed", "WebSockets ended, by close code.", "code"
        )
        self._frames_received = self._counter(
            "chatd_frames_received", "Frames from clients, by type.", "type"
        )
        self.refusals = self._counter(
            "chatd_refusals", "Requests and frames refused, by code.", "code"
        )
        self.sign_ins = self._counter("chatd_sign_ins", "Sign-ins, by result.", "result")
        self.requests = self._histogram(
            "chatd_http_request_seconds",
            "REST requests, by method and status.",
            _SLOW,
            "method",
            "status",
        )

    def _count_messages(self) -> None:
        self._stored = self._counter("chatd_messages_stored", "Messages stored.")
        self._removed = self._counter(
            "chatd_messages_removed", "Messages removed because of their age."
        )
        self._delivered = self._counter(
            "chatd_messages_delivered", "Copies of messages put into outboxes."
        )
        self._delivery_seconds = self._histogram(
            "chatd_delivery_seconds",
            "From the sending of a message to its first receipt; of each conversation the latest.",
            _SLOW,
        )
        self._replayed = self._counter(
            "chatd_messages_replayed", "Messages replayed to connections."
        )
        self._replay_size = self._histogram(
            "chatd_replay_size", "Messages replayed to one connection.", (0, *_COUNTS, 5000)
        )
        self._batch_size = self._histogram(
            "chatd_journal_batch_size", "Messages stored in one round trip.", _COUNTS
        )
        self._batch_seconds = self._histogram(
            "chatd_journal_batch_seconds", "Time to store a batch.", _FAST
        )
        self._wait_seconds = self._histogram(
            "chatd_journal_wait_seconds",
            "Time until a batch's first message is given to the storage.",
            _FAST,
        )
        self._marks = self._counter("chatd_marks_stored", "Receipt marks stored.")
        self._storage_seconds = self._histogram(
            "chatd_storage_seconds", "Calls of the storage, by operation.", _FAST, "operation"
        )

    def _count_what_goes_wrong(self) -> None:
        self.uuid_fallbacks = self._counter(
            "chatd_uuid_fallbacks", "Message ids made locally because the pool was dry."
        )
        self._news = self._counter(
            "chatd_cluster_news", "News told to the other servers and heard.", "way", "kind"
        )
        self._cluster_events = self._counter(
            "chatd_cluster_events", "What became of the other servers, and of NATS.", "event"
        )
        self._healed = self._counter(
            "chatd_cluster_healed_shards", "Shards looked through as news was lost."
        )
        self._loop_lag = self._histogram(
            "chatd_event_loop_lag_seconds", "How late the event loop comes to what is due.", _FAST
        )
        self._failures = self._counter(
            "chatd_failures", "Things that went wrong inside, by event.", "event"
        )

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self._registry)

    def _histogram(
        self, name: str, help_: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(name, help_, labels, buckets=buckets, registry=self._registry)

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

    def batch_stored(self, size: int, seconds: float, waited: float) -> None:
        """``seconds`` in the storage, having ``waited`` for it before."""
        self._stored.inc(size)
        self._batch_size.observe(size)
        self._batch_seconds.observe(seconds)
        self._wait_seconds.observe(waited)

    def storage_called(self, operation: str, seconds: float) -> None:
        self._storage_seconds.labels(operation).observe(seconds)

    def message_arrived(self, seconds: float) -> None:
        self._delivery_seconds.observe(seconds)

    def loop_was_late(self, seconds: float) -> None:
        self._loop_lag.observe(seconds)

    def message_routed(self, copies: int) -> None:
        self._delivered.inc(copies)

    def replayed(self, count: int) -> None:
        self._replayed.inc(count)
        self._replay_size.observe(count)

    def messages_removed(self, count: int) -> None:
        self._removed.inc(count)

    def cluster_changed(self, event: str, **facts: str) -> None:
        """The way to the other servers is another now, or one of them came or went."""
        self._cluster_events.labels(event).inc()
        quiet = event in ("cluster.connected", "cluster.server_came")
        (self._log.info if quiet else self._log.warning)(event, **facts)

    def news_told(self, kind: str) -> None:
        self._news.labels("told", kind).inc()

    def news_heard(self, kind: str) -> None:
        self._news.labels("heard", kind).inc()

    def healed(self, shards: int) -> None:
        self._healed.inc(shards)

    def marks_stored(self, size: int) -> None:
        self._marks.inc(size)

    def failed(self, event: str, error: BaseException, **context: str) -> None:
        """Something inside went wrong; the log has the traceback, and the ``context``."""
        self._failures.labels(event).inc()
        self._log.error(event, error=repr(error), exc_info=error, **context)
        self._report(error)


async def watch_loop(observe: Callable[[float], None]) -> None:
    """Measure again and again by how many seconds the event loop is late; the coroutine does not
    end."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOK_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
        observe(max(0.0, loop.time() - due))
