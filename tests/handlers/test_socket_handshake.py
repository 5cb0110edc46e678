"""How a socket is opened: tokens, origins, limits, and what each address carries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.chat import Chat, Socket, texts


async def refused(socket: Socket) -> int:
    """The HTTP status that the handshake gets."""
    with pytest.raises(InvalidStatus) as raised:
        async with socket:
            pass
    return int(raised.value.response.status_code)


# -- authentication ----------------------------------------------------------------------------


async def test_hello_comes_first_and_ready_after_the_replay(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("one", user=bob.email)
    async with bob.socket() as socket:
        await socket.settle()
        kinds = [frame["type"] for frame in socket.frames]
        assert kinds[:3] == ["hello", "message", "ready"]
        hello = socket.frames[0]
        assert hello["version"] == 1
        assert hello["user"] == "bob@example.org"
        assert hello["server_time"].endswith("Z")
        assert 0 < hello["expires_in"] <= 43200
        assert set(hello) == {
            "type",
            "version",
            "user",
            "connection_id",
            "epoch",
            "expires_in",
            "server_time",
        }


async def test_a_token_may_come_in_the_query(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with Socket(chat.socket_url("/v1/ws", Authorization=ann.token)) as socket:
        assert (await socket.next("hello"))["user"] == ann.email


async def test_a_token_may_come_as_a_subprotocol(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    offered = ["chatd.v1", f"bearer.{ann.token}"]
    async with Socket(chat.socket_url("/v1/ws"), subprotocols=offered) as socket:
        assert (await socket.next("hello"))["user"] == ann.email
        assert socket.ws.subprotocol == "chatd.v1"


async def test_a_token_may_come_in_the_first_frame(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        await socket.send(type="auth", token=ann.token)
        assert (await socket.next("hello"))["user"] == ann.email


async def test_two_different_tokens_are_refused(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    url = chat.socket_url("/v1/ws", Authorization=ann.token)
    assert await refused(Socket(url, {"Authorization": f"Bearer {bob.token}"})) == 400


async def test_a_bad_token_gets_401_in_the_handshake_and_4401_in_a_frame(
    io_loop: Any, chat: Chat
) -> None:
    assert await refused(Socket(chat.socket_url("/v1/ws", Authorization="nonsense"))) == 401
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        await socket.send(type="auth", token="nonsense")
        assert await socket.closed() == 4401


async def test_any_other_first_frame_closes_with_4401(io_loop: Any, chat: Chat) -> None:
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        await socket.send(type="ping")
        assert await socket.closed() == 4401
        assert [frame["type"] for frame in socket.frames] == ["bye"]


async def test_without_an_auth_frame_in_time_the_socket_closes(
    io_loop: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.handlers.socket._FRAME_SECONDS", 0.05)
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        assert await socket.closed() == 4408


async def test_a_foreign_origin_is_refused_and_our_own_is_not(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    url, token = chat.socket_url("/v1/ws"), {"Authorization": f"Bearer {ann.token}"}
    assert await refused(Socket(url, {**token, "Origin": "https://evil.example"})) == 403
    async with Socket(url, {**token, "Origin": chat.url}) as socket:
        assert socket.of("ready")


@pytest.mark.settings(auth__token_seconds=2)
async def test_an_expired_token_ends_the_socket_and_a_fresh_one_keeps_it(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as doomed, ann.socket() as kept:
        closed = asyncio.ensure_future(doomed.closed())
        while not closed.done():
            fresh = (await chat.user(ann.email)).token
            await kept.send(type="auth", token=fresh)
            await kept.settle()
            await asyncio.sleep(0.2)
        assert closed.result() == 4401
        assert doomed.frames[-1]["type"] == "bye"
        await kept.settle()


async def test_a_token_of_somebody_else_is_refused_on_a_live_socket(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as socket:
        await socket.send(type="auth", token=bob.token)
        assert (await socket.next("error"))["code"] == "forbidden"
        await socket.settle()


async def test_signing_out_ends_the_sockets_of_that_token_only(io_loop: Any, chat: Chat) -> None:
    ann, again = await chat.user("ann@example.org"), await chat.user("ann@example.org")
    async with ann.socket() as first, again.socket() as second:
        assert (await ann.call("POST", "/v1/auth/sign-out")).status == 204
        assert await first.closed() == 4401
        await second.settle()


async def test_changing_the_password_ends_every_socket(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        change = {"current": "correct horse battery", "new": "staple battery correct"}
        assert (await ann.call("POST", "/v1/auth/password", change)).status == 200
        assert await socket.closed() == 4401


# -- scopes ------------------------------------------------------------------------------------


async def test_the_one_to_one_socket_carries_no_groups(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    await ann.say("missed in the group", group="python")
    await ann.say("missed", user=bob.email)
    async with bob.socket("/chat/user") as socket:
        await ann.say("in the group", group="python")
        await ann.say("one to one", user=bob.email)
        await socket.next("message", where=lambda frame: frame["text"] == "one to one")
        assert texts(socket.of("message")) == ["missed", "one to one"]
        assert socket.of("presence")
        await socket.send(type="send", group="python", text="x")
        assert (await socket.next("error"))["code"] == "forbidden"


async def test_a_groups_socket_carries_that_group_only(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    for group in ("python", "rust"):
        await ann.create(group)
        await bob.join(group)
    async with bob.socket("/group/python/connect") as socket:
        await ann.say("other group", group="rust")
        await ann.say("one to one", user=bob.email)
        await ann.say("here", group="python")
        await socket.next("message")
        sent = await socket.say("no target needed")
        assert sent["group"] == "python"
        await socket.settle()
        assert texts(socket.of("message")) == ["here"]
        assert not socket.of("presence")


async def test_a_groups_socket_is_for_its_members(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    assert await refused(bob.socket("/group/python/connect")) == 403
    assert await refused(bob.socket("/group/nowhere/connect")) == 404
    for name, code in (("python", 4403), ("nowhere", 4404)):
        async with Socket(chat.socket_url(f"/group/{name}/connect")) as socket:
            await socket.send(type="auth", token=bob.token)
            assert await socket.closed() == code


async def test_leaving_a_group_ends_its_own_sockets(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    await ann.create("python")
    async with ann.socket("/group/python/connect") as socket, ann.socket() as other:
        await ann.call("POST", "/v1/groups/python/leave")
        assert await socket.closed() == 4403
        await other.settle()


@pytest.mark.settings(limits__connections_per_user=1)
async def test_a_user_may_have_so_many_connections(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket():
        assert await refused(ann.socket()) == 429
    async with ann.socket():
        pass
