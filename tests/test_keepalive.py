from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from chatd.connection import Connection
from chatd.errors import CloseCode
from chatd.keepalive import KeepAlive
from chatd.registry import ConnectionRegistry
from tests.chat import eventually
from tests.rooms import PAIR, Lab, Peer, numbered


def expire(connection: Connection, at: float) -> None:
    connection.login = msgspec.structs.replace(connection.login, ends_at=at)


def live(lab: Lab, keep_alive: KeepAlive, seconds: float, *, pace: float = 1) -> None:
    """Let time pass with a look at every connection each time that one is due."""
    until = lab.clock.time() + seconds
    while lab.clock.time() < until:
        lab.clock.advance(keep_alive.interval * pace)
        keep_alive.sweep(lab.clock.time())
        lab.clock.turn()


def is_closed(peer: Peer) -> bool:
    return peer.closed is not None


async def test_it_sweeps_by_itself_for_as_long_as_connections_come_and_go(io_loop: Any) -> None:
    lab, registry = Lab(), ConnectionRegistry()
    keep_alive = KeepAlive(registry, ping_seconds=0.01, pong_seconds=0.01)
    task = asyncio.create_task(keep_alive.run_forever())
    for _ in range(2):
        connection, peer = lab.connect()
        expire(connection, 0)
        registry.add(connection)
        await eventually(partial(is_closed, peer))
        registry.remove(connection)
    task.cancel()


def test_an_expired_token_ends_its_connection_and_no_other() -> None:
    lab, registry = Lab(), ConnectionRegistry()
    now = lab.clock.time()
    (doomed, doomed_peer), (kept, kept_peer) = lab.connect(), lab.connect()
    for connection, ends_at in ((doomed, now + 5), (kept, now + 6)):
        expire(connection, ends_at)
        registry.add(connection)
    keep_alive = KeepAlive(registry, ping_seconds=20, pong_seconds=20)
    keep_alive.sweep(now + 4)
    assert doomed_peer.closed is None
    keep_alive.sweep(now + 5)
    assert doomed_peer.closed == (CloseCode.UNAUTHENTICATED, "the token has expired")
    assert doomed_peer.take() == [
        {"type": "bye", "reason": "the token has expired", "reconnect": False}
    ]
    assert kept_peer.closed is None
    expire(kept, now + 60)
    keep_alive.sweep(now + 7)
    assert kept_peer.closed is None, "a fresh token keeps it"


@pytest.mark.parametrize(("ping", "pong"), [(20, 20), (20, 10), (5, 60), (1, 1), (0.5, 3)])
@pytest.mark.parametrize("phase", [0, 0.3, 0.99], ids=lambda phase: f"phase {phase}")
@pytest.mark.parametrize("pace", [1, 1.4], ids=["on time", "a little late"])
def test_who_falls_silent_is_let_go_within_the_sum_of_both_times(
    ping: float, pong: float, phase: float, pace: float
) -> None:
    lab, registry = Lab(), ConnectionRegistry()
    keep_alive = KeepAlive(registry, ping_seconds=ping, pong_seconds=pong)
    keep_alive.sweep(lab.clock.time())
    lab.clock.advance(phase * keep_alive.interval)
    connection, peer = lab.connect()
    registry.add(connection)
    silent_since = pinged_at = lab.clock.time()
    lab.clock.advance((1 - phase) * keep_alive.interval)
    while peer.closed is None:
        live(lab, keep_alive, keep_alive.interval, pace=pace)
        if peer.take() == [b"\0\1"]:
            pinged_at = lab.clock.time()
    assert peer.closed == (CloseCode.TIMEOUT, "no Pong in time")
    assert peer.dropped
    assert pinged_at > silent_since
    assert lab.clock.time() - pinged_at >= pong, "the Pong has its whole time"
    assert lab.clock.time() - silent_since <= ping + pong


def test_after_the_server_was_frozen_everybody_has_time_for_a_pong_again() -> None:
    lab, registry = Lab(), ConnectionRegistry()
    keep_alive = KeepAlive(registry, ping_seconds=20, pong_seconds=10)
    (alive, alive_peer), (dead, dead_peer) = lab.connect(), lab.connect()
    for connection in (alive, dead):
        registry.add(connection)
    live(lab, keep_alive, 20)
    assert alive_peer.take() == dead_peer.take() == [b"\0\1"]
    lab.clock.advance(3600)
    keep_alive.sweep(lab.clock.time())
    assert alive_peer.closed is dead_peer.closed is None
    # It lay unread.
    alive.pong(b"\0\1")
    live(lab, keep_alive, 10)
    assert alive_peer.closed is None
    assert dead_peer.closed == (CloseCode.TIMEOUT, "no Pong in time")


def test_who_was_pinged_after_the_server_was_frozen_has_no_more_time_than_others() -> None:
    lab, registry = Lab(), ConnectionRegistry()
    keep_alive = KeepAlive(registry, ping_seconds=20, pong_seconds=10)
    connection, peer = lab.connect()
    registry.add(connection)
    keep_alive.sweep(lab.clock.time())
    lab.clock.advance(3600)
    keep_alive.sweep(lab.clock.time())
    lab.clock.turn()
    assert peer.take() == [b"\0\1"], "nobody else would ask it sooner"
    lab.clock.advance(60)
    connection.pong(b"\0\1")
    connection.deliver(PAIR, 1, numbered(1))
    lab.clock.turn()
    keep_alive.sweep(lab.clock.time())
    live(lab, keep_alive, 10)
    assert peer.closed is not None


def test_a_token_that_expired_while_the_server_was_frozen_has_expired() -> None:
    lab, registry = Lab(), ConnectionRegistry()
    keep_alive = KeepAlive(registry, ping_seconds=20, pong_seconds=10)
    connection, peer = lab.connect()
    expire(connection, lab.clock.time() + 60)
    registry.add(connection)
    keep_alive.sweep(lab.clock.time())
    lab.clock.advance(3600)
    keep_alive.sweep(lab.clock.time())
    assert peer.closed == (CloseCode.UNAUTHENTICATED, "the token has expired")


def test_absurdly_short_times_leave_the_loop_to_others() -> None:
    registry = ConnectionRegistry()
    for ping, pong in ((1e-9, 20), (20, 1e-9)):
        assert KeepAlive(registry, ping_seconds=ping, pong_seconds=pong).interval >= 0.01
