"""What was missed comes on connecting, and receipts tell what has arrived."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chat import PATIENCE, Chat, User, delivered, eventually, texts

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
        await delivered_in_group("python", bob, 5)
    async with bob.socket() as socket:
        await socket.settle()
        assert not socket.of("message")


async def delivered_in_group(group: str, member: User, seq: int) -> None:
    """Return once the member's mark in the group has reached ``seq``."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await member.call("GET", f"/v1/groups/{group}/members")
            marks = {one["email"]: one["delivered_seq"] for one in answer.body["items"]}
            if marks[member.email] >= seq:
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


# -- a user's devices --------------------------------------------------------------------------


async def test_what_is_read_on_one_device_is_told_to_the_others(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    await ann.say("hello", user=bob.email)
    await ann.say("hello", group="python")
    async with ann.socket() as a, bob.socket() as phone, bob.socket() as laptop:
        await phone.send(type="read", **{"from": ann.email}, seq=1)
        assert await laptop.next("read") == {"type": "read", "user": ann.email, "seq": 1}
        await phone.send(type="read", group="python", seq=1)
        assert await laptop.next("read") == {"type": "read", "group": "python", "seq": 1}
        for socket in (phone, a):
            await socket.settle()
            assert not socket.of("read")


async def test_a_socket_hears_what_was_read_of_what_it_carries_only(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    for group in ("python", "go"):
        await ann.create(group)
        await bob.join(group)
    await ann.say("hello", user=bob.email)
    await ann.say("hello", group="python")
    async with (
        bob.socket() as phone,
        bob.socket("/chat/user") as pairs,
        bob.socket("/group/python/connect") as python,
        bob.socket("/group/go/connect") as go,
    ):
        await phone.send(type="read", **{"from": ann.email}, seq=1)
        await phone.send(type="read", group="python", seq=1)
        await phone.settle()
        for socket in (pairs, python, go):
            await socket.settle()
        assert pairs.of("read") == [{"type": "read", "user": ann.email, "seq": 1}]
        assert python.of("read") == [{"type": "read", "group": "python", "seq": 1}]
        assert not go.of("read")


async def test_what_is_read_over_rest_is_told_to_all_devices(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    await ann.say("hello", user=bob.email)
    await ann.say("hello", group="python")
    async with ann.socket() as a, bob.socket() as phone, bob.socket() as laptop:
        await bob.call("POST", f"/v1/users/{ann.email}/receipts", {"read_seq": 1})
        await bob.call("POST", "/v1/groups/python/receipts", {"delivered_seq": 1, "read_seq": 1})
        for socket in (phone, laptop):
            await socket.settle()
            assert socket.of("read") == [
                {"type": "read", "user": ann.email, "seq": 1},
                {"type": "read", "group": "python", "seq": 1},
            ]
        await a.settle()
        assert not a.of("read")


async def test_what_has_only_arrived_and_what_is_refused_is_not_told_as_read(
    io_loop: Any, chat: Chat
) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.say("hello", user=bob.email)
    async with bob.socket() as phone, bob.socket() as laptop:
        await phone.send(type="received", **{"from": ann.email}, seq=1)
        await bob.call("POST", f"/v1/users/{ann.email}/receipts", {"delivered_seq": 1})
        await phone.send(type="read", **{"from": ann.email}, seq=0)
        await phone.send(type="read", **{"from": ann.email}, seq=2)
        assert (await phone.next("error"))["code"] == "invalid"
        await laptop.settle()
        assert not laptop.of("read")
