"""A storage that is out, as those notice it who send, and how its end is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.faults.device import Device, until
from tests.e2e.faults.log import Acked, Refused
from tests.e2e.faults.traffic import Traffic
from tests.e2e.server import Server


async def refused(traffic: Traffic) -> None:
    """Return once every sender had a message refused, from now on."""
    for sender in traffic.senders:
        sender.refused.clear()
    await until(lambda: all(sender.refused for sender in traffic.senders))


async def taken(traffic: Traffic) -> float:
    """Return once every sender had a message acked, from now on: after how many seconds."""
    began = time.monotonic()
    known = [(sender, len(sender.log.events)) for sender in traffic.senders]
    await until(lambda: all(_acked_behind(sender, at) for sender, at in known))
    return time.monotonic() - began


def _acked_behind(sender: Device, at: int) -> bool:
    return any(isinstance(event, Acked) for event in sender.log.events[at:])


@contextmanager
def tracebacks_are_few(server: Server) -> Iterator[None]:
    """An outage is told of in the log, but not with everything that it refuses."""
    before, began = _tracebacks(server), time.monotonic()
    yield
    told, seconds = _tracebacks(server) - before, time.monotonic() - began
    assert _tracebacks(server) > 0
    assert told <= 4 * (seconds + 1), f"{told} tracebacks in {seconds:.1f} s"


def _tracebacks(server: Server) -> int:
    return server.log.read_text().count('"exception":')


def refusals(traffic: Traffic) -> set[str]:
    """The codes with which anything was refused."""
    return {one.code for device in traffic.devices for one in device.log.of(Refused)}


def spoken(seconds: list[float]) -> str:
    """How long it took until messages were taken again, for the report."""
    return f"taken again after {sum(seconds) / len(seconds):.1f} s, at most {max(seconds):.1f} s"
