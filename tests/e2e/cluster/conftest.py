"""Three servers, each a process, which the tests of a file share; whatever one does to them is
mended behind it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.e2e.cluster.team import Seat, Team
from tests.mongod import ReplicaSet
from tests.nats import NatsServer

MakeTeam = Callable[..., Team]


@pytest.fixture(scope="package")
def three(
    tmp_path_factory: pytest.TempPathFactory,
    mongo_server: ReplicaSet,
    mongo_client: MongoClient[dict[str, Any]],
) -> Iterator[Team]:
    """Started once, as that takes longer than most tests."""
    folder = tmp_path_factory.mktemp("cluster")
    nats = NatsServer(folder / "nats")
    nats.start()
    database = f"chatd_{uuid.uuid4().hex}"
    url = mongo_server.url(database)
    team = Team([Seat(folder / name, url, nats) for name in ("one", "two", "three")], nats)
    try:
        team.start()
        yield team
    finally:
        for seat in team.seats:
            seat.close()
        nats.close()
        mongo_client.drop_database(database)


@pytest.fixture
def team(three: Team, io_loop: Any) -> Iterator[Team]:
    """The three, all well."""
    three.mend()
    three.open()
    yield three
    three.leave()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS of the test's own."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.close()


@pytest.fixture
def make_team(tmp_path: Path, io_loop: Any) -> Iterator[MakeTeam]:
    """Makes servers of the test's own; all are ended behind it."""
    teams: list[Team] = []

    def make(nats: NatsServer, storage: str, *environments: dict[str, str] | None) -> Team:
        first = sum(len(team.seats) for team in teams)
        seats = [
            Seat(tmp_path / f"server-{number}", storage, nats, environment)
            for number, environment in enumerate(environments, first)
        ]
        teams.append(Team(seats, nats))
        return teams[-1]

    yield make
    for team in teams:
        team.leave()
        for seat in team.seats:
            seat.close()
