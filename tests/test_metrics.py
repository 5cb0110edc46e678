from __future__ import annotations

import io
import json

import pytest

from chatd.logs import make_logger
from chatd.metrics import Metrics


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def metrics(stream: io.StringIO) -> Metrics:
    return Metrics(make_logger("json", "info", stream))


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def test_what_the_rooms_report_is_counted(metrics: Metrics) -> None:
    metrics.batch_stored(3, 0.002, 0.001)
    metrics.batch_stored(1, 0.2, 0.3)
    metrics.storage_called("append", 0.002)
    metrics.message_arrived(0.5)
    metrics.loop_was_late(0.25)
    metrics.message_routed(7)
    metrics.marks_stored(5)
    metrics.replayed(9)
    found = samples(metrics)
    assert found["chatd_messages_stored_total"] == 4
    assert found["chatd_journal_batch_size_count"] == 2
    assert found["chatd_journal_batch_size_sum"] == 4
    assert found["chatd_journal_batch_seconds_count"] == 2
    assert found["chatd_messages_delivered_total"] == 7
    assert found["chatd_marks_stored_total"] == 5
    assert found["chatd_messages_replayed_total"] == 9
    assert found["chatd_replay_size_sum"] == 9
    assert found["chatd_journal_wait_seconds_sum"] == 0.301
    assert found['chatd_storage_seconds_sum{operation="append"}'] == 0.002
    assert found["chatd_delivery_seconds_sum"] == 0.5
    assert found["chatd_event_loop_lag_seconds_sum"] == 0.25


def test_a_failure_is_counted_and_logged_with_its_traceback(
    metrics: Metrics, stream: io.StringIO
) -> None:
    try:
        raise ValueError("inside")
    except ValueError as error:
        metrics.failed("journal.append_failed", error)
    assert samples(metrics)['chatd_failures_total{event="journal.append_failed"}'] == 1
    event = json.loads(stream.getvalue())
    assert (event["level"], event["event"]) == ("error", "journal.append_failed")
    assert event["error"] == "ValueError('inside')"
    assert "Traceback" in event["exception"]


def test_a_gauge_is_read_when_it_is_asked_for(metrics: Metrics) -> None:
    level = 1.0
    metrics.gauge("chatd_level", "A level.", lambda: level)
    assert samples(metrics)["chatd_level"] == 1
    level = 2.0
    assert samples(metrics)["chatd_level"] == 2


def test_two_servers_in_one_process_count_apart(metrics: Metrics, stream: io.StringIO) -> None:
    other = Metrics(make_logger("json", "info", stream))
    other.connections_opened.inc()
    assert samples(other)["chatd_connections_opened_total"] == 1
    assert samples(metrics)["chatd_connections_opened_total"] == 0
