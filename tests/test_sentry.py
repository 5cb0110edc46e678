"""Failures arrive at Sentry, and nothing of what people wrote goes with them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.chat import PATIENCE

FAILING = """
import sys
from chatd.logs import make_logger
from chatd.metrics import Metrics
from chatd.sentry import reporter

def fails():
    text, password = "between you and me", "correct horse battery"
    raise KeyError("inside")

metrics = Metrics(make_logger("json", "error"), reporter(sys.argv[1]))
try:
    fails()
except KeyError as error:
    metrics.failed("http.failed", error)
"""


class Sentry:
    """As much of Sentry as takes what is sent to it."""

    def __init__(self) -> None:
        self.envelopes: list[str] = []
        self.arrived = Event()
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sentry.envelopes.append(body.decode())
                self.send_response(200)
                self.end_headers()
                sentry.arrived.set()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://0123456789abcdef@127.0.0.1:{self.server.server_port}/1"

    def event(self) -> dict[str, Any]:
        """The failure that has arrived."""
        assert self.arrived.wait(PATIENCE)
        lines = self.envelopes[0].splitlines()
        return dict(json.loads(next(line for line in lines if '"exception"' in line)))


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    sentry = Sentry()
    Thread(target=sentry.server.serve_forever).start()
    yield sentry
    sentry.server.shutdown()
    sentry.server.server_close()


def test_a_failure_arrives_with_its_traceback_and_without_its_values(sentry: Sentry) -> None:
    """Seen to fail with ``include_local_variables=True``."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING, sentry.dsn], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    event = sentry.event()
    (failure,) = event["exception"]["values"]
    assert (failure["type"], failure["value"]) == ("KeyError", "'inside'")
    assert failure["stacktrace"]["frames"][-1]["function"] == "fails"
    assert event["release"].startswith("chatd@")
    # The frames show lines of the source, as these are; values of variables none.
    assert not any(frame.get("vars") for frame in failure["stacktrace"]["frames"])
    assert not event.get("user")
    assert not event.get("request")


def test_what_is_no_dsn_is_refused_at_start_and_not_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chatd.cli", "--port", "0", "--data-dir", str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "CHATD_LOGGING__SENTRY_DSN": "https://hush.example/x"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "logging.sentry_dsn is no DSN" in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatd.sentry import reporter

    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ValueError, match=r"pip install '.\[sentry\]'"):
        reporter("https://key@sentry.example.org/1")
