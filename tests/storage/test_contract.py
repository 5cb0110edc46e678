"""What every adapter promises: its life, users and revoked tokens.

The rest of the contract is in test_contract_groups, test_contract_messages and
test_contract_marks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import pytest
from tornado.ioloop import IOLoop

from chatd.errors import Unavailable
from chatd.models import RevokedToken, User
from chatd.storage.base import Storage
from tests.storage.conftest import Adapter
from tests.storage.samples import (
    ANN,
    ANN_AND_BOB,
    BOB,
    CAT,
    CLUB,
    delivered,
    draft,
    drafts,
    group,
    read,
    stored,
    user,
    walk,
)

# -- life ------------------------------------------------------------------------------------------


async def test_the_promise_is_one_sentence(storage: Storage) -> None:
    assert storage.promise.endswith(".")
    assert "\n" not in storage.promise


async def test_the_epoch_stays_while_the_store_lives(storage: Storage) -> None:
    assert await storage.epoch()
    assert await storage.epoch() == await storage.epoch()


async def test_another_store_has_another_epoch(
    io_loop: IOLoop, adapter: Adapter, storage: Storage
) -> None:
    other = adapter.open("other")
    await other.start()
    assert await other.epoch() != await storage.epoch()
    await other.close()


async def test_an_open_store_answers_a_ping_again_and_again(storage: Storage) -> None:
    await storage.ping()
    await storage.ping()


CALLS: Final[Mapping[str, Callable[[Storage], Awaitable[object]]]] = {
    "epoch": lambda store: store.epoch(),
    "ping": lambda store: store.ping(),
    "create_user": lambda store: store.create_user(user(ANN)),
    "user_by_email": lambda store: store.user_by_email(ANN),
    "user_by_id": lambda store: store.user_by_id("1"),
    "users_by_email": lambda store: store.users_by_email([ANN]),
    "list_users": lambda store: store.list_users(limit=1),
    "set_password": lambda store: store.set_password(ANN, "hash", 1),
    "touch_last_seen": lambda store: store.touch_last_seen({ANN: 1}),
    "create_group": lambda store: store.create_group(group("club")),
    "group": lambda store: store.group("club"),
    "list_groups": lambda store: store.list_groups(limit=1),
    "group_names_of": lambda store: store.group_names_of(ANN),
    "join": lambda store: store.join("club", ANN, 1),
    "leave": lambda store: store.leave("club", ANN),
    "member": lambda store: store.member("club", ANN),
    "members": lambda store: store.members("club", limit=1),
    "append": lambda store: store.append([draft()]),
    "history": lambda store: store.history(CLUB, limit=1),
    "message": lambda store: store.message("1"),
    "last_seq": lambda store: store.last_seq(CLUB),
    "positions": lambda store: store.positions(ANN),
    "summaries": lambda store: store.summaries(ANN, limit=1),
    "advance": lambda store: store.advance([read(ANN, 1)]),
    "revoke_token": lambda store: store.revoke_token("1", 1),
    "revoked_tokens": lambda store: store.revoked_tokens(1),
    "prune": lambda store: store.prune(CLUB, 1, 1),
    "reassign": lambda store: store.reassign(CLUB, ANN, BOB, blank=False),
    "delete_conversation": lambda store: store.delete_conversation(ANN_AND_BOB),
    "delete_group": lambda store: store.delete_group("club"),
    "delete_user": lambda store: store.delete_user(ANN),
    "conversations": lambda store: store.conversations(limit=1),
    "places": lambda store: store.places(CLUB, limit=1),
    "written_by": lambda store: store.written_by(ANN, CLUB, limit=1),
    "load": lambda store: store.load([user(ANN)]),
    "check": lambda store: store.check(),
}


def test_the_calls_are_all_that_a_closed_store_refuses() -> None:
    assert set(CALLS) == Storage.__abstractmethods__ - {"promise", "start", "close", "forget"}


@pytest.mark.parametrize("method", CALLS)
async def test_a_store_that_was_not_started_is_unavailable(
    io_loop: IOLoop, adapter: Adapter, method: str
) -> None:
    with pytest.raises(Unavailable):
        await CALLS[method](adapter.open("chat"))


@pytest.mark.parametrize("method", CALLS)
async def test_a_closed_store_is_unavailable(storage: Storage, method: str) -> None:
    await storage.close()
    with pytest.raises(Unavailable):
        await CALLS[method](storage)


async def test_closing_twice_or_before_the_start_does_nothing(
    io_loop: IOLoop, adapter: Adapter
) -> None:
    storage = adapter.open("chat")
    await storage.close()
    await storage.start()
    await storage.close()
    await storage.close()


async def test_closing_finishes_what_is_under_way(io_loop: IOLoop, durable: Adapter) -> None:
    storage = durable.open("chat")
    await storage.start()
    appends = [asyncio.ensure_future(storage.append([one])) for one in drafts(50)]
    await asyncio.sleep(0)
    await storage.close()
    await asyncio.gather(*appends)

    storage = durable.open("chat")
    await storage.start()
    assert await storage.last_seq(ANN_AND_BOB) == 50
    await storage.close()


async def test_a_durable_store_is_the_same_after_closing_and_opening(
    io_loop: IOLoop, durable: Adapter
) -> None:
    async def everything(storage: Storage) -> list[object]:
        return [
            await storage.epoch(),
            await storage.list_users(limit=10),
            await storage.list_groups(limit=10),
            await storage.members("club", limit=10),
            await storage.history(CLUB, limit=10),
            await storage.history(ANN_AND_BOB, limit=10),
            await storage.positions(ANN),
            await storage.summaries(BOB, limit=10),
            await storage.revoked_tokens(1),
        ]

    storage = durable.open("chat")
    await storage.start()
    for email in (ANN, BOB):
        await storage.create_user(user(email))
    await storage.touch_last_seen({ANN: 7})
    await storage.create_group(group("club"))
    await storage.join("club", BOB, 2)
    await storage.append([draft(), draft(CLUB), draft(CLUB, BOB, client_id="1"), draft()])
    await storage.advance([delivered(BOB, 1), read(ANN, 1, CLUB)])
    await storage.revoke_token("token", 5)
    before = await everything(storage)
    await storage.close()

    storage = durable.open("chat")
    await storage.start()
    assert await everything(storage) == before
    (outcome,) = await storage.append([draft(CLUB)])
    assert stored(outcome).seq == 3
    assert await storage.last_seq(CLUB) == 3
    await storage.close()


# -- users -----------------------------------------------------------------------------------------


async def test_a_user_is_found_by_address_and_by_id(storage: Storage) -> None:
    ann = User("id-1", ANN, "hash", created_at=5, generation=3, last_seen_at=9)
    assert await storage.create_user(ann)
    assert await storage.user_by_email(ANN) == ann
    assert await storage.user_by_id("id-1") == ann


async def test_nobody_is_found_where_there_is_nobody(storage: Storage) -> None:
    assert await storage.user_by_email(ANN) is None
    assert await storage.user_by_id("id-1") is None


async def test_a_taken_address_changes_nothing(storage: Storage) -> None:
    first = user(ANN)
    assert await storage.create_user(first)
    second = user(ANN, created_at=99)
    assert not await storage.create_user(second)
    assert await storage.user_by_email(ANN) == first
    assert await storage.user_by_id(second.id) is None


async def test_of_many_who_take_one_address_at_once_one_gets_it(storage: Storage) -> None:
    claims = [user(ANN) for _ in range(20)]
    made = await asyncio.gather(*(storage.create_user(claim) for claim in claims))
    assert sum(made) == 1
    assert await storage.user_by_email(ANN) == claims[made.index(True)]


async def test_users_are_listed_by_address_in_code_point_order(storage: Storage) -> None:
    emails = ["zoë@x.org", "a@x.org", "A@x.org", "zoe@x.org", "é@x.org", "_@x.org", "𝔞@x.org"]
    emails += ["\uffff@x.org"]
    for email in emails:
        await storage.create_user(user(email))
    assert [found.email for found in await storage.list_users(limit=20)] == sorted(emails)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a", ["a%b", "a*b", "a[b]", "a_b", "axb"]),
        ("a%", ["a%b"]),
        ("a_", ["a_b"]),
        ("a*", ["a*b"]),
        ("a[", ["a[b]"]),
        ("%", []),
        ("A", ["Axb"]),
        ("é", ["éa", "é𝔞"]),
        ("axb", ["axb"]),
        ("axbc", []),
    ],
)
async def test_a_prefix_of_users_is_taken_literally(
    storage: Storage, prefix: str, expected: list[str]
) -> None:
    for email in ("a%b", "a_b", "a*b", "a[b]", "axb", "Axb", "b", "éa", "é𝔞", "e"):
        await storage.create_user(user(email))
    found = await storage.list_users(prefix=prefix, limit=20)
    assert [one.email for one in found] == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("prefix", ["", "user-", "user-1"])
async def test_pages_of_users_lose_and_repeat_nobody(
    storage: Storage, size: int, prefix: str
) -> None:
    emails = [f"user-{number}@example.org" for number in (1, 2, 3, 10, 11, 12)] + [ANN]
    for email in emails:
        await storage.create_user(user(email))

    async def page(last: User | None) -> list[User]:
        after = last.email if last else ""
        return await storage.list_users(prefix=prefix, after=after, limit=size)

    found = [one.email for one in await walk(page, size)]
    assert found == sorted(email for email in emails if email.startswith(prefix))


async def test_a_page_behind_an_address_in_front_of_the_prefix_starts_with_the_prefix(
    storage: Storage,
) -> None:
    for email in (ANN, BOB, CAT):
        await storage.create_user(user(email))
    found = await storage.list_users(prefix="b", after="a", limit=5)
    assert [one.email for one in found] == [BOB]
    assert await storage.list_users(prefix="b", after="c", limit=5) == []


async def test_users_of_addresses_come_once_each_in_order_without_strangers(
    storage: Storage,
) -> None:
    for email in (CAT, ANN, BOB):
        await storage.create_user(user(email))
    found = await storage.users_by_email([CAT, "stranger@example.org", ANN, CAT])
    assert [one.email for one in found] == [ANN, CAT]
    assert await storage.users_by_email([]) == []


async def test_a_password_is_replaced_with_its_generation(storage: Storage) -> None:
    ann = user(ANN)
    await storage.create_user(ann)
    for _ in range(2):
        await storage.set_password(ANN, "new hash", 4)
        found = await storage.user_by_id(ann.id)
        assert found == User(ann.id, ANN, "new hash", ann.created_at, generation=4)


async def test_a_password_of_a_stranger_is_ignored(storage: Storage) -> None:
    await storage.set_password(ANN, "hash", 1)
    assert await storage.list_users(limit=5) == []


async def test_last_seen_moves_forward_only(storage: Storage) -> None:
    async def last_seen(email: str) -> int | None:
        found = await storage.user_by_email(email)
        assert found is not None
        return found.last_seen_at

    await storage.create_user(user(ANN))
    await storage.create_user(user(BOB))
    await storage.touch_last_seen({ANN: 5, "stranger@example.org": 9})
    assert (await last_seen(ANN), await last_seen(BOB)) == (5, None)
    await storage.touch_last_seen({ANN: 3, BOB: 2})
    assert (await last_seen(ANN), await last_seen(BOB)) == (5, 2)
    await storage.touch_last_seen({ANN: 8})
    assert await last_seen(ANN) == 8
    await storage.touch_last_seen({})
    assert len(await storage.list_users(limit=5)) == 2


# -- revoked tokens --------------------------------------------------------------------------------


async def test_a_revoked_token_is_remembered_until_it_expires(storage: Storage) -> None:
    await storage.revoke_token("one", 10)
    await storage.revoke_token("two", 20)
    assert await storage.revoked_tokens(9) == [RevokedToken("one", 10), RevokedToken("two", 20)]
    assert await storage.revoked_tokens(10) == [RevokedToken("two", 20)]
    assert await storage.revoked_tokens(20) == []


async def test_forgetting_the_expired_keeps_the_others(storage: Storage) -> None:
    await storage.revoke_token("one", 10)
    await storage.revoke_token("two", 20)
    assert await storage.revoked_tokens(15) == [RevokedToken("two", 20)]
    await storage.revoke_token("three", 30)
    assert [one.id for one in await storage.revoked_tokens(15)] == ["three", "two"]


async def test_a_token_revoked_twice_is_remembered_until_the_later_expiry(
    storage: Storage,
) -> None:
    for expires_at in (10, 30, 20):
        await storage.revoke_token("one", expires_at)
    assert await storage.revoked_tokens(25) == [RevokedToken("one", 30)]
    assert await storage.revoked_tokens(30) == []
