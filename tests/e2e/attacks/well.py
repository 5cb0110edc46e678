"""Whether a server that was attacked is as well as before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import ProxyHandler, build_opener

from tests.chat import PATIENCE
from tests.e2e.server import Server

_OWN_WORDS = "chatd: "
"""What chatd says to its administrator in plain words before the log begins."""


def events(server: Server) -> list[dict[str, Any]]:
    """All that the server has logged, since its first start; each line must be an event.

    A last line that isn't whole yet is left out.
    """
    text = server.log.read_text(encoding="utf-8")
    lines = [line for line in text.split("\n")[:-1] if not line.startswith(_OWN_WORDS)]
    logged = [json.loads(line) for line in lines]
    assert all(isinstance(event.get("event"), str) for event in logged), lines
    return logged


def event_of(server: Server, request_id: str) -> dict[str, Any]:
    """What is logged of a request: who was answered may know it sooner than the log."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for event in events(server):
            if event["event"] == "http.request" and event["request_id"] == request_id:
                return event
        time.sleep(0.005)
    raise AssertionError(f"there is no request {request_id} in {server.log}")


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Start it; behind all that is done to it, it must be well. Ended it is in any case."""
    server.start()
    try:
        yield server
        assert_well(server)
    finally:
        server.close()


def assert_well(server: Server) -> None:
    """It answers, and nothing has failed in it."""
    with build_opener(ProxyHandler({})).open(f"{server.url}/healthz", timeout=PATIENCE) as answer:
        assert answer.status == 200
    failures = [event for event in events(server) if _is_failure(event)]
    assert not failures, failures


def _is_failure(event: dict[str, Any]) -> bool:
    return event["level"] in ("error", "critical") or event["event"].endswith("failed")
