from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from chatd.connection import Connection
from chatd.errors import CloseCode
from chatd.keepalive import KeepAlive
from chatd.registry import ConnectionRegistry
from tests.chat import eventually
from tests.rooms import Lab, Peer


def expire(connection: Connection, at: float) -> None:
    connection.login = msgspec.structs.replace(connection.login, ends_at=at)


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


def test_the_silent_are_pinged_and_the_dead_are_ended() -> None:
    lab, registry = Lab(), ConnectionRegistry()
    now = lab.clock.time()
    connection, peer = lab.connect()
    registry.add(connection)
    keep_alive = KeepAlive(registry, ping_seconds=20, pong_seconds=10)
    lab.clock.advance(20)
    keep_alive.sweep(now + 20)
    lab.clock.turn()
    assert peer.take() == [b"\0\1"]
    keep_alive.sweep(now + 29)
    assert peer.closed is None
    keep_alive.sweep(now + 30)
    assert peer.closed == (CloseCode.TIMEOUT, "no Pong in time")
