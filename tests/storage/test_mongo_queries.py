"""Every query of MongoDB's adapter names its index, reads little, and sorts by an index.

The server's profiler tells what it was asked for and how it went about it.
"""

from __future__ import annotations

import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import pytest
from pymongo import MongoClient
from pymongo.database import Database
from tornado.ioloop import IOLoop

from chatd.models import (
    ClientIdConflict,
    Conversation,
    Draft,
    GroupCursor,
    GroupSort,
    Record,
    Stored,
    SummaryCursor,
    group_conversation,
    pair_conversation,
)
from chatd.storage.base import Storage
from chatd.storage.mongo.address import address_of
from chatd.storage.mongo.connection import Deployment
from tests.storage import test_contract_everything, test_contract_taking_away
from tests.storage import test_contract_messages as contract
from tests.storage.openings import opened
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    ANN_HERSELF,
    BOB,
    CAT,
    CLUB,
    delivered,
    draft,
    drafts,
    group,
    read,
    user,
)
from tests.storage.test_contract import CALLS

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]
Entry = Mapping[str, Any]
"""What the profiler has of one operation."""

ASKING: Final = {"query": "find", "command": "aggregate", "update": "update", "remove": "delete"}
"""Kinds of entries that look for documents, and the commands which they come from."""


@pytest.fixture
def sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter takes the server for a sharded cluster, which has other indexes."""
    as_sharded = Deployment(set_name=None, members=0, sharded=True)
    monkeypatch.setattr(Deployment, "of", lambda _hello, _address: as_sharded)


@pytest.fixture(params=["replica set", "sharded"])
def deployment(request: pytest.FixtureRequest) -> None:
    """Each form of the indexes."""
    if request.param == "sharded":
        request.getfixturevalue("sharded")


@pytest.fixture
async def storage(io_loop: IOLoop, mongo_url: str) -> AsyncIterator[Storage]:
    async with opened(mongo_url) as storage:
        yield storage


@pytest.fixture
def db(mongo_client: Client, mongo_url: str) -> Db:
    return mongo_client[address_of(mongo_url).database]


@contextmanager
def profiled(db: Db) -> Iterator[list[Entry]]:
    """What was asked of the database inside, in the end."""
    entries: list[Entry] = []
    if "system.profile" not in db.list_collection_names():
        db.create_collection("system.profile", capped=True, size=64 * 2**20)
    before = db["system.profile"].count_documents({})
    db.command("profile", 2)
    try:
        yield entries
    finally:
        db.command("profile", 0)
    entries += [
        entry
        for entry in db["system.profile"].find().skip(before)
        if entry.get("appName") == "chatd"
    ]


def _told(entry: Entry) -> str:
    """For people: which operation failed an assertion."""
    return f"{entry['op']} {entry['ns']} {entry['command']} {entry.get('planSummary')}"


def _asking(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that look for documents; no other kinds are known than those left out here."""
    assert {entry["op"] for entry in entries} <= {*ASKING, "insert", "getmore"}
    return [
        entry
        for entry in entries
        if entry["op"] in ASKING and "listIndexes" not in entry["command"]
    ]


def _hint(entry: Entry) -> str:
    hint = entry["command"].get("hint", "")
    name = hint.get("$hint", "") if isinstance(hint, dict) else hint
    assert isinstance(name, str)
    return name


def _is_of_one_members_groups(entry: Entry) -> bool:
    """They are few, and found by name: then sorted by a count, and no index could do both."""
    command = entry["command"]
    return command.get("find") == "groups" and "$in" in json.dumps(command["filter"])


def _command(entry: Entry) -> dict[str, Any]:
    """The command of the entry, as it can be explained."""
    collection = entry["ns"].partition(".")[2]
    command, kind = entry["command"], ASKING[entry["op"]]
    if kind == "update":
        statement = {key: command[key] for key in ("q", "u", "multi", "upsert")}
        return {"update": collection, "updates": [{**statement, "hint": _hint(entry)}]}
    if kind == "delete":
        statement = {key: command[key] for key in ("q", "limit")}
        return {"delete": collection, "deletes": [{**statement, "hint": _hint(entry)}]}
    keys = {"find": ("filter", "sort", "limit", "projection"), "aggregate": ("pipeline", "cursor")}
    return {
        kind: collection,
        "hint": _hint(entry),
        **{key: command[key] for key in keys[kind] if key in command},
    }


def _shape(value: object) -> object:
    """What two queries have in common that differ in their values only."""
    if isinstance(value, Mapping):
        return {key: _shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shape(one) for one in value[:2]]
    return value if isinstance(value, str) and value.startswith("$") else type(value).__name__


def _stages(plan: object) -> Iterator[str]:
    """All stages of all winning plans in an answer to ``explain``."""
    if isinstance(plan, Mapping):
        if isinstance(stage := plan.get("stage"), str):
            yield stage
        for key, value in plan.items():
            if key != "rejectedPlans":
                yield from _stages(value)
    elif isinstance(plan, Sequence) and not isinstance(plan, str):
        for value in plan:
            yield from _stages(value)


# -- every query -----------------------------------------------------------------------------------


async def _users(storage: Storage) -> None:
    someone = user(ANN)
    for one in (someone, user(BOB), user(CAT), user(ANN)):
        await storage.create_user(one)
    await storage.user_by_id(someone.id)
    await storage.users_by_email([ANN, CAT, "stranger@example.org"])
    for prefix in ("", "b"):
        for after in ("", BOB):
            await storage.list_users(prefix=prefix, after=after, limit=2)
    await storage.touch_last_seen({ANN: 5, BOB: 6, "stranger@example.org": 7})
    for token, expires_at in (("one", 2**40), ("one", 2**41), ("two", 2**40)):
        await storage.revoke_token(token, expires_at)


async def _groups(storage: Storage) -> None:
    for name in ("club", "club-2", "other"):
        await storage.create_group(group(name))
        for email in (BOB, CAT, BOB):
            await storage.join(name, email, 1)
    await storage.leave("other", CAT)
    await storage.append([*drafts(3, group_conversation("other")), draft(CLUB)])
    for sort in GroupSort:
        for prefix in ("", "cl"):
            for member in (None, CAT, "stranger@example.org"):
                for after in (None, GroupCursor("club", 1)):
                    await storage.list_groups(
                        sort=sort, prefix=prefix, member=member, after=after, limit=2
                    )
    await storage.members("club", after=BOB, limit=1)


async def _messages(storage: Storage) -> None:
    batch = [draft(client_id=str(number)) for number in range(150)]
    batch += [draft(CLUB, BOB), draft(ANN_HERSELF), draft(pair_conversation(BOB, CAT), BOB)]
    await storage.append(batch)
    await storage.append([*batch, draft(text="other", client_id="1")])
    await storage.append([msgspec.structs.replace(one, id=f"again {one.id}") for one in batch[:3]])
    for after_seq in (None, 0, 20):
        for before_seq in (None, 140):
            for limit in (1, 200):
                await storage.history(
                    ANN_AND_BOB, after_seq=after_seq, before_seq=before_seq, limit=limit
                )
    await storage.message(batch[0].id)


async def _marks(storage: Storage) -> None:
    await storage.advance([delivered(BOB, 3), read(BOB, 2), read(ANN, 1, CLUB), read(CAT, 99)])
    await storage.advance([read(BOB, 5), delivered(CAT, 2, CLUB), read(BOB, 1, CLUB), read(ANN, 5)])
    for email in (ANN, BOB, CAT):
        await storage.positions(email)
        for after in (None, SummaryCursor(1, CLUB)):
            for limit in (1, 10):
                await storage.summaries(email, after=after, limit=limit)


async def _taking_away(storage: Storage) -> None:
    pair, herself = pair_conversation(ANN, CAT), pair_conversation(CAT, CAT)
    for conversation in (pair, herself):
        await storage.append(
            [draft(conversation, CAT, client_id=str(at), sent_at=at) for at in range(9)]
        )
        await storage.prune(conversation, 3, 2)
        await storage.prune(conversation, 5, 100)
    await storage.reassign(pair, CAT, "nobody@example.org", blank=True)
    await storage.reassign(CLUB, BOB, "nobody@example.org", blank=False)
    await storage.prune(herself, 100, 100)
    await storage.delete_conversation(herself)
    await storage.delete_group("other")
    await storage.delete_user(CAT)


async def _everything(storage: Storage) -> None:
    for prefix in ("", "g", "g:cl", "u:"):
        for after in ("", CLUB, ANN_AND_BOB):
            await storage.conversations(prefix=prefix, after=after, limit=5)
    for conversation in (CLUB, ANN_AND_BOB):
        for after in ("", ANN):
            found: list[Record] = [*await storage.places(conversation, after=after, limit=5)]
            await storage.load(found)
        await storage.load(await storage.written_by(ANN, conversation, after_seq=1, limit=5))
    await storage.load(await storage.list_users(limit=5))
    await storage.load(await storage.list_groups(limit=5))
    await storage.load(await storage.revoked_tokens(1))


async def _every_call(storage: Storage) -> None:
    for part in (_users, _groups, _messages, _marks, _taking_away, _everything):
        await part(storage)
    for call in CALLS.values():
        await call(storage)


async def test_every_query_names_an_index_and_none_reads_a_whole_collection(
    deployment: None, storage: Storage, db: Db
) -> None:
    with profiled(db) as entries:
        await _every_call(storage)
    asking = _asking(entries)
    assert {(entry["op"], entry["ns"].partition(".")[2]) for entry in asking} == {
        *(("query", name) for name in ("meta", "users", "groups", "members", "marks", "messages")),
        ("query", "revoked_tokens"),
        *(("command", name) for name in ("members", "messages")),
        *(("update", name) for name in ("meta", "users", "groups", "members", "marks", "messages")),
        ("update", "revoked_tokens"),
        *(("remove", name) for name in ("users", "groups", "members", "marks", "messages")),
    }
    for entry in asking:
        assert _hint(entry), _told(entry)
        assert entry["planSummary"] != "EOF", _told(entry)
        assert "COLLSCAN" not in entry["planSummary"], _told(entry)
        if not _is_of_one_members_groups(entry):
            assert not entry.get("hasSortStage"), _told(entry)
        if entry["op"] in {"update", "remove"} and entry["ns"].endswith(".messages"):
            # A sharded cluster has to know on which shard that is.
            assert "conversation" in entry["command"]["q"], _told(entry)
    assert any(entry.get("hasSortStage") for entry in asking)

    by_shape = {json.dumps(_shape(_command(entry))): entry for entry in asking}
    assert len(by_shape) > 50
    for entry in by_shape.values():
        explained = db.command("explain", _command(entry), verbosity="executionStats")
        stages = set(_stages(explained))
        assert stages & {"IXSCAN", "DISTINCT_SCAN", "COUNT_SCAN", "IDHACK"}, _told(entry)
        assert "COLLSCAN" not in stages, _told(entry)


# -- few documents ---------------------------------------------------------------------------------


def _examined(entries: Iterable[Entry]) -> int:
    """How many keys and documents the operations have looked at."""
    asking = _asking(entries)
    return sum(entry["keysExamined"] + entry["docsExamined"] for entry in asking)


BOB_AND_CAT: Final = pair_conversation(BOB, CAT)

LOOKS: Final[Mapping[str, tuple[int, Callable[[Storage], Awaitable[object]]]]] = {
    "last_seq": (3, lambda store: store.last_seq(ANN_AND_BOB)),
    "positions": (15, lambda store: store.positions(BOB)),
    "summaries of a reader": (30, lambda store: store.summaries(BOB, limit=5)),
    "summaries of the writer": (30, lambda store: store.summaries(ANN, limit=5)),
    "the end": (15, lambda store: store.history(ANN_AND_BOB, limit=5)),
    "further back": (15, lambda store: store.history(ANN_AND_BOB, before_seq=999, limit=5)),
    "further on": (15, lambda store: store.history(ANN_AND_BOB, after_seq=999, limit=5)),
    "between": (
        10,
        lambda store: store.history(ANN_AND_BOB, after_seq=3, before_seq=1900, limit=5),
    ),
    "append": (15, lambda store: store.append([draft(), draft(CLUB)])),
    "advance": (50, lambda store: store.advance([read(BOB, 1998), read(BOB, 1998, CLUB)])),
    "advance in vain": (15, lambda store: store.advance([delivered(BOB, 3), read(BOB, 5, CLUB)])),
    "join": (15, lambda store: store.join("club", CAT, 1)),
    "prune": (60, lambda store: store.prune(ANN_AND_BOB, 2, 10)),
    "prune in vain": (5, lambda store: store.prune(CLUB, 1, 1000)),
    "reassign nothing": (5, lambda store: store.reassign(BOB_AND_CAT, BOB, ANN, blank=True)),
    "reassign few": (60, lambda store: store.reassign(ANN_HERSELF, ANN, CAT, blank=True)),
    "reassign in a group in vain": (5, lambda store: store.reassign(CLUB, CAT, ANN, blank=True)),
    "delete nothing": (5, lambda store: store.delete_conversation(BOB_AND_CAT)),
    "conversations": (20, lambda store: store.conversations(limit=5)),
    "conversations behind": (10, lambda store: store.conversations(after=CLUB, limit=5)),
    "places": (15, lambda store: store.places(ANN_AND_BOB, limit=5)),
    "written by": (15, lambda store: store.written_by(BOB, CLUB, after_seq=1500, limit=5)),
}
"""How many keys and documents a call may look at, where 2,000 messages are in a conversation."""


async def test_in_a_long_conversation_little_is_looked_at(
    storage: Storage, mongo_url: str, db: Db
) -> None:
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 1)
    for writer in (ANN, BOB):
        await storage.append([*drafts(1000, sender=writer), *drafts(1000, CLUB, writer)])
    await storage.append(drafts(3, ANN_HERSELF))
    await storage.advance([read(BOB, 1995), read(BOB, 1995, CLUB), read(ANN, 2000)])
    await storage.advance([read(ANN, 2000, CLUB)])
    for name, (most, call) in LOOKS.items():
        # A new server, which knows yet of no conversation where it ends; the second time it does.
        async with opened(mongo_url) as another:
            for _ in range(2):
                with profiled(db) as entries:
                    await call(another)
                assert entries, name
                assert _examined(entries) <= most, (name, _examined(entries))


async def test_where_many_conversations_end_is_one_look_each(storage: Storage, db: Db) -> None:
    names = [f"group-{number}" for number in range(20)]
    for name in names:
        await storage.create_group(group(name))
    await storage.append([one for name in names for one in drafts(50, group_conversation(name))])
    await storage.list_groups(limit=1)  # counts what is behind
    with profiled(db) as entries:
        assert [one.last_seq for one in await storage.positions(ANN)] == [50] * 20
    (looks,) = [entry for entry in entries if entry["ns"] == f"{db.name}.messages"]
    assert looks["keysExamined"] <= 2 * 20 + 1
    assert looks["docsExamined"] == 0


async def test_going_through_all_conversations_is_one_look_each(storage: Storage, db: Db) -> None:
    pairs = [pair_conversation(ANN, f"{number}@example.org") for number in range(20)]
    await storage.append([one for pair in pairs for one in drafts(50, pair)])
    with profiled(db) as entries:
        assert await storage.conversations(limit=100) == sorted(pairs)
    looks = [entry for entry in entries if entry["ns"] == f"{db.name}.messages"]
    assert sum(entry["keysExamined"] for entry in looks) <= 20
    assert not any(entry["docsExamined"] for entry in looks)


# -- a sharded cluster -----------------------------------------------------------------------------


async def test_on_a_sharded_cluster_the_unique_index_begins_with_the_shard_key(
    sharded: None, storage: Storage, db: Db
) -> None:
    indexes = db.messages.index_information()
    where = {"client_id": {"$exists": True}}
    unique = indexes["messages_by_conversation_and_client_id"]
    assert unique["key"] == [("conversation", 1), ("sender", 1), ("client_id", 1)]
    assert unique["unique"]
    assert unique["partialFilterExpression"] == where
    by_client_id = indexes["messages_by_client_id"]
    assert by_client_id["key"] == [("sender", 1), ("client_id", 1)]
    assert by_client_id["partialFilterExpression"] == where
    assert [
        index
        for index, options in indexes.items()
        if options.get("unique") and options["key"][0] != ("conversation", 1)
    ] == []
    assert "on a majority of its shard's members" in storage.promise


async def test_on_a_sharded_cluster_messages_change_their_conversation_one_by_one(
    sharded: None, storage: Storage, db: Db
) -> None:
    """MongoDB moves a document to another shard alone, and found by ``_id`` and shard key.

    Seen to fail with ``if True`` in the place of ``if not one_by_one``.
    """
    await storage.append(drafts(3))
    with profiled(db) as entries:
        await storage.reassign(ANN_AND_BOB, ANN, CAT, blank=False)
    moves = [
        entry["command"]
        for entry in _asking(entries)
        if entry["op"] == "update" and "conversation" in entry["command"]["u"].get("$set", {})
    ]
    assert len(moves) == 3
    for move in moves:
        assert move["q"].keys() == {"_id", "conversation"}
        assert not move["multi"]


@pytest.mark.parametrize(
    "promise",
    [
        contract.test_a_draft_is_stored_as_it_is_with_the_next_seq,
        contract.test_outcomes_come_in_the_order_of_the_drafts,
        contract.test_an_empty_batch_stores_nothing,
        contract.test_seqs_count_on_over_batches_for_each_conversation_alone,
        contract.test_a_client_id_is_stored_once_for_its_sender,
        contract.test_a_client_id_is_stored_once_within_a_batch,
        contract.test_two_senders_may_have_the_same_client_id,
        contract.test_a_duplicate_tells_the_receipts_of_the_first,
        contract.test_a_draft_may_be_stored_again_without_harm,
        contract.test_an_id_is_never_given_to_a_second_message,
        contract.test_many_appends_at_once_leave_one_order_without_hole_or_double,
        contract.test_of_one_client_id_at_once_one_is_stored,
        contract.test_appends_are_stored_in_the_order_of_the_calls,
        contract.test_a_groups_messages_are_counted,
        test_contract_taking_away.test_the_last_message_keeps_its_place_without_its_text,
        test_contract_taking_away.test_what_is_blanked_keeps_its_place,
        test_contract_taking_away.test_a_pair_becomes_that_of_the_author,
        test_contract_taking_away.test_a_renamed_pair_goes_on,
        test_contract_taking_away.test_somebody_who_wrote_to_themselves,
        test_contract_taking_away.test_a_deleted_pair_never_was,
        test_contract_everything.test_a_new_store_is_sound,
        test_contract_everything.test_a_newer_record_takes_the_place_of_the_old_one,
    ],
    ids=lambda promise: promise.__name__.removeprefix("test_"),
)
async def test_on_a_sharded_cluster_the_contract_holds(
    sharded: None, storage: Storage, promise: Callable[[Storage], Awaitable[None]]
) -> None:
    await promise(storage)


@pytest.mark.parametrize(
    "other",
    [
        draft(text="other", client_id="1"),
        draft(CLUB, client_id="1"),
        draft(pair_conversation(ANN, CAT), client_id="1"),
    ],
)
async def test_on_a_sharded_cluster_a_client_id_has_one_text_and_target(
    sharded: None, storage: Storage, other: Draft
) -> None:
    await contract.test_a_client_id_with_another_text_or_target_is_a_conflict(storage, other)


@pytest.mark.parametrize("conversation", [ANN_AND_BOB, CLUB])
async def test_on_a_sharded_cluster_a_client_id_has_one_target_within_a_batch(
    sharded: None, storage: Storage, conversation: Conversation
) -> None:
    outcomes = await storage.append(
        [draft(client_id="1"), draft(conversation, text="other", client_id="1"), draft(CLUB)]
    )
    assert outcomes[1] == ClientIdConflict()
    assert isinstance(outcomes[0], Stored)
    assert isinstance(outcomes[2], Stored)
    assert await storage.last_seq(CLUB) == 1
