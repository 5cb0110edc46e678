"""MongoDB's adapter and a mongod that fails: it refuses, hangs, hangs up, or confirms nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import msgspec
import pytest
from pymongo.topology_description import TopologyDescription
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import ClientIdConflict, Duplicate
from chatd.storage.base import Storage
from chatd.storage.mongo import MongoStorage
from tests.mongod import Mongod, ReplicaSet
from tests.storage.faults import Driver
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CLUB,
    draft,
    drafts,
    group,
    read,
    stored,
    user,
)
from tests.storage.test_contract import CALLS

pytestmark = pytest.mark.mongod


@pytest.fixture(scope="module")
def failing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A mongod that can be told to fail."""
    server = ReplicaSet(
        tmp_path_factory.mktemp("failing"),
        1,
        "--journalCommitInterval=5",
        "--setParameter=enableTestCommands=1",
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def mongod(failing_server: ReplicaSet) -> Iterator[Mongod]:
    (mongod,) = failing_server.members
    yield mongod
    mongod.thaw()  # a test that was ended from outside may have left it frozen


@pytest.fixture
def url(failing_server: ReplicaSet) -> str:
    return failing_server.url(f"chatd_{uuid.uuid4().hex}")


@contextmanager
def failing(mongod: Mongod, mode: object, *commands: str, **how: object) -> Iterator[None]:
    """Inside, the server fails these commands of chatd's as the fail point failCommand has it."""
    data = {"appName": "chatd", "failCommands": commands, **how}
    mongod.command("configureFailPoint", "failCommand", mode=mode, data=data)
    try:
        yield
    finally:
        mongod.command("configureFailPoint", "failCommand", mode="off")


SEES_SOON: Final = "heartbeatFrequencyMS=500&connectTimeoutMS=500"
"""Has the driver find out soon that a server is out, or back."""

ONCE: Final = {"times": 1}


@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
        {"errorCode": 11600, "errorLabels": ["RetryableWriteError"]},
    ],
    ids=["connection closed", "not the primary any more", "shutting down"],
)
@pytest.mark.parametrize("command", ["insert", "update", "delete", "find", "aggregate"])
async def test_what_fails_once_on_the_server_nobody_notices(
    io_loop: IOLoop, mongod: Mongod, url: str, command: str, how: Mapping[str, Any]
) -> None:
    async with opened(f"{url}&{SEES_SOON}") as storage:
        await storage.create_group(group("club"))
        await storage.append([draft(client_id="0")])
        with failing(mongod, ONCE, command, **how):
            assert await storage.join("club", BOB, 1)
            outcomes = await storage.append([draft(CLUB, client_id="1"), draft(client_id="0")])
        with failing(mongod, ONCE, command, **how):
            advances = await storage.advance([read(BOB, 1, CLUB)])
            assert [(one.old, one.seq, one.senders) for one in advances] == [
                (0, 1, frozenset({ANN}))
            ] * 2
            assert await storage.leave("club", BOB)
        assert stored(outcomes[0]).seq == 1
        assert isinstance(outcomes[1], Duplicate)
        assert await storage.last_seq(CLUB) == 1
        found = await storage.group("club")
        assert found is not None
        assert (found.members, found.messages) == (1, 1)


NOT_CONFIRMED: Final = {"code": 64, "errmsg": "waiting for replication timed out"}
SHUTTING_DOWN: Final = {"code": 91, "errmsg": "Replication is being shut down"}
"""Errors of a write's concern: the write is there, and whether a majority has it is not known."""


async def test_a_message_that_no_majority_confirmed_is_not_acked_and_its_repeat_is_a_duplicate(
    io_loop: IOLoop, mongod: Mongod, url: str
) -> None:
    first = draft(client_id="1")
    async with opened(url) as storage:
        await storage.append([draft()])
        with (
            failing(mongod, ONCE, "insert", writeConcernError=NOT_CONFIRMED),
            pytest.raises(Unavailable),
        ):
            await storage.append([first])
        assert await storage.append([draft(client_id="1")]) == [Duplicate(first.numbered(2))]
        assert await storage.last_seq(ANN_AND_BOB) == 2


async def test_a_repeat_is_not_acked_where_no_majority_confirmed_what_is_in_front_of_it(
    io_loop: IOLoop, mongod: Mongod, url: str
) -> None:
    async with opened(url) as storage:
        await storage.append([draft(client_id="1")])
        with (
            failing(mongod, ONCE, "insert", writeConcernError=NOT_CONFIRMED),
            pytest.raises(Unavailable),
        ):
            await storage.append([draft(), draft(client_id="1")])
        while await storage.last_seq(ANN_AND_BOB) < 2:  # a majority follows in the end
            await asyncio.sleep(0.01)


UNCONFIRMED: Final[Mapping[str, tuple[str, Callable[[Storage], Awaitable[object]]]]] = {
    "create_user": ("insert", lambda store: store.create_user(user(BOB))),
    "set_password": ("update", lambda store: store.set_password(ANN, "new", 1)),
    "touch_last_seen": ("update", lambda store: store.touch_last_seen({ANN: 1})),
    "revoke_token": ("update", lambda store: store.revoke_token("1", 1)),
    "create_group": ("insert", lambda store: store.create_group(group("new"))),
    "join": ("insert", lambda store: store.join("club", BOB, 1)),
    "count members": ("update", lambda store: store.join("club", BOB, 1)),
    "leave": ("delete", lambda store: store.leave("club", ANN)),
    "first marks": ("insert", lambda store: store.append([draft()])),
    "advance": ("update", lambda store: store.advance([read(ANN, 1, CLUB)])),
    "prune": ("delete", lambda store: store.prune(CLUB, 99, 9)),
    "blank": ("update", lambda store: store.prune(ANN_HERSELF, 99, 9)),
    "reassign": ("update", lambda store: store.reassign(CLUB, BOB, ANN, blank=True)),
    "reassign the maker": ("update", lambda store: store.reassign(CLUB, ANN, BOB, blank=True)),
    "reassign a pair": ("update", lambda store: store.reassign(ANN_HERSELF, ANN, BOB, blank=True)),
    "reassign marks": ("delete", lambda store: store.reassign(ANN_HERSELF, ANN, BOB, blank=True)),
    "delete a pair": ("delete", lambda store: store.delete_conversation(ANN_HERSELF)),
    "delete_group": ("delete", lambda store: store.delete_group("club")),
    "delete_user": ("delete", lambda store: store.delete_user(ANN)),
    "load": ("update", lambda store: store.load([user(BOB)])),
    "ping": ("update", lambda store: store.ping()),
}


@pytest.mark.parametrize("name", UNCONFIRMED)
async def test_a_write_that_no_majority_confirmed_has_not_returned(
    io_loop: IOLoop, mongod: Mongod, url: str, name: str
) -> None:
    command, call = UNCONFIRMED[name]
    async with opened(url) as storage:
        await storage.create_user(user(ANN))
        await storage.create_group(group("club"))
        await storage.append([draft(CLUB, BOB), draft(CLUB, BOB), draft(ANN_HERSELF)])
        await storage.group("club")  # counts what is behind
        with (
            failing(mongod, ONCE, command, writeConcernError=NOT_CONFIRMED),
            pytest.raises(Unavailable),
        ):
            await call(storage)
        await call(storage)


async def test_a_confirmation_that_failed_once_is_asked_for_again(
    io_loop: IOLoop, mongod: Mongod, url: str
) -> None:
    async with opened(url) as storage:
        with failing(mongod, ONCE, "insert", writeConcernError=SHUTTING_DOWN):
            outcomes = await storage.append(drafts(3, CLUB))
        assert [stored(one).seq for one in outcomes] == [1, 2, 3]
        assert await storage.last_seq(CLUB) == 3


async def test_a_server_that_hangs_is_waited_for_no_longer_than_the_url_says(
    io_loop: IOLoop, mongod: Mongod, url: str
) -> None:
    hanging = 5
    async with opened(f"{url}&timeoutMS=1000") as storage:
        await storage.append([draft(client_id="0")])
        with failing(
            mongod, "alwaysOn", "insert", blockConnection=True, blockTimeMS=hanging * 1000
        ):
            async with asyncio.timeout(hanging - 1):
                with pytest.raises(Unavailable):
                    await storage.append([draft(client_id="1")])
            assert await storage.last_seq(ANN_AND_BOB) == 1
        (outcome,) = await storage.append([draft(client_id="1")])
        assert not isinstance(outcome, ClientIdConflict)
        assert outcome.message.seq == 2
        assert stored((await storage.append([draft()]))[0]).seq == 3


async def _refused_at_once(driver: Driver, call: Callable[[], Awaitable[object]]) -> bool:
    """Whether a call that is `Unavailable` did not even ask the driver."""
    driver.calls.clear()
    with pytest.raises(Unavailable):
        await call()
    return not driver.calls


async def _writes_again(storage: Storage) -> None:
    while True:
        try:
            return await storage.ping()
        except Unavailable:
            await asyncio.sleep(0.02)


async def test_a_frozen_server_makes_calls_unavailable_and_works_again_by_itself(
    io_loop: IOLoop, mongod: Mongod, url: str, driver: Driver
) -> None:
    again = draft(client_id="1")
    async with opened(f"{url}&timeoutMS=1000&{SEES_SOON}") as storage:
        await storage.append([draft(client_id="0")])
        mongod.freeze()
        try:
            calls = [storage.append([again]), *(call(storage) for call in CALLS.values())]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(one) for one in results} == {Unavailable}
            while not await _refused_at_once(driver, storage.ping):
                await asyncio.sleep(0.02)
            for call in CALLS.values():
                assert await _refused_at_once(driver, partial(call, storage))
        finally:
            mongod.thaw()
        await _writes_again(storage)
        (outcome,) = await storage.append([msgspec.structs.replace(again, id="again")])
        assert not isinstance(outcome, ClientIdConflict)
        assert outcome.message.client_id == "1"
        found = await storage.history(ANN_AND_BOB, limit=10)
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        assert [one.client_id for one in found].count("1") == 1


async def test_a_server_that_is_there_is_never_taken_for_out_however_short_the_time_for_a_call(
    io_loop: IOLoop, url: str
) -> None:
    async with opened(f"{url}&timeoutMS=500") as storage:
        await asyncio.sleep(0.6)
        await storage.ping()


async def _until_seen(storage: Storage, *, writable: bool) -> None:
    """Return when the driver has found out that the server can be written to, or cannot."""
    assert isinstance(storage, MongoStorage)
    assert storage._database is not None
    client = storage._database._client
    while cast(TopologyDescription, client.topology_description).has_writable_server() != writable:
        await asyncio.sleep(0.02)


async def _quiet(_storage: Storage) -> None:
    await asyncio.sleep(3)


@pytest.mark.parametrize("meanwhile", [_writes_again, _quiet])
async def test_each_outage_is_waited_for_anew(
    io_loop: IOLoop,
    mongod: Mongod,
    url: str,
    meanwhile: Callable[[Storage], Awaitable[None]],
) -> None:
    """A call that fails in an outage; some time later, a call in a short election."""
    async with opened(f"{url}&timeoutMS=2500&{SEES_SOON}") as storage:
        mongod.freeze()
        try:
            await _until_seen(storage, writable=False)
            with pytest.raises(Unavailable):
                await storage.ping()
        finally:
            mongod.thaw()
        await _until_seen(storage, writable=True)
        await meanwhile(storage)
        mongod.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=0, force=True)
        await _until_seen(storage, writable=False)
        await storage.ping()
