"""The line of sign-ins: whether they, which must be slow, keep those waiting who talk."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import closing
from typing import Final, NamedTuple

from tornado.httpclient import AsyncHTTPClient

from bench.load import Counted, Load, Unmeasurable
from bench.measure import Outcome, Plan, at_most
from bench.report import Figure, comparison
from bench.server import MEMORY, Site, pairs, port_of, signed_up
from tests.e2e.server import Server

SIGN_INS: Final = 100
RATE: Final = 200
PAIRS: Final = 10
MOST_MS: Final = 20.0

_REQUEST_SECONDS: Final = 60


class Burst(NamedTuple):
    """All sign-ins are answered, after ``seconds``; what others wrote to each other meanwhile."""

    counted: Counted
    seconds: float


def sign_ins(plan: Plan) -> Outcome:
    """A store in memory: what waits here waits for the loop, not for a disk."""
    with Site(plan.folder / "sign-ins", MEMORY).serving() as server:
        clients = pairs(signed_up(server, 2 * PAIRS))
        count = plan.size(SIGN_INS)
        bursts: list[Burst] = []
        for run in range(plan.cold_runs + plan.runs):
            with Load(port_of(server), clients, rate=RATE, warm_up=plan.warm_up) as load:
                load.ready()
                load.begun()
                seconds = asyncio.run(_sign_in(server, count, f"run-{run}"))
                load.stop()
                load.stopped()
                bursts.append(Burst(load.counted(), seconds))
    return _outcome(count, bursts[plan.cold_runs :])


def _outcome(count: int, bursts: list[Burst]) -> Outcome:
    figures = (
        Figure[Burst]("s until all are signed in", lambda one: one.seconds),
        Figure[Burst]("p50 ms", lambda one: one.counted.p50_ms),
        Figure[Burst]("p99 ms", lambda one: one.counted.p99_ms),
        Figure[Burst]("max ms", lambda one: one.counted.max_ms),
    )
    most = statistics.median(one.counted.max_ms for one in bursts)
    return Outcome(
        f"{count} sign-ups at once, beside {RATE} messages/s one to one, memory",
        comparison(("sign-ins", "server"), {str(count): {"chatd": bursts}}, figures, "chatd"),
        [at_most("sign-ins", "written → delivered meanwhile, the slowest", most, MOST_MS, "ms")],
    )


async def _sign_in(server: Server, count: int, name: str) -> float:
    """Have so many new users sign in at the same time; the seconds until all have."""
    with closing(AsyncHTTPClient(force_instance=True, max_clients=count)) as client:
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(
                client.fetch(
                    f"{server.url}/v1/auth/sign-in",
                    method="POST",
                    headers={"Content-Type": "application/json"},
                    body=json.dumps(
                        {"email": f"{name}-{n}@example.org", "password": "correct horse battery"}
                    ),
                    request_timeout=_REQUEST_SECONDS,
                    raise_error=False,
                )
                for n in range(count)
            )
        )
        seconds = time.perf_counter() - started
    if refused := [one.code for one in answers if one.code != 201]:
        raise Unmeasurable(f"{len(refused)} sign-ins were answered {sorted(set(refused))}")
    return seconds
