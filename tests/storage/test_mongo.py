"""What MongoDB's adapter promises beyond the contract: its database, and several servers on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pytest
from pymongo import ASCENDING, DESCENDING, MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, WriteError
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import (
    Conversation,
    Duplicate,
    Message,
    Position,
    now_ms,
    pair_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.mongo import MongoStorage
from chatd.storage.mongo.address import address_of
from chatd.storage.refused import StorageRefused
from tests.mongod import Mongod, ReplicaSet, free_port
from tests.storage.faults import Call, Driver, Event, after, lost_answer, lost_call, made
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    BOB,
    CLUB,
    delivered,
    draft,
    group,
    read,
    stored,
    user,
)
from tests.storage.test_contract import CALLS

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]

INDEXES: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "meta": {},
    "users": {"users_by_id": {"key": [("id", ASCENDING)], "unique": True}},
    "groups": {
        "groups_by_members": {"key": [("members", DESCENDING), ("_id", ASCENDING)]},
        "groups_by_messages": {"key": [("messages", DESCENDING), ("_id", ASCENDING)]},
    },
    "members": {
        "members_by_user": {"key": [("_id.user", ASCENDING), ("_id.conversation", ASCENDING)]},
    },
    "marks": {
        "marks_by_user": {"key": [("_id.user", ASCENDING), ("_id.conversation", ASCENDING)]},
    },
    "messages": {
        "messages_by_seq": {
            "key": [("conversation", ASCENDING), ("seq", ASCENDING)],
            "unique": True,
        },
        "messages_by_sender": {
            "key": [("conversation", ASCENDING), ("sender", ASCENDING), ("seq", ASCENDING)],
        },
        "messages_by_client_id": {
            "key": [("sender", ASCENDING), ("client_id", ASCENDING)],
            "unique": True,
            "partialFilterExpression": {"client_id": {"$exists": True}},
        },
    },
    "revoked_tokens": {
        "revoked_tokens_by_expiry": {"key": [("expires_at", ASCENDING)], "expireAfterSeconds": 0},
    },
}
"""Every collection, with its indexes beside that of ``_id``."""

OPTIONAL: Final[Mapping[str, set[str]]] = {
    "users": {"last_seen_at"},
    "groups": {"title"},
    "members": {"moved_by"},
    "marks": {"moved_by"},
    "messages": {"client_id", "delivered_at", "read_at"},
}
"""What a document may leave out."""

BAD_DOCUMENT: Final = 121
"""DocumentValidationFailure in MongoDB's list of error codes."""


@pytest.fixture
def url(mongo_url: str) -> str:
    return mongo_url


@pytest.fixture
def database(mongo_client: Client) -> Callable[[str], Db]:
    """Gives the database of a URL, to look into it."""
    return lambda url: mongo_client[address_of(url).database]


@pytest.fixture
def db(database: Callable[[str], Db], url: str) -> Db:
    return database(url)


@pytest.fixture
def new_url(mongo_server: ReplicaSet, mongo_client: Client) -> Iterator[Callable[[], str]]:
    """Gives the URL of one more new database with each call."""
    made: list[str] = []

    def new() -> str:
        made.append(f"chatd_{uuid.uuid4().hex}")
        return mongo_server.url(made[-1])

    yield new
    for database in made:
        mongo_client.drop_database(database)


@pytest.fixture
async def storage(io_loop: IOLoop, url: str) -> AsyncIterator[Storage]:
    async with opened(url) as storage:
        yield storage


async def start_and_close(url: str) -> None:
    async with opened(url):
        pass


def indexes_of(db: Db) -> dict[str, dict[str, dict[str, Any]]]:
    """As `INDEXES` has them."""
    return {
        name: {
            index: {key: value for key, value in options.items() if key != "v"}
            for index, options in db[name].index_information().items()
            if index != "_id_"
        }
        for name in db.list_collection_names()
    }


def validators_of(db: Db) -> dict[str, object]:
    return {one["name"]: one["options"].get("validator") for one in db.list_collections()}


def everything_in(db: Db) -> dict[str, object]:
    """Every collection with its own identity, options, indexes and documents."""
    return {
        one["name"]: (one, db[one["name"]].index_information(), list(db[one["name"]].find()))
        for one in db.list_collections()
    }


# -- the database ----------------------------------------------------------------------------------


async def test_a_start_makes_the_collections_their_indexes_and_the_epoch(
    storage: Storage, db: Db
) -> None:
    assert indexes_of(db) == INDEXES
    (meta,) = db.meta.find()
    assert meta == {"_id": "chatd", "version": 1, "epoch": await storage.epoch(), "pings": 0}


async def _one_of_each_document(storage: Storage) -> None:
    """A document in every collection, with all that it may have."""
    await storage.create_user(msgspec.structs.replace(user(ANN), last_seen_at=5))
    await storage.create_group(msgspec.structs.replace(group("club"), title="Club"))
    await storage.append([draft(client_id="1"), draft(CLUB)])
    await storage.advance([read(BOB, 1), read(ANN, 1), read(ANN, 1, CLUB)])
    await storage.revoke_token("token", 2**40)


def _wrong(document: Mapping[str, Any], optional: set[str]) -> Iterator[dict[str, Any]]:
    yield {**document, "another": 1}
    for key, value in document.items():
        yield {**document, key: "yes" if isinstance(value, bool) else True}
        if isinstance(value, int):
            yield {**document, key: -1}
        if isinstance(value, dict):
            yield from ({**document, key: wrong} for wrong in _wrong(value, set()))
        if key not in optional:
            yield {other: document[other] for other in document if other != key}


@pytest.mark.parametrize("collection", INDEXES)
async def test_a_document_of_the_wrong_shape_is_refused(
    storage: Storage, db: Db, collection: str
) -> None:
    await _one_of_each_document(storage)
    document = next(
        one for one in db[collection].find() if one.keys() >= OPTIONAL.get(collection, set())
    )
    with pytest.raises(DuplicateKeyError):  # its shape is right
        db[collection].insert_one(dict(document))
    for wrong in _wrong(document, OPTIONAL.get(collection, set())):
        with pytest.raises(WriteError) as refused:
            db[collection].insert_one(wrong)
        assert refused.value.code == BAD_DOCUMENT, wrong


async def test_no_message_can_have_the_seq_0(storage: Storage, db: Db) -> None:
    await storage.append([draft()])
    with pytest.raises(WriteError) as refused:
        db.messages.update_one({}, {"$set": {"seq": 0}})
    assert refused.value.code == BAD_DOCUMENT


async def test_starting_again_changes_nothing(storage: Storage, url: str, db: Db) -> None:
    await _one_of_each_document(storage)
    before = everything_in(db)
    await start_and_close(url)
    assert everything_in(db) == before


async def test_servers_that_start_at_once_make_one_store(
    io_loop: IOLoop, new_url: Callable[[], str], database: Callable[[str], Db]
) -> None:
    for _ in range(5):
        url = new_url()
        servers = [MongoStorage(url) for _ in range(4)]
        await asyncio.gather(*(server.start() for server in servers))
        assert len({await server.epoch() for server in servers}) == 1
        assert indexes_of(database(url)) == INDEXES
        assert all(validators_of(database(url)).values())
        for server in servers:
            await server.close()


async def _epochs_of_a_start_amid_another(url: str, nth: int, driver: Driver) -> list[str]:
    """The epochs that two servers see, the second of which starts at one of the first's calls."""
    storage, other = MongoStorage(url), MongoStorage(url)
    epochs: list[str] = []

    async def start_the_other() -> None:
        await other.start()
        epochs.append(await other.epoch())

    with driver.interrupted(nth, after(start_the_other, made)):
        await storage.start()
    epochs.append(await storage.epoch())
    await storage.close()
    await other.close()
    return epochs


async def test_a_server_may_start_amid_the_start_of_another(
    io_loop: IOLoop, new_url: Callable[[], str], database: Callable[[str], Db], driver: Driver
) -> None:
    for nth in itertools.count(1):
        url = new_url()
        epochs = await _epochs_of_a_start_amid_another(url, nth, driver)
        assert len(set(epochs)) == 1
        assert indexes_of(database(url)) == INDEXES
        assert all(validators_of(database(url)).values())
        if len(epochs) == 1:
            break
    assert nth > 15


@pytest.mark.parametrize("fault", [lost_call, lost_answer])
async def test_a_start_that_breaks_off_anywhere_is_finished_by_the_next(
    io_loop: IOLoop,
    new_url: Callable[[], str],
    database: Callable[[str], Db],
    driver: Driver,
    fault: Event,
) -> None:
    for nth in itertools.count(1):
        url = new_url()
        with driver.interrupted(nth, fault) as interruption:
            try:
                await start_and_close(url)
            except Unavailable:
                assert interruption.happened
        if not interruption.happened:
            break
        await start_and_close(url)
        assert indexes_of(database(url)) == INDEXES
        assert all(validators_of(database(url)).values())
    assert nth > 15


async def test_what_is_missing_comes_back_with_the_next_start(
    storage: Storage, url: str, db: Db
) -> None:
    validators = validators_of(db)
    for collection, indexes in INDEXES.items():
        for index in indexes:
            db[collection].drop_index(index)
            await start_and_close(url)
            assert indexes_of(db) == INDEXES
        db.command("collMod", collection, validator={})
        await start_and_close(url)
        assert validators_of(db) == validators
        if collection != "meta":
            db.drop_collection(collection)
            await start_and_close(url)
            assert indexes_of(db) == INDEXES
            assert validators_of(db) == validators


async def test_an_empty_meta_is_what_a_start_may_have_left(
    io_loop: IOLoop, url: str, db: Db
) -> None:
    db.create_collection("meta")
    await start_and_close(url)
    assert indexes_of(db) == INDEXES
    assert all(validators_of(db).values())


@pytest.mark.parametrize(
    "theirs",
    [
        {"messages": {"_id": 1, "body": "hi"}},
        {"users": {"name": "me"}, "groups": {"name": "us"}, "prices": {"eur": 1}},
        {"meta": {"_id": "version", "number": 5}},
        {"meta": {"schema": 1}, "members": {"name": "me"}},
    ],
)
async def test_the_database_of_another_program_is_refused_and_left_alone(
    io_loop: IOLoop, url: str, db: Db, theirs: Mapping[str, dict[str, Any]]
) -> None:
    for name, document in theirs.items():
        db[name].insert_one(dict(document))
    before = everything_in(db)
    with pytest.raises(StorageRefused) as refused:
        await MongoStorage(url).start()
    assert str(refused.value) == (
        f"the database {db.name} holds {', '.join(sorted(theirs.keys() & INDEXES.keys()))} of "
        "another program: name a database of chatd's own, as in mongodb://HOST/DATABASE."
    )
    assert everything_in(db) == before


async def test_a_newer_version_is_refused_and_left_alone(
    storage: Storage, url: str, db: Db
) -> None:
    await storage.close()
    db.meta.update_one({}, {"$set": {"version": 99}})
    db.messages.drop_index("messages_by_seq")
    before = everything_in(db)
    with pytest.raises(StorageRefused) as refused:
        await MongoStorage(url).start()
    assert str(refused.value) == (
        f"the database {db.name} has schema version 99, made by a newer chatd; "
        "this one knows versions up to 1: run the newer one."
    )
    assert everything_in(db) == before


@pytest.mark.parametrize(
    ("name", "keys", "options"),
    [
        ("messages_by_seq", [("seq", ASCENDING)], {}),
        ("messages_by_seq", [("conversation", ASCENDING), ("seq", ASCENDING)], {}),
        ("mine", [("conversation", ASCENDING), ("seq", ASCENDING)], {"unique": True}),
    ],
)
async def test_another_index_in_the_place_of_chatds_is_refused_by_name(
    storage: Storage,
    url: str,
    db: Db,
    name: str,
    keys: Sequence[tuple[str, int]],
    options: Mapping[str, Any],
) -> None:
    db.messages.drop_index("messages_by_seq")
    db.messages.create_index(keys, name=name, **options)
    with pytest.raises(StorageRefused) as refused:
        await MongoStorage(url).start()
    assert f"database {db.name} has another index on messages" in str(refused.value)
    assert name in str(refused.value)
    db.messages.drop_index(name)
    await start_and_close(url)
    assert indexes_of(db) == INDEXES


@pytest.mark.mongod
async def test_mongodb_forgets_a_revoked_token_after_its_end_and_no_other(
    io_loop: IOLoop, tmp_path: Path
) -> None:
    server = Mongod(tmp_path, "--setParameter=ttlMonitorSleepSecs=1")
    server.start()
    try:
        async with opened(f"mongodb://{server.host}/chat") as storage:
            await storage.revoke_token("over", 1)
            await storage.revoke_token("good", now_ms() + 3_600_000)
            assert [one.id for one in await storage.revoked_tokens(0)] == ["good", "over"]
            server.command("setParameter", ttlMonitorEnabled=True)
            while [one.id for one in await storage.revoked_tokens(0)] != ["good"]:
                await asyncio.sleep(0.05)
    finally:
        server.close()


# -- the URL ---------------------------------------------------------------------------------------


async def test_the_promise_names_the_server_the_database_and_the_set(
    storage: Storage, mongo_server: ReplicaSet, db: Db
) -> None:
    for named in (mongo_server.hosts, db.name, "replica set rs of one"):
        assert named in storage.promise


async def test_the_promise_tells_no_user_and_no_password(
    io_loop: IOLoop, mongo_server: ReplicaSet, db: Db
) -> None:
    password = "pass/w@rd?#%[]:"
    db.command("createUser", "mallory", pwd=password, roles=["dbOwner"])
    try:
        address = f"{mongo_server.hosts}/{db.name}"
        url = f"mongodb://mallory:{quote(password, safe='')}@{address}"
        async with opened(url) as storage:
            promises = MongoStorage(url).promise, storage.promise
        for promise in promises:
            assert mongo_server.hosts in promise
            assert db.name in promise
            assert "mallory" not in promise
            assert "pass" not in promise
    finally:
        db.command("dropUser", "mallory")


async def test_a_wrong_password_is_refused_and_not_told(
    io_loop: IOLoop, mongo_server: ReplicaSet, db: Db
) -> None:
    url = f"mongodb://mallory:hush@{mongo_server.hosts}/{db.name}"
    with pytest.raises(StorageRefused) as refused:
        await MongoStorage(url).start()
    assert mongo_server.hosts in str(refused.value)
    assert "mallory" not in str(refused.value)
    assert "hush" not in str(refused.value)


async def test_a_server_that_is_not_there_is_unavailable_and_the_password_not_told(
    io_loop: IOLoop,
) -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable) as refused:
        await MongoStorage(f"mongodb://mallory:hush@{host}/chat?timeoutMS=200").start()
    assert host in str(refused.value)
    assert "mallory" not in str(refused.value)
    assert "hush" not in str(refused.value)


@contextmanager
def told_to(server: Mongod, db: Db) -> Iterator[list[dict[str, Any]]]:
    """The commands on the database that came inside, in the end, as the server's log has them.

    The profiler has no write concern of updates.
    """
    commands: list[dict[str, Any]] = []
    logged_before = server.log.stat().st_size
    server.command("profile", 0, slowms=-1)
    try:
        yield commands
        marker = uuid.uuid4().hex
        db["marker"].find_one({"_id": marker})
    finally:
        server.command("profile", 0, slowms=100)
    while marker not in (text := server.log.read_bytes()[logged_before:].decode()):
        time.sleep(0.02)
    for line in text.splitlines():
        if '"Slow query"' in line and marker not in line:
            attributes = json.loads(line)["attr"]
            if attributes["command"].get("$db") == db.name:
                commands.append(attributes)


def _named(commands: Iterable[dict[str, Any]], names: set[str]) -> list[dict[str, Any]]:
    return [one for one in commands if names & one["command"].keys()]


@pytest.mark.parametrize(
    "options",
    [
        "w=1&journal=false",
        "w=0",
        "readConcernLevel=local&readPreference=secondary",
        "w=1&journal=false&wTimeoutMS=1&readConcernLevel=available&readPreference=nearest",
    ],
)
async def test_whatever_the_url_says_writes_and_reads_are_a_majoritys(
    io_loop: IOLoop, url: str, mongo_server: ReplicaSet, db: Db, options: str
) -> None:
    (server,) = mongo_server.members
    with told_to(server, db) as starting:
        await start_and_close(f"{url}&{options}")
    async with opened(f"{url}&{options}") as storage:
        with told_to(server, db) as running:
            await _one_of_each_document(storage)
            for call in CALLS.values():
                await call(storage)
    writes = _named(starting + running, {"insert", "update", "delete", "create", "createIndexes"})
    assert len(writes) > 20
    for write in writes:
        concern = write["writeConcern"]
        assert (concern["w"], concern.get("j")) == ("majority", True), write
        assert concern["provenance"] == "clientSupplied"
    reads = _named(running, {"find", "aggregate"})
    assert len(reads) > 20
    for one in reads:
        assert one["readConcern"] == {"level": "majority", "provenance": "clientSupplied"}, one
        assert one["command"].get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}
    assert {next(iter(one["command"])) for one in writes + reads} >= {
        *("insert", "update", "delete", "find", "aggregate"),
    }


# -- texts -----------------------------------------------------------------------------------------

TEXTS: Final = (
    '{"$gt":""}',
    '{"$ne":null}@example.org',
    "$where",
    "$$ROOT",
    "$conversation",
    "a.b.c",
    "_id",
    "_id.user",
    "nul\0nul",
    "\0",
    ".*",
    "^",
    "[",
    "__proto__",
)


@pytest.mark.parametrize("text", TEXTS)
async def test_a_text_that_looks_like_a_query_finds_only_itself(
    storage: Storage, text: str
) -> None:
    await storage.create_user(user(ANN))
    await storage.create_group(group("club"))
    await storage.append([draft(client_id="1"), draft(CLUB)])
    await storage.revoke_token("token", 2**40)
    conversation = Conversation(text)
    assert await storage.user_by_email(text) is None
    assert await storage.user_by_id(text) is None
    assert await storage.users_by_email([text]) == []
    assert await storage.list_users(prefix=text, limit=5) == []
    assert await storage.group(text) is None
    assert await storage.list_groups(prefix=text, limit=5) == []
    assert await storage.group_names_of(text) == []
    assert await storage.member("club", text) is None
    assert await storage.members(text, limit=5) == []
    assert not await storage.leave("club", text)
    assert await storage.message(text) is None
    assert await storage.history(conversation, limit=5) == []
    assert await storage.last_seq(conversation) == 0
    assert await storage.positions(text) == []
    assert await storage.summaries(text, limit=5) == []
    assert await storage.advance([read(text, 1), read(text, 1, CLUB)]) == []


@pytest.mark.parametrize("text", TEXTS)
async def test_a_text_that_looks_like_a_query_is_stored_as_it_is(
    storage: Storage, text: str
) -> None:
    someone = msgspec.structs.replace(user(text), id=text, password_hash=text)
    assert await storage.create_user(someone)
    await storage.touch_last_seen({text: 5})
    await storage.set_password(text, text, 2)
    someone = msgspec.structs.replace(someone, last_seen_at=5, generation=2)
    assert await storage.user_by_id(text) == await storage.user_by_email(text) == someone
    assert await storage.create_group(group(text, created_by=text))
    assert await storage.join(text, ANN, 1)
    found = await storage.list_groups(prefix=text, member=text, limit=5)
    assert [(one.name, one.created_by, one.members) for one in found] == [(text, text, 2)]
    assert await storage.group(text) == found[0]
    assert await storage.member(text, text) in await storage.members(text, limit=5)

    pair = pair_conversation(text, ANN)
    one = draft(pair, text, text, client_id=text)
    message = stored((await storage.append([msgspec.structs.replace(one, id=text)]))[0])
    assert message == Message(text, pair, 1, text, text, sent_at=1, client_id=text)
    assert await storage.append([one]) == [Duplicate(message)]
    assert await storage.history(pair, limit=5) == [message]
    assert await storage.positions(ANN) == [
        Position(Conversation("g:" + text), 0, 0, 0),
        Position(pair, 1, 0, 0),
    ]
    (moved,) = await storage.advance([delivered(ANN, 1, pair)])
    assert moved.senders == {text}
    assert await storage.message(text) == msgspec.structs.replace(message, delivered_at=50)
    await storage.revoke_token(text, 9)
    assert [one.id for one in await storage.revoked_tokens(8)] == [text]


# -- closing ---------------------------------------------------------------------------------------


async def test_closing_waits_for_what_is_under_way_and_takes_nothing_new(
    storage: Storage, driver: Driver, db: Db
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(call: Call) -> Any:
        begun.set()
        await go_on.wait()
        return await call()

    with driver.interrupted("messages.insert_many", wait):
        appending = asyncio.ensure_future(storage.append([draft()]))
        await begun.wait()
        closing = asyncio.ensure_future(storage.close())
        await asyncio.sleep(0)
        for call in CALLS.values():
            with pytest.raises(Unavailable):
                await call(storage)
        assert not closing.done()
        go_on.set()
        assert stored((await appending)[0]).seq == 1
        await closing
    for call in CALLS.values():
        with pytest.raises(Unavailable):
            await call(storage)
    assert db.messages.count_documents({}) == 1
