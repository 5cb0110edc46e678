"""The WebSocket as its clients see it: authentication, frames, order, scopes, the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from chatd.app import App
from chatd.errors import Unavailable
from chatd.models import Draft, Outcome
from tests.chat import Chat, Json, Socket, eventually, start_app


def texts(frames: list[Json]) -> list[str]:
    return [frame["text"] for frame in frames]


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


# -- messages ----------------------------------------------------------------------------------


async def test_a_message_reaches_the_other_and_the_senders_other_devices(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as phone, ann.socket() as laptop, bob.socket() as other:
        sent = await phone.say("hello", to=bob.email, client_id="c1")
        assert sent["type"] == "sent"
        assert (sent["seq"], sent["to"], sent["client_id"]) == (1, bob.email, "c1")
        assert sent["duplicate"] is False
        expected = {
            "type": "message",
            "id": sent["id"],
            "from": ann.email,
            "to": bob.email,
            "seq": 1,
            "text": "hello",
            "sent_at": sent["sent_at"],
        }
        assert await other.next("message") == expected
        assert await laptop.next("message") == expected
        await phone.settle()
        assert not phone.of("message")


async def test_a_group_message_reaches_every_member_and_nobody_else(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob, eve = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "eve")]
    await ann.create("python")
    await bob.join("python")
    async with ann.socket() as a, bob.socket() as b, eve.socket() as e:
        sent = await a.say("hello", group="python")
        message = await b.next("message")
        assert (message["group"], message["seq"], message["id"]) == ("python", 1, sent["id"])
        assert "to" not in message
        await e.settle()
        assert not e.of("message")


async def test_who_joins_while_connected_gets_what_follows_and_who_leaves_does_not(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    async with ann.socket() as a, bob.socket() as b:
        await a.say("before", group="python")
        await bob.join("python")
        assert await a.next("joined") == {"type": "joined", "group": "python", "user": bob.email}
        await a.say("while in", group="python")
        assert (await b.next("message"))["text"] == "while in"
        await bob.call("POST", "/v1/groups/python/leave")
        assert await a.next("left") == {"type": "left", "group": "python", "user": bob.email}
        await a.say("after", group="python")
        await b.settle()
        assert texts(b.of("message")) == ["while in"]


async def test_the_same_send_again_is_one_message(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a, ann.socket() as a2, bob.socket() as b:
        for socket in (a, a2, a, a2):
            await socket.send(type="send", to=bob.email, text="once", client_id="c1")
        answers = [await socket.next("sent") for socket in (a, a2, a, a2)]
        assert len({answer["id"] for answer in answers}) == 1
        assert sorted(answer["duplicate"] for answer in answers) == [False, True, True, True]
        await a.send(type="send", to=bob.email, text="twice", client_id="c1")
        error = await a.next("error")
        assert (error["code"], error["client_id"]) == ("client_id_reused", "c1")
        await b.settle()
        assert len(b.of("message")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧‍👦 emoji",
        "שלום עולם العربية",
        "x" * 4000,
        'quotes " and \\ and \n breaks',
        "𝔘𝔫𝔦\u0301\u200d",
    ],
    ids=["emoji", "right-to-left", "longest", "escapes", "combining"],
)
async def test_any_text_arrives_unchanged(io_loop: Any, chat: Chat, text: str) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b:
        await a.say(text, to=bob.email)
        assert (await b.next("message"))["text"] == text
    history = await bob.call("GET", f"/v1/users/{ann.email}/messages")
    assert history.body["items"][0]["text"] == text


async def test_one_may_write_to_oneself(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as phone, ann.socket() as laptop:
        await phone.say("note", to=ann.email)
        assert (await laptop.next("message"))["text"] == "note"


async def test_many_senders_make_one_order_for_all(io_loop: Any, chat: Chat) -> None:
    users = [await chat.user(f"u{number}@example.org") for number in range(5)]
    await users[0].create("python")
    for user in users[1:]:
        await user.join("python")
    sockets = [user.socket() for user in users]
    for socket in sockets:
        await socket.__aenter__()
    for number, socket in itertools.product(range(20), sockets):
        await socket.send(type="send", group="python", text=str(number))
    await eventually(lambda: all(len(s.of("message", "sent")) == 100 for s in sockets))
    orders = []
    for socket in sockets:
        assert [frame["seq"] for frame in socket.of("message")] == sorted(
            frame["seq"] for frame in socket.of("message")
        )
        orders.append({frame["seq"]: frame["id"] for frame in socket.of("message", "sent")})
        await socket.__aexit__()
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0]) == list(range(1, 101))


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"send","to":5,"text":"x"}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":["x"]}', "invalid"),
        ('{"type":"send","to":"ann@example.org"}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":"x","extra":1}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":""}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":"  "}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":"a\\u0000b"}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":"x","client_id":"a\\nb"}', "invalid"),
        ('{"type":"send","to":"ann@example.org","text":"x","client_id":7}', "invalid"),
        ('{"type":"send","text":"x"}', "invalid"),
        ('{"type":"send","to":"ann@example.org","group":"python","text":"x"}', "invalid"),
        ('{"type":"send","to":"nobody@example.org","text":"x"}', "unknown_user"),
        ('{"type":"send","to":"no address","text":"x"}', "unknown_user"),
        ('{"type":"send","group":"nowhere","text":"x"}', "unknown_group"),
        ('{"type":"send","group":"%$!","text":"x"}', "unknown_group"),
        ('{"type":"send","group":"others","text":"x"}', "not_a_member"),
        ('{"type":"read","from":"ann@example.org","seq":1}', "invalid"),
        ('{"type":"read","from":"ann@example.org","seq":-1}', "invalid"),
        ('{"type":"read","from":"ann@example.org","seq":true}', "invalid"),
        ('{"type":"received","group":"others","seq":0}', "not_a_member"),
        ('{"type":"received","from":"ann@example.org","seq":1e99}', "invalid"),
        ('{"type":"typing","to":{}}', "invalid"),
        ('{"type":"resume","epoch":"x","cursors":[]}', "bad_request"),
        ('{"type":"auth","token":5}', "invalid"),
        ('{"type":"nonsense"}', "bad_request"),
        ('{"type":5}', "bad_request"),
        ('{"text":"x"}', "bad_request"),
        ("[]", "bad_request"),
        ("null", "bad_request"),
        ("", "bad_json"),
        ("{", "bad_json"),
        ('{"type":"send","to":"ann@example.org","text":"\\ud800"}', "bad_json"),
        ("[" * 10000, "bad_request"),
    ],
)
async def test_a_bad_frame_gets_an_error_and_the_socket_stays(
    io_loop: Any, chat: Chat, frame: str, code: str
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("others")
    async with bob.socket() as socket:
        await socket.ws.send(frame)
        error = await socket.next("error")
        assert error["code"] == code, error
        assert len(error["message"]) > 10
        await socket.settle()


async def test_an_error_names_the_message_it_refuses(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        await socket.send(type="send", to="nobody@example.org", text="x", client_id="c9")
        assert (await socket.next("error"))["client_id"] == "c9"
        await socket.send(type="send", to="nobody@example.org", text=5, client_id="c10")
        assert (await socket.next("error"))["client_id"] == "c10"


async def test_three_things_in_a_row_that_are_no_frames_close_the_socket(
    io_loop: Any, chat: Chat
) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        for junk in ("x", "[]"):
            await socket.ws.send(junk)
        await socket.settle()
        for frame in ("x", "[]", '{"type":"send","to":5,"text":"wrong, but a frame"}'):
            await socket.ws.send(frame)
        for junk in ("x", "[]", "{}"):
            await socket.ws.send(junk)
        assert await socket.closed() == 4400


async def test_binary_frames_close_with_1003(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        await socket.ws.send(b"bytes")
        assert await socket.closed() == 1003


async def test_text_that_is_not_utf_8_closes_with_1007(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        await socket.ws.send(b"\xff\xfe", text=True)
        assert await socket.closed() == 1007


async def test_a_frame_beyond_the_limit_closes_with_1009(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        await socket.ws.send("x" * 40_000)
        assert await socket.closed() == 1009


@pytest.mark.settings(limits__send_per_second=1, limits__send_burst=2)
async def test_sending_too_fast_is_refused_and_then_ends_the_socket(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as socket:
        for number in range(3):
            await socket.send(type="send", to=bob.email, text=str(number))
        error = await socket.next("error")
        assert error["code"] == "rate_limited"
        assert 0 < error["retry_after"] <= 1
        assert len(socket.of("sent")) <= 2
        for number in range(110):
            await socket.send(type="send", to=bob.email, text=str(number))
        assert await socket.closed() == 4429


@pytest.mark.settings(limits__connections_per_user=1)
async def test_a_user_may_have_so_many_connections(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket():
        assert await refused(ann.socket()) == 429
    async with ann.socket():
        pass


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


# -- replay ------------------------------------------------------------------------------------


async def test_what_was_missed_comes_on_connecting_and_only_once(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    for number in range(5):
        await ann.say(f"pair {number}", user=bob.email)
        await ann.say(f"group {number}", group="python")
    async with bob.socket() as socket:
        missed = socket.of("message")
        assert [m["text"] for m in missed if "to" in m] == [f"pair {n}" for n in range(5)]
        assert [m["text"] for m in missed if "group" in m] == [f"group {n}" for n in range(5)]
        await delivered(ann.email, bob, 5)
    async with bob.socket() as socket:
        await socket.settle()
        assert not socket.of("message")


async def delivered(sender: str, recipient: Any, seq: int) -> None:
    """Return once the recipient's mark in the pair's conversation has reached ``seq``."""
    path = f"/v1/users/{sender}/messages?after_seq={seq - 1}&limit=1"
    async with asyncio.timeout(5):
        while True:
            answer = await recipient.call("GET", path)
            if "delivered_at" in answer.body["items"][0]:
                return
            await asyncio.sleep(0.01)


@pytest.mark.settings(limits__replay=3)
async def test_what_is_not_replayed_is_announced_and_not_called_delivered(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    for number in range(1, 6):
        await ann.say(str(number), user=bob.email)
    async with bob.socket() as socket:
        assert texts(socket.of("message")) == ["1", "2", "3"]
        assert socket.of("gap") == [{"type": "gap", "user": ann.email, "from_seq": 4, "to_seq": 5}]
        await ann.say("6", user=bob.email)
        await socket.next("message", where=lambda frame: frame["seq"] == 6)
        await delivered(ann.email, bob, 3)
        await socket.settle()
        history = (await bob.call("GET", f"/v1/users/{ann.email}/messages")).body["items"]
        assert ["delivered_at" in message for message in history] == [True] * 3 + [False] * 3
        # The client fetches the gap and says so: now all of it counts.
        await socket.send(type="received", **{"from": ann.email}, seq=6)
        await delivered(ann.email, bob, 6)
        await ann.say("7", user=bob.email)
        await delivered(ann.email, bob, 7)


async def test_replay_none_brings_only_what_is_live(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("missed", user=bob.email)
    async with bob.socket(replay="none") as socket:
        await ann.say("live", user=bob.email)
        await socket.next("message")
        await socket.settle()
        assert texts(socket.of("message")) == ["live"]
    async with bob.socket() as socket:
        # Its Pong said nothing of what it was never sent.
        assert texts(socket.of("message")) == ["missed", "live"]


async def test_resume_replays_what_is_behind_each_cursor(io_loop: Any, chat: Chat) -> None:
    ann, bob, carl = [await chat.user(f"{n}@example.org") for n in ("ann", "bob", "carl")]
    for number in range(1, 5):
        await ann.say(f"ann {number}", user=bob.email)
        await carl.say(f"carl {number}", user=bob.email)
    async with bob.socket() as socket:
        await delivered(ann.email, bob, 4)
        await delivered(carl.email, bob, 4)
        epoch = socket.frames[0]["epoch"]
    async with bob.socket(replay="resume") as socket:
        await socket.send(type="resume", epoch=epoch, cursors=[{"user": ann.email, "seq": 2}])
        await socket.next("ready")
        assert texts(socket.of("message")) == ["ann 3", "ann 4"]
    async with bob.socket(replay="resume") as socket:
        await ann.say("ann 5", user=bob.email)
        await socket.send(type="resume", epoch="another", cursors=[{"user": ann.email, "seq": 0}])
        await socket.next("ready")
        await socket.settle()
        assert texts(socket.of("message")) == ["ann 5"]


async def test_without_a_resume_frame_in_time_the_socket_closes(
    io_loop: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.handlers.socket._FRAME_SECONDS", 0.05)
    ann = await chat.user("ann@example.org")
    async with ann.socket(replay="resume") as socket:
        assert await socket.closed() == 4408


async def test_a_second_resume_is_refused(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket(replay="resume") as socket:
        await socket.send(type="resume", epoch="", cursors=[{"seq": 1}])
        assert (await socket.next("error"))["code"] == "invalid"
        await socket.send(type="resume", epoch="", cursors=[])
        await socket.next("ready")
        await socket.send(type="resume", epoch="", cursors=[])
        assert (await socket.next("error"))["code"] == "bad_request"


async def test_live_traffic_during_a_replay_makes_no_hole_and_no_inversion(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as sender:
        for number in range(300):
            await sender.send(type="send", to=bob.email, text=str(number))
        async with bob.socket() as socket:
            for number in range(300, 400):
                await sender.send(type="send", to=bob.email, text=str(number))
            await eventually(lambda: len(socket.of("message")) >= 400)
            assert [frame["seq"] for frame in socket.of("message")] == list(range(1, 401))


async def test_a_new_member_is_not_replayed_earlier_history(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await ann.say("before", group="python")
    await bob.join("python")
    await ann.say("after", group="python")
    async with bob.socket() as socket:
        assert texts(socket.of("message")) == ["after"]
    history = await bob.call("GET", "/v1/groups/python/messages")
    assert texts(history.body["items"]) == ["before", "after"]


# -- receipts ----------------------------------------------------------------------------------


async def test_a_client_that_only_answers_pings_makes_delivery_receipts(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a:
        sent = await a.say("hello", to=bob.email)
        message = (await ann.call("GET", f"/v1/messages/{sent['id']}")).body
        assert "delivered_at" not in message
        async with bob.socket():
            receipt = await a.next("receipt")
        assert receipt == {
            "type": "receipt",
            "kind": "delivered",
            "to": bob.email,
            "by": bob.email,
            "seq": 1,
            "at": receipt["at"],
        }
        message = (await ann.call("GET", f"/v1/messages/{sent['id']}")).body
        assert message["delivered_at"] == receipt["at"]


async def test_group_receipts_name_the_member_and_come_gathered(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    async with ann.socket() as a, bob.socket():
        for number in range(30):
            await a.send(type="send", group="python", text=str(number))
        receipt = await a.next("receipt", where=lambda frame: frame["seq"] == 30)
        assert (receipt["group"], receipt["by"]) == ("python", bob.email)
        assert "to" not in receipt
        assert len(a.of("receipt")) < 10
    members = (await ann.call("GET", "/v1/groups/python/members")).body["items"]
    assert {member["email"]: member["delivered_seq"] for member in members}[bob.email] == 30


async def test_one_hears_no_receipt_of_what_one_did_not_write(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b:
        await a.say("hello", to=bob.email)
        await a.next("receipt")
        await asyncio.sleep(0.1)
        assert not b.of("receipt")


async def test_read_is_told_and_stored_and_drags_delivered_along(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a:
        sent = await a.say("hello", to=bob.email)
        async with bob.socket(replay="none") as b:
            await b.send(type="read", **{"from": ann.email}, seq=1)
            kinds = [(await a.next("receipt"))["kind"], (await a.next("receipt"))["kind"]]
        assert kinds == ["delivered", "read"]
        message = (await ann.call("GET", f"/v1/messages/{sent['id']}")).body
        assert message["read_at"]
        assert message["delivered_at"]


async def test_with_explicit_receipts_only_received_counts(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("one", user=bob.email)
    await ann.say("two", user=bob.email)
    async with bob.socket(receipts="explicit") as socket:
        assert texts(socket.of("message")) == ["one", "two"]
        await socket.send(type="received", **{"from": ann.email}, seq=1)
        await delivered(ann.email, bob, 1)
        await asyncio.sleep(0.1)
    async with bob.socket() as socket:
        assert texts(socket.of("message")) == ["two"]


# -- presence and typing -----------------------------------------------------------------------


async def test_presence_tells_who_is_on_line_and_then_the_changes(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a:
        first = await a.next("presence")
        assert first["online"] == [ann.email]
        async with bob.socket() as b:
            assert ann.email in (await b.next("presence"))["online"]
            await a.next("presence", where=lambda frame: bob.email in frame["online"])
            users = (await ann.call("GET", "/v1/users?online=true")).body["items"]
            assert [user["email"] for user in users] == [ann.email, bob.email]
        await a.next("presence", where=lambda frame: bob.email in frame["offline"])
        gone = (await ann.call("GET", f"/v1/users/{bob.email}")).body
        assert gone["online"] is False
        await eventually_seen(ann, bob.email)


async def eventually_seen(viewer: Any, email: str) -> None:
    async with asyncio.timeout(5):
        while (await viewer.call("GET", f"/v1/users/{email}")).body["last_seen_at"] is None:
            await asyncio.sleep(0.02)


@pytest.mark.settings(limits__presence=1)
async def test_presence_is_not_pushed_to_a_crowd(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as a:
        await a.next("presence")
        async with bob.socket() as b:
            await asyncio.sleep(0.8)
            await b.settle()
            assert not b.of("presence")
            assert len(a.of("presence")) <= 2
        await a.next("presence", where=lambda frame: ann.email in frame["online"])


async def test_typing_is_shown_to_the_others_only(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    async with ann.socket() as a, bob.socket() as b:
        await a.send(type="typing", to=bob.email)
        assert await b.next("typing") == {"type": "typing", "from": ann.email}
        await a.send(type="typing", group="python")
        assert await b.next("typing") == {"type": "typing", "from": ann.email, "group": "python"}
        await a.settle()
        assert not a.of("typing")


# -- slow readers, silence, the end ------------------------------------------------------------


@pytest.mark.settings(limits__outbox_bytes=65536, limits__send_per_second=0)
async def test_a_slow_consumer_is_cut_off_and_healed_by_the_replay(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    slow = bob.socket()
    async with ann.socket() as a, slow:
        slow.ws.transport.pause_reading()
        for number in range(4000):
            await a.send(type="send", to=bob.email, text=f"{number} " + "x" * 3000)
        await eventually(lambda: len(a.of("sent")) == 4000)
        slow.ws.transport.resume_reading()
        assert await slow.closed() in (4430, 1006)
    seen = {frame["seq"] for frame in slow.of("message")}
    async with asyncio.timeout(30):
        while len(seen) < 4000:
            async with bob.socket() as socket:
                await socket.settle()
                replayed = {frame["seq"] for frame in socket.of("message")}
                assert max(replayed) == 4000 or socket.of("gap")[0]["to_seq"] == 4000
                await delivered(ann.email, bob, max(replayed))
                seen |= replayed
    assert seen == set(range(1, 4001))


@pytest.mark.settings(websocket__ping_seconds=0.1, websocket__pong_seconds=0.1)
async def test_a_peer_that_answers_no_ping_is_given_up(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    async with ann.socket() as alive, ann.socket() as dead:
        dead.ws.transport.pause_reading()
        await asyncio.sleep(0.6)
        dead.ws.transport.resume_reading()
        assert await dead.closed() in (4408, 1006)
        await alive.settle()


async def test_draining_answers_what_was_taken_before_it_says_bye(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    append = server.storage.append

    async def slow_append(batch: Sequence[Draft]) -> list[Outcome]:
        await asyncio.sleep(0.2)
        return await append(batch)

    monkeypatch.setattr(server.storage, "append", slow_append)
    async with ann.socket() as a:
        for number in range(10):
            await a.send(type="send", to=bob.email, text=str(number))
        await a.settle()
        await asyncio.gather(server.drain(), a.closed())
        assert a.ws.close_code == 1001
        kinds = [frame["type"] for frame in a.frames if frame["type"] in ("sent", "bye")]
        assert kinds == ["sent"] * 10 + ["bye"]
        assert a.frames[-1]["reconnect"] is True


async def test_draining_stores_the_receipts_that_were_gathering(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.receipts._GATHER_SECONDS", 3600)
    first = await start_app(tmp_path, "sqlite:chatd.db")
    chat = Chat(await first.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("hello", user=bob.email)
    async with bob.socket() as b:
        await b.send(type="read", **{"from": ann.email}, seq=1)
        await b.settle()
        await asyncio.gather(first.drain(), b.closed())

    second = await start_app(tmp_path, "sqlite:chatd.db")
    chat.url = await second.start()
    history = (await ann.call("GET", f"/v1/users/{bob.email}/messages")).body["items"]
    assert history[0]["read_at"]
    chat.close()
    await second.stop()


# -- the storage out ---------------------------------------------------------------------------


async def test_what_cannot_be_stored_is_refused_and_sent_again_once_it_can(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")

    async def out(*_: object) -> None:
        raise Unavailable("the message store can't be reached, try again shortly")

    async with ann.socket() as a, bob.socket() as b:
        with monkeypatch.context() as fault:
            fault.setattr(server.storage, "append", out)
            error = await a.say("hello", to=bob.email, client_id="c1")
            assert (error["code"], error["client_id"]) == ("unavailable", "c1")
            body = {"text": "over REST"}
            answer = await ann.call("POST", f"/v1/users/{bob.email}/messages", body)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            fault.setattr(server.storage, "ping", out)
            assert (await chat.call("GET", "/readyz")).status == 503
        sent = await a.say("hello", to=bob.email, client_id="c1")
        assert sent["duplicate"] is False
        assert (await b.next("message"))["id"] == sent["id"]
        await b.settle()
        assert len(b.of("message")) == 1


@pytest.mark.parametrize("method", ["group_names_of", "positions"])
async def test_who_cannot_be_told_what_they_missed_is_asked_to_reconnect(
    io_loop: Any, chat: Chat, server: App, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ann = await chat.user("ann@example.org")

    async def out(*_: object) -> None:
        raise Unavailable("the message store can't be reached, try again shortly")

    monkeypatch.setattr(server.storage, method, out)
    async with Socket(chat.socket_url("/v1/ws")) as socket:
        await socket.send(type="auth", token=ann.token)
        await socket.send(type="typing", to=ann.email)
        assert await socket.closed() == 1011
        assert socket.frames[-1]["reconnect"] is True
    await eventually(lambda: len(server.registry) == 0)
