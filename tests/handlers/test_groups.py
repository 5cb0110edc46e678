"""Making, finding, joining and leaving groups."""

from __future__ import annotations

from typing import Any

import pytest

from tests import documented
from tests.chat import Answer, Chat, Json, User
from tests.handlers.test_auth import TIME
from tests.paging import page_through

chat = documented.chat

GROUP = {"name", "title", "created_at", "members", "messages", "joined"}


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body["code"]) == (status, code)


async def names(user: User, url: str) -> list[str]:
    """The names that a list of groups shows, in its order."""
    answer = await user.call("GET", url)
    assert (answer.status, answer.body["next"]) == (200, None)
    return [group["name"] for group in answer.body["items"]]


async def busy_groups(ann: User, bob: User) -> None:
    """Groups with these members and messages: b 2/0, a 1/2, d 1/0, c 2/2."""
    for name in ("b0", "a0", "d0", "c0"):
        await ann.create(name)
    for name in ("b0", "c0"):
        await bob.join(name)
    for name in ("a0", "c0", "a0", "c0"):
        await ann.say("hello", group=name)


# -- making and finding ------------------------------------------------------------------------


async def test_who_makes_a_group_is_its_first_member(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    made = await ann.call("POST", "/v1/groups", {"name": "python", "title": "Все о Python 🐍"})
    assert made.status == 201
    assert set(made.body) == GROUP
    assert TIME.fullmatch(made.body.pop("created_at"))
    assert made.body == {
        "name": "python",
        "title": "Все о Python 🐍",
        "members": 1,
        "messages": 0,
        "joined": True,
    }
    found = await ann.call("GET", "/v1/groups/python")
    assert (found.status, found.body["joined"]) == (200, True)


async def test_a_group_needs_no_title(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    made = await ann.call("POST", "/v1/groups", {"name": "python"})
    assert (made.status, made.body["title"]) == (201, None)


async def test_a_name_can_be_taken_once(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    for name in ("python", " PYTHON "):
        assert_refused(await bob.call("POST", "/v1/groups", {"name": name}), 409, "group_exists")
    members = (await ann.call("GET", "/v1/groups/python/members")).body["items"]
    assert [member["email"] for member in members] == [ann.email]


async def test_names_are_folded_into_one_form(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    for typed, name in (("a1", "a1"), ("0-_.", "0-_."), (" Python ", "python"), ("ＡＢ", "ab")):
        made = await ann.call("POST", "/v1/groups", {"name": typed})
        assert (made.status, made.body["name"]) == (201, name)
        assert (await ann.call("GET", f"/v1/groups/{name.upper()}")).body["name"] == name


async def test_a_name_has_2_to_64_characters_of_few_kinds(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    for name in ("ab", "x" * 64):
        assert (await ann.call("POST", "/v1/groups", {"name": name})).status == 201
    for name in ("", "a", "x" * 65, "-ab", ".ab", "_ab", "a b", "a/b", "a\0b", "grün", "a\n", "да"):
        answer = await ann.call("POST", "/v1/groups", {"name": name})
        assert_refused(answer, 422, "invalid")
        assert [one["field"] for one in answer.body["errors"]] == ["name"]


async def test_a_title_is_one_line_to_read_of_up_to_128_characters(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    for name, title in (("g1", "שלום" * 32), ("g2", "👩‍👩‍👧‍👦 Familie"), ("g3", "x")):
        made = await ann.call("POST", "/v1/groups", {"name": name, "title": title})
        assert (made.status, made.body["title"]) == (201, title)
    for title in ("", "   ", "x" * 129, "a\0b", "two\nlines", "\u202eevil", "\u2066", "\x7f"):
        answer = await ann.call("POST", "/v1/groups", {"name": "python", "title": title})
        assert_refused(answer, 422, "invalid")
        assert [one["field"] for one in answer.body["errors"]] == ["title"]


async def test_groups_are_listed_in_the_order_asked_for(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await busy_groups(ann, bob)
    assert await names(bob, "/v1/groups") == ["a0", "b0", "c0", "d0"]
    assert await names(bob, "/v1/groups?sort=name") == ["a0", "b0", "c0", "d0"]
    assert await names(bob, "/v1/groups?sort=members") == ["b0", "c0", "a0", "d0"]
    assert await names(bob, "/v1/groups?sort=messages") == ["a0", "c0", "b0", "d0"]
    items = (await bob.call("GET", "/v1/groups")).body["items"]
    assert all(set(item) == GROUP for item in items)
    counts = [(item["members"], item["messages"], item["joined"]) for item in items]
    assert counts == [(1, 2, False), (2, 0, True), (2, 2, True), (1, 0, False)]


async def test_the_callers_groups_are_those_joined(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await busy_groups(ann, bob)
    assert await names(bob, "/v1/me/groups") == ["b0", "c0"]
    assert await names(bob, "/v1/me/groups?sort=messages") == ["c0", "b0"]
    assert await names(bob, "/v1/me/groups?prefix=c") == ["c0"]
    items = (await bob.call("GET", "/v1/me/groups")).body["items"]
    assert all(set(item) == GROUP and item["joined"] for item in items)
    await bob.call("POST", "/v1/groups/b0/leave")
    assert await names(bob, "/v1/me/groups") == ["c0"]
    # On line, where the server keeps a user's groups at hand, it is the same.
    async with bob.socket():
        assert await names(bob, "/v1/me/groups") == ["c0"]
        await bob.join("d0")
        assert await names(bob, "/v1/me/groups") == ["c0", "d0"]


async def test_a_prefix_selects_the_names_that_start_with_it(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    for name in ("python", "py.test", "perl"):
        await ann.create(name)
    assert await names(ann, "/v1/groups?prefix=py") == ["py.test", "python"]
    assert await names(ann, "/v1/groups?prefix=PY") == ["py.test", "python"]
    # Not patterns of any store's.
    for wildcard in ("p_", "%25", "p*", "py.t.st", "^p"):
        assert await names(ann, f"/v1/groups?prefix={wildcard}") == []


@pytest.mark.parametrize("sort", ["name", "members", "messages"])
@pytest.mark.parametrize("url", ["/v1/groups", "/v1/me/groups"])
async def test_paging_shows_every_group_once(io_loop: Any, chat: Chat, url: str, sort: str) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    for number in range(11):
        await ann.create(f"g{number:02}")
    for number in (3, 4, 5, 9):
        await bob.join(f"g{number:02}")
        await ann.say("hello", group=f"g{number:02}")
    busy = ["g03", "g04", "g05", "g09"] if sort != "name" else []
    expected = sorted((f"g{n:02}" for n in range(11)), key=lambda name: (name not in busy, name))
    for limit in (1, 3, 4, 11):
        found = await page_through(ann, f"{url}?sort={sort}", limit)
        assert [group["name"] for group in found] == expected


async def test_groups_made_meanwhile_neither_hide_nor_repeat_others(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    for name in ("b1", "d1", "f1", "h1"):
        await ann.create(name)
    first = (await ann.call("GET", "/v1/groups?limit=2")).body
    for name in ("a1", "e1"):
        await ann.create(name)
    rest = (await ann.call("GET", f"/v1/groups?after={first['next']}")).body
    shown = [group["name"] for page in (first, rest) for group in page["items"]]
    assert shown == ["b1", "d1", "e1", "f1", "h1"]


async def test_an_unknown_group_is_not_found(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    for method, url in (
        ("GET", "/v1/groups/nothing"),
        ("POST", "/v1/groups/nothing/join"),
        ("POST", "/v1/groups/nothing/leave"),
        ("GET", "/v1/groups/nothing/members"),
        ("GET", "/v1/groups/no%20name"),
    ):
        assert_refused(await ann.call(method, url), 404, "unknown_group")


# -- membership --------------------------------------------------------------------------------


async def test_joining_twice_is_no_error_and_no_second_member(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    assert (await bob.call("GET", "/v1/groups/python")).body["joined"] is False
    for _ in range(2):
        joined = await bob.call("POST", "/v1/groups/PYTHON/join")
        assert joined.status == 200
        assert set(joined.body) == GROUP
        assert (joined.body["members"], joined.body["joined"]) == (2, True)


async def test_leaving_ends_the_membership_once(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    assert_refused(await bob.call("POST", "/v1/groups/python/leave"), 409, "not_a_member")
    await bob.join("python")
    left = await bob.call("POST", "/v1/groups/python/leave")
    assert (left.status, left.body) == (204, None)
    assert_refused(await bob.call("POST", "/v1/groups/python/leave"), 409, "not_a_member")
    group = (await bob.call("GET", "/v1/groups/python")).body
    assert (group["members"], group["joined"]) == (1, False)


async def test_a_group_outlives_its_last_member(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    await ann.create("python")
    await ann.say("hello", group="python")
    await ann.call("POST", "/v1/groups/python/leave")
    group = (await ann.call("GET", "/v1/groups/python")).body
    assert (group["members"], group["messages"], group["joined"]) == (0, 1, False)
    assert_refused(await ann.call("POST", "/v1/groups", {"name": "python"}), 409, "group_exists")
    await ann.join("python")


async def test_members_are_told_to_members(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    for text in ("one", "two"):
        await ann.say(text, group="python")
    assert_refused(await bob.call("GET", "/v1/groups/python/members"), 403, "not_a_member")
    await bob.join("python")
    async with bob.socket():
        answer = await bob.call("GET", "/v1/groups/python/members")
    assert answer.status == 200
    assert answer.body["next"] is None
    members: list[Json] = answer.body["items"]
    assert all(TIME.fullmatch(member.pop("joined_at")) for member in members)
    assert members == [
        {"email": ann.email, "online": False, "delivered_seq": 0, "read_seq": 0},
        {"email": bob.email, "online": True, "delivered_seq": 2, "read_seq": 2},
    ]
    await bob.call("POST", "/v1/groups/python/leave")
    assert_refused(await bob.call("GET", "/v1/groups/python/members"), 403, "not_a_member")


async def test_paging_shows_every_member_once(io_loop: Any, chat: Chat) -> None:
    users = [await chat.user(f"u{number}@example.org") for number in range(5)]
    await users[0].create("python")
    for user in users[1:]:
        await user.join("python")
    for limit in (1, 2, 5):
        found = await page_through(users[0], "/v1/groups/python/members", limit)
        assert [member["email"] for member in found] == [user.email for user in users]
