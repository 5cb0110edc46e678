"""What clients say and hear: messages, refusals, presence, typing."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.chat import Chat, eventually, texts

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
        ('{"type":"received","group":"others","seq":0}', "unknown_group"),
        ('{"type":"read","group":"others","seq":0}', "unknown_group"),
        ('{"type":"typing","group":"others"}', "unknown_group"),
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
