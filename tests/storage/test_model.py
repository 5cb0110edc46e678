"""Any sequence of calls gives what a naive model of the contract gives, on every adapter."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from chatd.models import (
    Conversation,
    Draft,
    Group,
    GroupCursor,
    GroupSort,
    Mark,
    Member,
    ReceiptKind,
    Summary,
    SummaryCursor,
    User,
    group_conversation,
    pair_conversation,
)
from chatd.storage.base import Storage
from tests.counts import Scale
from tests.storage.conftest import Adapter
from tests.storage.model import Model
from tests.storage.samples import ANN, BOB, CAT, walk


class Call(NamedTuple):
    """A method that `Storage` and `Model` have in common, and what it is called with."""

    method: str
    arguments: tuple[object, ...]


USERS: Final = (ANN, BOB, CAT)
NAMES: Final = ("club", "club-2")
CONVERSATIONS: Final = (
    *map(group_conversation, NAMES),
    pair_conversation(ANN, BOB),
    pair_conversation(BOB, CAT),
    pair_conversation(ANN, ANN),
)

users = st.sampled_from(USERS)
names = st.sampled_from(NAMES)
times = st.integers(1, 5)
new_users = st.builds(lambda email, at: User(f"id of {email}", email, "hash", at), users, times)
groups = st.builds(Group, names, st.sampled_from((None, "A title")), users, times)


def _writers(conversation: Conversation) -> Sequence[str]:
    return [user for user in USERS if conversation.startswith("g:") or user in conversation]


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Few ids, client ids and texts, so that many drafts repeat or contradict another."""
    conversation = draw(st.sampled_from(CONVERSATIONS))
    sender = draw(st.sampled_from(_writers(conversation)))
    text = draw(st.sampled_from(("one", "two")))
    client_id = draw(st.sampled_from((None, None, "a", "b")))
    number = draw(st.integers(1, 30))
    # One id stands for one draft: what else has the id differs in when it was sent at most.
    draft_id = f"{number} {conversation} {sender} {text} {client_id}"
    return Draft(draft_id, conversation, sender, text, draw(times), client_id)


@st.composite
def marks(draw: st.DrawFn) -> Mark:
    return Mark(
        conversation=draw(st.sampled_from(CONVERSATIONS)),
        user=draw(users),
        kind=draw(st.sampled_from(ReceiptKind)),
        seq=draw(st.integers(0, 12)),
        at=draw(times),
        since=draw(st.sampled_from((1, 1, 1, 2, 5))),
    )


calls = st.one_of(
    st.builds(Call, st.just("append"), st.tuples(st.lists(drafts(), max_size=8))),
    st.builds(Call, st.just("append"), st.tuples(st.lists(drafts(), max_size=8))),
    st.builds(Call, st.just("advance"), st.tuples(st.lists(marks(), max_size=8))),
    st.builds(Call, st.just("create_group"), st.tuples(groups)),
    st.builds(Call, st.just("join"), st.tuples(names, users, times)),
    st.builds(Call, st.just("leave"), st.tuples(names, users)),
    st.builds(Call, st.just("create_user"), st.tuples(new_users)),
    st.builds(Call, st.just("set_password"), st.tuples(users, st.just("new"), times)),
    st.builds(Call, st.just("touch_last_seen"), st.tuples(st.dictionaries(users, times))),
)


async def _assert_same_results(storage: Storage, model: Model, made: Sequence[Call]) -> None:
    for method, arguments in made:
        expected = getattr(model, method)(*arguments)
        assert await getattr(storage, method)(*arguments) == expected, method


async def _assert_same_contents(storage: Storage, model: Model) -> None:
    """The store shows, in pages of two, what the model shows."""
    assert await storage.list_users(limit=10) == model.users()
    for name in NAMES:
        assert await walk(partial(_members, storage, name), 2) == model.members(name)
    for sort in GroupSort:
        assert await walk(partial(_groups, storage, sort), 2) == model.groups(sort)
    for conversation in CONVERSATIONS:
        assert await storage.history(conversation, limit=1000) == model.history(conversation)
        assert await storage.last_seq(conversation) == len(model.history(conversation))
    for user in USERS:
        assert await storage.positions(user) == model.positions(user)
        assert await walk(partial(_summaries, storage, user), 2) == model.summaries(user)


async def _members(storage: Storage, group: str, last: Member | None) -> list[Member]:
    return await storage.members(group, after=last.email if last else "", limit=2)


async def _groups(storage: Storage, sort: GroupSort, last: Group | None) -> list[Group]:
    after = None
    if last:
        counts = {GroupSort.MEMBERS: last.members, GroupSort.MESSAGES: last.messages}
        after = GroupCursor(last.name, counts.get(sort, 0))
    return await storage.list_groups(sort=sort, after=after, limit=2)


async def _summaries(storage: Storage, user: str, last: Summary | None) -> list[Summary]:
    after = SummaryCursor(last.active_at, last.conversation) if last else None
    return await storage.summaries(user, after=after, limit=2)


@pytest.fixture
def examples(request: pytest.FixtureRequest, scale: Scale) -> int:
    """How many to try: fewer in MongoDB, where a new store takes a third of a second."""
    if request.node.get_closest_marker("mongod"):
        return scale(30, 300)
    return scale(100, 1_000)


def test_any_calls_give_what_the_model_gives(
    io_loop: IOLoop, adapter: Adapter, examples: int
) -> None:
    numbers = itertools.count()

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(calls, max_size=25))
    def run(made: list[Call]) -> None:
        async def check() -> None:
            storage, model = adapter.open(f"store-{next(numbers)}"), Model()
            await storage.start()
            try:
                await _assert_same_results(storage, model, made)
                await _assert_same_contents(storage, model)
            finally:
                await storage.close()

        io_loop.run_sync(check)

    run()


def test_what_any_calls_stored_is_there_after_opening_again(
    io_loop: IOLoop, durable: Adapter, examples: int
) -> None:
    numbers = itertools.count()

    @settings(max_examples=examples // 3, deadline=None)
    @given(st.lists(st.lists(calls, max_size=10), min_size=2, max_size=3))
    def run(lives: list[list[Call]]) -> None:
        async def check() -> None:
            name, model = f"store-{next(numbers)}", Model()
            for made in lives:
                storage = durable.open(name)
                await storage.start()
                try:
                    await _assert_same_contents(storage, model)
                    await _assert_same_results(storage, model, made)
                finally:
                    await storage.close()

        io_loop.run_sync(check)

    run()
