"""What a number of shards costs a server by itself: ``python -m bench.shard_costs NUMBER NATS``.

A process for each number, as memory that was once used is not measured again. Standard output has
`Costs` as JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.processes import resident_bytes
from bench.sharded import spread_over

PULSES: Final = 200
_LATE_SECONDS: Final = 1.0
"""By then what a pulse says has been compared with what came."""


class Costs(msgspec.Struct, frozen=True):
    """Of a subscription, and of one pulse: to the server that sends it, and to one that hears it
    and listens to every shard. CPU in seconds."""

    subscription_bytes: float
    subscription_cpu: float
    pulse_bytes: int
    pulse_sent_cpu: float
    pulse_heard_cpu: float


class _Nobody:
    """Hears what becomes of the other servers and of NATS, and does nothing about it."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()

    def bus_changed(self, event: str, _: str) -> None:
        if event == "cluster.connected":
            self.connected.set()

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


async def costs(number: int, nats_url: str) -> Costs:
    subscription_bytes, subscription_cpu = await _subscriptions(number, nats_url)
    packet, sent = _pulse_sent(number)
    return Costs(
        subscription_bytes=subscription_bytes,
        subscription_cpu=subscription_cpu,
        pulse_bytes=len(packet),
        pulse_sent_cpu=sent,
        pulse_heard_cpu=await _pulse_heard(packet),
    )


async def _subscriptions(number: int, nats_url: str) -> tuple[float, float]:
    from chatd.cluster.bus import Access, Bus  # noqa: PLC0415 - see `spread_over`

    async def heard(_: int, __: bytes) -> None: ...

    nobody: Any = _Nobody()
    bus = Bus(Access(nats_url), "bench", heard, nobody)
    running = asyncio.create_task(bus.run_forever())
    await nobody.connected.wait()
    await bus.listening()
    memory, cpu = resident_bytes(os.getpid()), time.process_time()
    for shard in range(number):
        bus.want(shard, True)
    await bus.listening()
    cpu, memory = time.process_time() - cpu, resident_bytes(os.getpid()) - memory
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.close()
    return memory / number, cpu / number


def _pulse_sent(number: int) -> tuple[bytes, float]:
    from chatd.cluster.packets import Packet, encode_packet  # noqa: PLC0415 - see `spread_over`
    from chatd.news import PulseNews  # noqa: PLC0415

    # Packets sent to each shard, as they stand when a server has run for some hours.
    sent = [10_000 + shard for shard in range(number + 1)]
    packet, began = b"", time.process_time()
    for nth in range(PULSES):
        pulse = PulseNews(list(sent), 1000, 1 << 63, ["f" * 16], 1_700_000_000_000)
        packet = encode_packet(Packet("0" * 12, nth + 1, [pulse]))
    return packet, (time.process_time() - began) / PULSES


async def _pulse_heard(data: bytes) -> float:
    from chatd.cluster.packets import decode_packet  # noqa: PLC0415 - see `spread_over`
    from chatd.cluster.peers import Peers  # noqa: PLC0415

    nobody: Any = _Nobody()
    peers, began = Peers(nobody, lambda _: True), time.process_time()
    for _ in range(PULSES):
        packet = decode_packet(data)
        (pulse,) = packet.news
        peers.pulse(packet.server, pulse)  # type: ignore[arg-type]
    await asyncio.sleep(_LATE_SECONDS)
    return (time.process_time() - began) / PULSES


def main(number: str, nats_url: str) -> None:
    spread_over(int(number))
    print(msgspec.json.encode(asyncio.run(costs(int(number), nats_url))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
