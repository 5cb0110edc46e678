"""Who joins and who leaves while others write, on whichever server, misses nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatd.errors import Unavailable
from chatd.news import GroupGoneNews, MembershipNews
from tests.chat import Socket, texts
from tests.cluster.conftest import Late, Post, Team


async def test_what_is_written_while_somebody_joins_here_comes_to_them(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others here are told of it when the store has the membership, and the server not yet.

    Seen to fail with ``Cluster.admit`` doing nothing.
    """
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    bob = await two.user("bob@example.org")
    await ann.create("club")
    await bob.join("club")
    async with ann.socket() as a, bob.socket() as b, cat.socket() as c:
        await b.say("said before", group="club")
        await a.next("message")
        join = Late.put(monkeypatch, team.apps[0].storage, "join")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cat.join("club"))
            await join.made.wait()
            await b.say("said meanwhile", group="club")
            await a.next("message")
            join.go.set()
        await b.say("said after", group="club")
        await c.next("message", where=lambda f: f["text"] == "said after")
        assert texts(c.of("message")) == ["said meanwhile", "said after"]
        assert c.of("gap") == []


async def _talk(socket: Socket, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        await socket.ask(str(number), group="club", text=str(number))


async def test_who_joins_again_and_again_while_others_write_misses_nothing(
    io_loop: Any, team: Team
) -> None:
    """Seen to fail with ``Cluster.admit`` doing nothing."""
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    bob = await two.user("bob@example.org")
    await ann.create("club")
    await bob.join("club")
    stop = asyncio.Event()
    async with ann.socket(), bob.socket() as b, asyncio.TaskGroup() as tasks:
        tasks.create_task(_talk(b, stop))
        for _ in range(12):
            # What comes does not move the mark, which says where she joined.
            async with cat.socket(receipts="explicit") as c:
                await cat.join("club")
                member = await team.apps[0].storage.member("club", cat.email)
                assert member is not None
                # What was stored just before may be told just after.
                first = (await c.next("message"))["seq"]
                assert first <= member.delivered_seq + 1
                for seq in (first + 1, first + 2):
                    assert (await c.next("message"))["seq"] == seq
            await cat.call("POST", "/v1/groups/club/leave")
        stop.set()


async def test_a_member_of_whom_the_store_could_not_be_asked_is_let_in_later(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with ``Receiver._start`` that only tells of what failed."""
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    there = await two.user("cat@example.org")
    await ann.create("club")
    storage = team.apps[1].storage
    member = storage.member
    asked = asyncio.Event()

    async def out_once(*args: Any) -> Any:
        if asked.is_set():
            return await member(*args)
        asked.set()
        raise Unavailable("put in by hand")

    async with ann.socket() as a, there.socket() as c:
        monkeypatch.setattr(storage, "member", out_once)
        await cat.join("club")
        await asked.wait()
        await a.say("hello", group="club")
        assert (await c.next("message"))["text"] == "hello"
        assert c.of("gap") == []


async def test_who_leaves_while_they_are_let_in_elsewhere_is_not_in(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with ``Healer._admit`` that does not look again."""
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    dan, there = await two.user("dan@example.org"), await two.user("cat@example.org")
    await ann.create("club")
    await dan.join("club")
    async with ann.socket() as a, dan.socket() as d, there.socket() as c:
        await a.say("said before", group="club")
        await d.next("message")
        storage = team.apps[1].storage
        member = Late.put(monkeypatch, storage, "member")
        history = Late.put(monkeypatch, storage, "history")
        await cat.join("club")
        await member.made.wait()
        await a.say("said between", group="club")
        await d.next("message")
        member.go.set()
        await history.made.wait()
        member.made.clear()
        await cat.call("POST", "/v1/groups/club/leave")
        await member.made.wait()
        history.go.set()
        await c.next("left", where=lambda f: f["user"] == cat.email)
        await a.say("said secret", group="club")
        await d.next("message", where=lambda f: f["text"] == "said secret")
        await c.settle()
        assert "said secret" not in texts(c.of("message"))


async def test_a_group_made_anew_outlives_late_news_of_its_end(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with members left out whose group is told to be gone."""
    one, two, three = team.chats
    ann, bob = await one.user("ann@example.org"), await two.user("bob@example.org")
    there = await three.user("bob@example.org")
    await ann.create("club")
    async with bob.socket() as b, there.socket() as c:
        post.hold(team.cluster(0), GroupGoneNews)
        await team.apps[0].services.router.delete_group("club")
        await bob.create("club")
        await c.next("joined")
        post.release()
        await team.heard(0)
        await b.say("hello", group="club")
        assert (await c.next("message"))["text"] == "hello"
        assert (await c.say("hi", group="club"))["type"] == "sent"


async def test_who_has_joined_on_one_server_may_write_on_another_at_once(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with ``ChatRouter.require_member`` that believes what is known here."""
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    there = await two.user("cat@example.org")
    await ann.create("club")
    async with there.socket() as c:
        post.hold(team.cluster(0), MembershipNews)
        await cat.join("club")
        assert (await c.say("hello", group="club"))["type"] == "sent"


async def test_who_joins_elsewhere_while_their_groups_are_read_here_is_in(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with ``Healer.settle`` that admits only whose groups are known."""
    one, two, _ = team.chats
    ann, cat = await one.user("ann@example.org"), await one.user("cat@example.org")
    there = await two.user("cat@example.org")
    await ann.create("club")
    names = Late.put(monkeypatch, team.apps[1].storage, "group_names_of")
    member = Late.put(monkeypatch, team.apps[1].storage, "member")
    member.go.set()

    async def join_meanwhile() -> None:
        await names.made.wait()
        await cat.join("club")
        await member.made.wait()
        names.go.set()

    async with ann.socket() as a, asyncio.TaskGroup() as tasks:
        tasks.create_task(join_meanwhile())
        async with there.socket() as c:
            await a.say("hello", group="club")
            assert (await c.next("message"))["text"] == "hello"
