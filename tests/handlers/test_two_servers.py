"""Two servers on one database: one order, and no hole that goes unannounced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chat import Chat, start_app


class Two(NamedTuple):
    """The same chat, by way of either server."""

    one: Chat
    other: Chat


@pytest.fixture
async def two(io_loop: Any, tmp_path: Path, mongo_url: str) -> AsyncIterator[Two]:
    apps = [await start_app(tmp_path / name, mongo_url) for name in ("one", "other")]
    chats = [Chat(await app.start()) for app in apps]
    yield Two(*chats)
    for chat, app in zip(chats, apps, strict=True):
        chat.close()
        await app.stop()


async def test_what_the_other_server_stored_is_a_gap_and_is_not_confirmed(
    io_loop: Any, two: Two
) -> None:
    ann, bob = await two.one.user("ann@example.org"), await two.other.user("bob@example.org")
    carl = await two.one.user("carl@example.org")
    await ann.create("club")
    await bob.join("club")
    await carl.join("club")
    async with carl.socket() as c:
        await bob.say("by way of the other server", group="club")
        await ann.say("by way of this one", group="club")
        gap = await c.next("gap")
        assert (gap["group"], gap["from_seq"], gap["to_seq"]) == ("club", 1, 1)
        assert (await c.next("message"))["seq"] == 2
        await ann.say("and another", group="club")
        assert (await c.next("message", "gap"))["seq"] == 3
        await asyncio.sleep(0.5)
    async with carl.socket() as c:
        assert [frame["seq"] for frame in c.of("message")] == [1, 2, 3]


async def test_an_account_made_on_one_server_signs_in_on_the_other(io_loop: Any, two: Two) -> None:
    await two.one.user("ann@example.org")
    wrong = {"email": "ann@example.org", "password": "not the same one"}
    assert (await two.other.call("POST", "/v1/auth/sign-in", wrong)).status == 401
    ann = await two.other.user("ann@example.org")
    assert (await ann.call("GET", "/v1/auth/me")).status == 200


async def test_a_message_sent_again_by_way_of_the_other_server_is_the_same_one(
    io_loop: Any, two: Two
) -> None:
    await two.one.user("bob@example.org")
    body = {"text": "hello", "client_id": "note-1"}
    answers = []
    for chat in two:
        ann = await chat.user("ann@example.org")
        answers.append(await ann.call("POST", "/v1/users/bob@example.org/messages", body))
    first, again = answers
    assert (first.status, again.status) == (201, 200)
    assert first.body["id"] == again.body["id"]
    assert again.body["duplicate"] is True
