"""Sockets that start are given what they lack, and never what lies behind them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chatd.news import StoredNews
from tests.chat import Socket, User, eventually, texts
from tests.cluster.conftest import Late, Post, Team


async def _write(socket: Socket, count: int, to: str) -> None:
    for number in range(count):
        await socket.say(f"old {number}", to=to)


async def _texts_up_to_new(socket: Socket) -> list[str]:
    await socket.next("message", where=lambda f: f["text"] == "something new")
    return texts(socket.of("message"))


async def _leave_a_head(b: Socket, here: User, there: User) -> None:
    """Have one server tell the first message of a conversation, and another one the rest."""
    async with here.socket() as a:
        await b.say("the first", to=here.email)
        await a.next("message")
    async with there.socket() as a:
        await _write(b, 5, here.email)
        await a.next("message", where=lambda f: f["seq"] == 6)
        await b.next("receipt", where=lambda f: f["seq"] == 6)


async def test_two_sockets_that_start_at_once_where_much_was_missed_begin_at_its_end(
    io_loop: Any, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with ``Replayer.replay`` that begins no conversation it has nothing of."""
    one, two, three = team.chats
    ann, there = await one.user("ann@example.org"), await two.user("ann@example.org")
    bob = await three.user("bob@example.org")
    async with bob.socket() as b, AsyncExitStack() as stack:
        await _leave_a_head(b, ann, there)
        positions = Late.put(monkeypatch, team.apps[0].storage, "positions")

        async def let_both_go() -> None:
            await eventually(lambda: len(team.apps[0].registry.of_user(ann.email)) == 2)
            positions.go.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(let_both_go())
            first = tasks.create_task(stack.enter_async_context(ann.socket()))
            second = tasks.create_task(stack.enter_async_context(ann.socket()))
        await b.say("something new", to=ann.email)
        for socket in (first.result(), second.result()):
            assert await _texts_up_to_new(socket) == ["something new"]


async def test_who_asks_for_no_replay_is_given_nothing_older(io_loop: Any, team: Team) -> None:
    """Seen to fail with ``Replayer.skip`` that only goes live."""
    one, _, three = team.chats
    ann, bob = await one.user("ann@example.org"), await three.user("bob@example.org")
    async with bob.socket() as b:
        await _write(b, 5, ann.email)
        async with ann.socket(replay="none") as a:
            await b.say("something new", to=ann.email)
            assert await _texts_up_to_new(a) == ["something new"]


async def test_nor_are_they_where_something_of_it_was_told_long_ago(
    io_loop: Any, team: Team
) -> None:
    """Seen to fail with ``Replayer.skip`` that only goes live."""
    one, two, three = team.chats
    ann, there = await one.user("ann@example.org"), await two.user("ann@example.org")
    bob = await three.user("bob@example.org")
    async with bob.socket() as b:
        await _leave_a_head(b, ann, there)
        async with ann.socket(replay="none") as a:
            await b.say("something new", to=ann.email)
            assert await _texts_up_to_new(a) == ["something new"]


async def test_late_news_of_what_was_told_goes_to_no_socket_that_started_since(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with ``Replayer.replay`` that begins no conversation it has nothing of."""
    one, two, _ = team.chats
    ann, bob = await one.user("ann@example.org"), await two.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b:
        post.hold(team.cluster(0), StoredNews)
        await a.say("old 1", to=bob.email)
        await a.say("old 2", to=bob.email)
        team.cluster(1).heard_late()
        await b.next("message", where=lambda f: f["seq"] == 2)
        await a.next("receipt", where=lambda f: f["seq"] == 2)
        async with bob.socket() as c:
            post.release()
            await a.say("something new", to=bob.email)
            assert await _texts_up_to_new(c) == ["something new"]
            assert c.of("gap") == []
