"""Three servers are one: what is done on one is seen on the others, as on one server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chat import PASSWORD, Json, eventually, texts
from tests.cluster.conftest import Post, Team


async def test_a_message_comes_wherever_the_recipient_is(io_loop: Any, team: Team) -> None:
    one, two, three = team.chats
    ann = await one.user("ann@example.org")
    bob = await two.user("bob@example.org")
    again = await three.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b, again.socket() as c:
        sent = await a.say("hello", to=bob.email)
        for socket in (b, c):
            message = await socket.next("message")
            assert (message["id"], message["text"]) == (sent["id"], "hello")
        receipt = await a.next("receipt")
        assert (receipt["kind"], receipt["seq"]) == ("delivered", 1)
        await b.say("hi", to=ann.email)
        assert (await a.next("message"))["text"] == "hi"
        assert (await c.next("message"))["text"] == "hi"


async def test_a_group_is_one_on_all_servers(io_loop: Any, team: Team) -> None:
    one, two, three = team.chats
    ann = await one.user("ann@example.org")
    bob = await two.user("bob@example.org")
    cat = await three.user("cat@example.org")
    await ann.create("club")
    async with ann.socket() as a, bob.socket() as b, cat.socket() as c:
        await bob.join("club")
        assert (await a.next("joined"))["user"] == bob.email
        await cat.join("club")
        for socket in (a, b):
            assert (await socket.next("joined", where=lambda f: f["user"] == cat.email))["group"]
        senders = [(a, b, c)[number % 3] for number in range(60)]
        for number, socket in enumerate(senders):
            await socket.send(
                type="send", text=f"text {number}", group="club", client_id=str(number)
            )

        def all_of(socket: Any) -> dict[int, Json]:
            return {f["seq"]: f for f in socket.of("message", "sent")}

        await eventually(lambda: all(len(all_of(socket)) == 60 for socket in (a, b, c)))
        for socket in (a, b, c):
            seqs = [frame["seq"] for frame in socket.of("message", "sent")]
            assert seqs == list(range(1, 61))
            assert socket.of("gap") == []
        await cat.call("POST", "/v1/groups/club/leave")
        assert (await a.next("left"))["user"] == cat.email


async def test_everybody_sees_who_is_on_line(io_loop: Any, team: Team) -> None:
    one, two, _ = team.chats
    ann = await one.user("ann@example.org")
    bob = await two.user("bob@example.org")
    async with ann.socket() as a:
        async with bob.socket():
            came = await a.next("presence", where=lambda f: bob.email in f["online"])
            assert came["offline"] == []
            found = (await ann.call("GET", f"/v1/users/{bob.email}")).body
            assert found["online"] is True
        await a.next("presence", where=lambda f: bob.email in f["offline"])
        listed = (await ann.call("GET", "/v1/users?online=true")).body["items"]
        assert [user["email"] for user in listed] == [ann.email]


async def test_signing_out_ends_sockets_on_every_server(io_loop: Any, team: Team) -> None:
    one, two, three = team.chats
    ann = await one.user("ann@example.org")
    there = await two.user("ann@example.org")
    there.token = ann.token
    elsewhere = await three.user("ann@example.org")
    async with ann.socket() as a, there.socket() as b, elsewhere.socket() as c:
        await ann.call("POST", "/v1/auth/sign-out")
        assert await a.closed() == await b.closed() == 4401
        assert (await there.call("GET", "/v1/auth/me")).status == 401
        body = {"current": PASSWORD, "new": "staple battery correct"}
        again = await one.user("ann@example.org")
        assert (await again.call("POST", "/v1/auth/password", body)).status == 200
        assert await c.closed() == 4401


async def test_a_lost_sign_out_does_not_wait_until_messages_are_healed(
    io_loop: Any, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with sessions that are looked for where messages are."""
    one, two, _ = team.chats
    ann, there = await one.user("ann@example.org"), await two.user("ann@example.org")
    there.token = ann.token
    healing = asyncio.Event()

    async def positions(*_: Any) -> Any:
        healing.set()
        await asyncio.Event().wait()

    async with there.socket() as socket:
        monkeypatch.setattr(team.apps[1].storage, "positions", positions)
        team.cluster(1).heard_late()
        await healing.wait()
        with post.cut():
            await ann.call("POST", "/v1/auth/sign-out")
        assert await socket.closed() == 4401


async def test_typing_and_reading_are_told(io_loop: Any, team: Team) -> None:
    one, two, three = team.chats
    ann = await one.user("ann@example.org")
    bob, his_other = await two.user("bob@example.org"), await three.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b, his_other.socket() as c:
        await a.say("hello", to=bob.email)
        await a.send(type="typing", to=bob.email)
        assert (await b.next("typing"))["from"] == ann.email
        await b.send(type="read", **{"from": ann.email}, seq=1)
        assert (await c.next("read"))["seq"] == 1
        await a.next("receipt", where=lambda f: f["kind"] == "read")


async def test_what_nats_loses_is_found_in_the_store(io_loop: Any, team: Team, post: Post) -> None:
    """In order, before what comes behind it, and also where nothing does.

    Seen to fail with ``Healer.lost`` doing nothing.
    """
    one, two, _ = team.chats
    ann = await one.user("ann@example.org")
    bob = await two.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b:
        await a.say("1", to=bob.email)
        await b.next("message")
        with post.cut():
            await a.say("2", to=bob.email)
            await a.say("3", to=bob.email)
        await a.say("4", to=bob.email)
        await eventually(lambda: texts(b.of("message")) == ["1", "2", "3", "4"])
        with post.cut():
            await a.say("5", to=bob.email)
        await eventually(lambda: len(b.of("message")) == 5)
        assert b.of("gap") == []
