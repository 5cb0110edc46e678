"""Finding users, and seeing who is on line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests import documented
from tests.chat import PATIENCE, Chat, Json, User
from tests.handlers.test_auth import TIME
from tests.paging import page_through

chat = documented.chat


async def crowd(chat: Chat, *names: str) -> list[User]:
    return [await chat.user(f"{name}@example.org") for name in names]


async def listed(user: User, query: str = "") -> list[str]:
    """The names that a list of users shows, in its order."""
    answer = await user.call("GET", f"/v1/users{query}")
    assert (answer.status, answer.body["next"]) == (200, None)
    return [one["email"].partition("@")[0] for one in answer.body["items"]]


async def test_users_are_listed_by_address(io_loop: Any, chat: Chat) -> None:
    bob, ann = await crowd(chat, "bob", "ann")
    answer = await bob.call("GET", "/v1/users")
    assert answer.status == 200
    assert set(answer.body) == {"items", "next"}
    assert [one["email"] for one in answer.body["items"]] == [ann.email, bob.email]
    first = answer.body["items"][0]
    assert set(first) == {"id", "email", "created_at", "online", "last_seen_at"}
    assert (first["online"], first["last_seen_at"]) == (False, None)
    assert TIME.fullmatch(first["created_at"])


async def test_a_prefix_selects_the_addresses_that_start_with_it(io_loop: Any, chat: Chat) -> None:
    ann, *_ = await crowd(chat, "ann", "anton", "joan")
    assert await listed(ann, "?prefix=an") == ["ann", "anton"]
    assert await listed(ann, "?prefix=AN") == ["ann", "anton"]
    assert await listed(ann, "?prefix=ann%40example.org") == ["ann"]
    # Not patterns of any store's.
    for wildcard in ("%25", "_nn", "*", ".*", "a%25"):
        assert await listed(ann, f"?prefix={wildcard}") == []


async def test_online_selects_those_who_are_connected_or_those_who_are_not(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob, _ = await crowd(chat, "ann", "bob", "cid")
    async with ann.socket(), bob.socket():
        assert await listed(ann, "?online=true") == ["ann", "bob"]
        assert await listed(ann, "?online=true&prefix=b") == ["bob"]
        assert await listed(ann, "?online=false") == ["cid"]
        assert await listed(ann) == ["ann", "bob", "cid"]
        items = (await ann.call("GET", "/v1/users")).body["items"]
        assert [one["online"] for one in items] == [True, True, False]


@pytest.mark.parametrize("selection", ["", "prefix=u", "online=true", "online=false"])
async def test_paging_shows_everyone_once(io_loop: Any, chat: Chat, selection: str) -> None:
    users = await crowd(chat, "u1", "u2", "u3", "u4", "u5")
    emails = [user.email for user in users]
    url = f"/v1/users?{selection}"
    if selection == "online=true":
        async with users[0].socket(), users[2].socket(), users[4].socket():
            items = await page_through(users[0], url, 1)
        emails = emails[::2]
    else:
        items = await page_through(users[0], url, 2)
    assert [one["email"] for one in items] == emails


async def test_those_who_are_off_line_fill_the_pages_although_others_lie_between(
    io_loop: Any, chat: Chat
) -> None:
    a, b, c, d, e = await crowd(chat, "a", "b", "c", "d", "e")
    async with a.socket(), b.socket(), d.socket():
        for limit in (1, 2, 3):
            items = await page_through(a, "/v1/users?online=false", limit)
            assert [one["email"] for one in items] == [c.email, e.email]


async def test_a_user_is_found_in_any_spelling(io_loop: Any, chat: Chat) -> None:
    ann, _ = await crowd(chat, "ann", "bob+chat")
    for spelling in (
        "bob+chat@example.org",
        "BOB%2Bchat@example.org",
        "%20bob%2Bchat%40EXAMPLE.org",
    ):
        answer = await ann.call("GET", f"/v1/users/{spelling}")
        assert answer.status == 200
        assert set(answer.body) == {"id", "email", "created_at", "online", "last_seen_at"}
        assert answer.body["email"] == "bob+chat@example.org"


async def test_an_unknown_user_is_not_found(io_loop: Any, chat: Chat) -> None:
    (ann,) = await crowd(chat, "ann")
    for name in ("bob@example.org", "no-address"):
        answer = await ann.call("GET", f"/v1/users/{name}")
        assert (answer.status, answer.body["code"]) == (404, "unknown_user")


async def test_who_goes_off_line_was_last_seen_then(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")

    async def seen() -> Json:
        return dict((await ann.call("GET", f"/v1/users/{bob.email}")).body)

    async with bob.socket():
        assert (await seen())["online"] is True
    async with asyncio.timeout(PATIENCE):
        while (last_seen_at := (await seen())["last_seen_at"]) is None:
            await asyncio.sleep(0.01)
    bob_now = await seen()
    assert bob_now["online"] is False
    assert TIME.fullmatch(last_seen_at)
    assert last_seen_at >= bob_now["created_at"]
