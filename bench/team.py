"""Several chatd servers on one MongoDB with a NATS between them, and what each process takes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.load import Client, Counted, Load, Unmeasurable
from bench.measure import Plan
from bench.processes import LOAD_CORE, SERVER_CORE, exact_cpu_seconds, on_core
from bench.server import NO_LIMITS, Site, port_of
from bench.stores import client_of, cpu_of, mongod
from tests.e2e.server import Server
from tests.mongod import free_port
from tests.nats import NatsServer

MEET_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1

_COUNTED: Final = ("msgs", "bytes")


class Traffic(NamedTuple):
    """What went through NATS so far, as it counts it."""

    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int

    def since(self, before: Traffic) -> Traffic:
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


class Nats:
    """A nats-server, and what it says of itself."""

    def __init__(self, folder: Path) -> None:
        monitor, pid_file = free_port(), folder / "nats.pid"
        self._monitor = f"http://127.0.0.1:{monitor}"
        self._pid_file = pid_file
        self.server = NatsServer(folder, "-m", str(monitor), "-P", str(pid_file))

    def start(self) -> None:
        with on_core(LOAD_CORE):
            self.server.start()

    def restart(self) -> None:
        """Gone without a word, and back at once."""
        self.server.kill()
        self.start()

    def cpu_seconds(self) -> float:
        return exact_cpu_seconds(int(self._pid_file.read_text()))

    def traffic(self) -> Traffic:
        told = self._ask("varz")
        return Traffic(*(int(told[f"{way}_{of}"]) for way in ("in", "out") for of in _COUNTED))

    def subscriptions(self, pid: int) -> int:
        """How many the process has now."""
        ports = {one.laddr.port for one in psutil.Process(pid).net_connections("tcp4")}
        its = [one for one in self._ask("connz")["connections"] if one["port"] in ports]
        return sum(int(one["subscriptions"]) for one in its)

    def _ask(self, what: str) -> Any:
        with urlopen(f"{self._monitor}/{what}", timeout=10) as answer:  # noqa: S310 - our process
            return json.load(answer)

    def close(self) -> None:
        self.server.close()


class Ground(NamedTuple):
    """What all teams stand on. ``mongo_cpu``: seconds that mongod has used so far."""

    mongo_url: str
    mongo_cpu: Callable[[], float]
    nats: Nats


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """A mongod and a nats-server, beside the load: what they take is not the servers'."""
    with ExitStack() as stack:
        with on_core(LOAD_CORE):
            url = stack.enter_context(mongod(folder / "mongod"))
        client = stack.enter_context(client_of(url))
        nats = stack.enter_context(closing(Nats(folder / "nats")))
        nats.start()
        yield Ground(url, partial(cpu_of, client), nats)


class Spent(NamedTuple):
    """Seconds of processor time, each server by itself, and what went through NATS."""

    servers: Sequence[float]
    mongod: float
    nats: float
    traffic: Traffic

    def since(self, before: Spent) -> Spent:
        return Spent(
            [now - then for now, then in zip(self.servers, before.servers, strict=True)],
            self.mongod - before.mongod,
            self.nats - before.nats,
            self.traffic.since(before.traffic),
        )


class Team:
    """Servers that run."""

    def __init__(self, ground: Ground, servers: Sequence[Server]) -> None:
        self.ground = ground
        self.servers = servers
        self.ports = [port_of(one) for one in servers]
        self.pids = [one.process.pid for one in servers]

    def spent(self) -> Spent:
        """So far."""
        servers = [exact_cpu_seconds(pid) for pid in self.pids]
        on = self.ground
        return Spent(servers, on.mongo_cpu(), on.nats.cpu_seconds(), on.nats.traffic())

    def met(self) -> Self:
        """Once each server has heard of all others."""
        ends_at, others = time.monotonic() + MEET_SECONDS, len(self.servers) - 1
        for one in self.servers:
            while metric(one, "chatd_cluster_events_total", event="cluster.server_came") < others:
                if time.monotonic() > ends_at:
                    raise Unmeasurable("the servers do not hear of each other")
                time.sleep(POLL_SECONDS)
        return self


@contextmanager
def team(
    site: Site, on: Ground, count: int, *, alone: bool = False, shards: int | None = None
) -> Iterator[Team]:
    """So many servers on that site; one that is ``alone`` knows of no NATS."""
    environment = {**NO_LIMITS, "CHATD_AUTH__KEY_FILE": str(site.folder / "keys.json")}
    if not alone:
        environment["CHATD_CLUSTER__NATS_URL"] = on.nats.server.url
    folders = [site.folder / f"server-{nth}-of-{count}-{alone}" for nth in range(count)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                closing(_Sharded(folder, site.storage, environment=environment, shards=shards))
            )
            for folder in folders
        ]
        # Threads run on the cores that whoever starts them has.
        with on_core(SERVER_CORE), ThreadPoolExecutor(count) as pool:
            list(pool.map(Server.start, servers))
        yield Team(on, servers).met()


class _Sharded(Server):
    """A server with that number of shards; without one it has chatd's own."""

    def __init__(
        self, folder: Path, storage: str, *, environment: dict[str, str], shards: int | None
    ) -> None:
        super().__init__(folder, storage=storage, environment=environment)
        if shards is not None:
            program = [sys.executable, "-m", "chatd.cli"]
            assert self._command[: len(program)] == program
            self._command[2:3] = ["bench.sharded", str(shards)]


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of the samples of that name with at least these labels."""
    with urlopen(f"{server.url}/metrics", timeout=30) as answer:  # noqa: S310 - our own process
        text: Any = answer.read().decode()
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


class Taken(NamedTuple):
    """A run: what was counted, and what each process took for it."""

    counted: Counted
    spent: Spent

    def a_copy(self, seconds: float) -> float | None:
        """Microseconds for each copy of a message that arrived."""
        return 1_000_000 * seconds / self.counted.received if self.counted.received else None

    def a_message(self, number: float) -> float | None:
        return number / self.counted.sent if self.counted.sent else None


def take(team: Team, clients: Sequence[Client], plan: Plan, rate: float) -> Taken:
    """One run of clients of that team."""
    with Load(
        team.ports[0], clients, warm_up=plan.warm_up, seconds=plan.seconds, rate=rate
    ) as load:
        load.ready()
        load.begun()
        before = team.spent()
        load.stopped()
        spent = team.spent().since(before)
        return Taken(load.counted(), spent)
