"""An address whose user was erased, and that somebody signs up with anew."""

from __future__ import annotations

from typing import Any

import pytest

from chatd.news import UserClosedNews
from tests.chat import PASSWORD, Socket, User
from tests.cluster.conftest import Post, Team


async def _erase(user: User) -> None:
    answer = await user.call("DELETE", "/v1/me", {"password": PASSWORD})
    assert answer.status == 200, answer


async def _exchange(a: Socket, b: Socket, bob: str) -> None:
    """Three messages to Bob, with receipts."""
    for seq in (1, 2, 3):
        await a.say("of old", to=bob)
        await b.next("message")
        assert (await a.next("receipt"))["seq"] == seq


async def _talk(a: Socket, b: Socket, ann: str, bob: str) -> None:
    """From the first message on, both ways, with receipts."""
    for seq, (sender, recipient, to) in enumerate(((b, a, ann), (a, b, bob)), 1):
        sent = await sender.say(f"new {seq}", to=to)
        assert (sent["type"], sent.get("seq")) == ("sent", seq)
        message = await recipient.next("message")
        assert (message["text"], message["seq"]) == (f"new {seq}", seq)
        receipt = await sender.next("receipt")
        assert (receipt["kind"], receipt["seq"]) == ("delivered", seq)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_who_signs_up_with_the_address_of_somebody_erased_begins_anew(
    io_loop: Any, team: Team, number: int
) -> None:
    """Seen to fail with ``Directory.meet``, ``Connection.forget_pairs`` or ``ToldReceipts.forget``
    doing nothing."""
    ann = await team.chats[0].user("ann@example.org")
    bob = await team.chats[1].user("bob@example.org")
    async with ann.socket() as a:
        async with bob.socket() as b:
            await _exchange(a, b, bob.email)
        await _erase(bob)
        bob = await team.chats[number].user(bob.email)
        async with bob.socket() as b:
            await _talk(a, b, ann.email, bob.email)


async def test_what_is_lost_of_what_they_write_is_found(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with ``Heads.forget_pairs`` doing nothing."""
    ann = await team.chats[0].user("ann@example.org")
    bob = await team.chats[1].user("bob@example.org")
    async with ann.socket() as a:
        async with bob.socket() as b:
            await _exchange(a, b, bob.email)
        await _erase(bob)
        bob = await team.chats[1].user(bob.email)
        async with bob.socket() as b:
            with post.cut():
                await b.say("something new", to=ann.email)
            team.cluster(0).heard_late()
            await a.next("message", where=lambda f: f["text"] == "something new")


async def test_no_socket_of_theirs_outlives_them_as_somebody_elses(
    io_loop: Any, team: Team, post: Post
) -> None:
    """The news of it is lost, and the address is taken again when the store is asked.

    Seen to fail with ``Accounts.catch_up`` comparing nothing but generations.
    """
    bob = await team.chats[1].user("bob@example.org")
    there = await team.chats[2].user(bob.email)
    async with there.socket() as old:
        with post.cut():
            await _erase(bob)
            bob = await team.chats[1].user(bob.email)
        async with bob.socket() as new:
            assert await old.closed() == 4401
            await new.settle()


async def test_late_news_of_an_erasure_does_nothing_to_who_has_the_address_now(
    io_loop: Any, team: Team, post: Post
) -> None:
    """Seen to fail with ``UserClosedNews`` believed whoever is here by that address."""
    ann = await team.chats[0].user("ann@example.org")
    bob = await team.chats[1].user("bob@example.org")
    async with ann.socket() as a:
        async with bob.socket() as b:
            await _exchange(a, b, bob.email)
        post.hold(team.cluster(1), UserClosedNews)
        await _erase(bob)
        bob = await team.chats[0].user(bob.email)
        async with bob.socket() as b:
            post.release()
            await team.heard(1)
            assert (await b.say("something new", to=ann.email))["type"] == "sent"
            assert (await a.say("something new", to=bob.email))["type"] == "sent"
