"""Sending over REST, history, receipts, single messages, the list of conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from tests import documented
from tests.chat import Answer, Chat, Json, User
from tests.handlers.test_auth import TIME, assert_rate_limited
from tests.paging import page_through

chat = documented.chat


class Talk(NamedTuple):
    """Ann and Bob, and a conversation of theirs: a group's, or of the two of them."""

    ann: User
    bob: User
    kind: str

    def url(self, user: User, what: str = "messages") -> str:
        """Where ``user`` finds the conversation."""
        if self.kind == "group":
            return f"/v1/groups/python/{what}"
        other = self.bob if user is self.ann else self.ann
        return f"/v1/users/{other.email}/{what}"

    async def send(self, user: User, **body: object) -> Answer:
        return await user.call("POST", self.url(user), body)

    async def say(self, user: User, *texts: str) -> list[Json]:
        """Send these, one after the other; the messages as stored."""
        answers = [await self.send(user, text=text) for text in texts]
        assert all(answer.status == 201 for answer in answers)
        return [answer.body for answer in answers]

    async def history(self, user: User, query: str = "") -> Json:
        answer = await user.call("GET", self.url(user) + query)
        assert answer.status == 200, answer
        assert set(answer.body) == {"items", "has_more"}
        return dict(answer.body)

    async def seqs(self, user: User, query: str) -> tuple[list[int], bool]:
        """The ``seq`` of what a part of the history holds, and whether there is more."""
        found = await self.history(user, query)
        return [message["seq"] for message in found["items"]], found["has_more"]

    async def mark(self, user: User, **marks: object) -> Answer:
        return await user.call("POST", self.url(user, "receipts"), marks)


@pytest.fixture(params=["user", "group"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def talk(io_loop: object, chat: Chat, kind: str) -> Talk:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    if kind == "group":
        await ann.create("python")
        await bob.join("python")
    return Talk(ann, bob, kind)


@pytest.fixture
async def pair(io_loop: object, chat: Chat) -> Talk:
    return Talk(await chat.user("ann@example.org"), await chat.user("bob@example.org"), "user")


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body["code"]) == (status, code)


def assert_invalid(answer: Answer, *fields: str) -> None:
    assert_refused(answer, 422, "invalid")
    assert [one["field"] for one in answer.body["errors"]] == list(fields)


# -- sending -----------------------------------------------------------------------------------


async def test_a_message_is_answered_as_it_is_stored(io_loop: Any, talk: Talk) -> None:
    answer = await talk.send(talk.ann, text="hello", client_id="c1")
    assert answer.status == 201
    target = {"to": talk.bob.email} if talk.kind == "user" else {"group": "python"}
    assert answer.body == {
        "id": answer.body["id"],
        "from": talk.ann.email,
        **target,
        "seq": 1,
        "text": "hello",
        "sent_at": answer.body["sent_at"],
        "client_id": "c1",
        "duplicate": False,
    }
    assert TIME.fullmatch(answer.body["sent_at"])
    (stored,) = (await talk.history(talk.ann))["items"]
    assert {**stored, "duplicate": False} == answer.body


async def test_without_a_client_id_each_send_is_a_message_of_its_own(
    io_loop: Any, talk: Talk
) -> None:
    first, second = await talk.say(talk.ann, "hello", "hello")
    assert (first["seq"], second["seq"]) == (1, 2)
    assert first["id"] != second["id"]
    assert "client_id" not in first


async def test_the_same_send_again_is_answered_as_before(io_loop: Any, talk: Talk) -> None:
    first = await talk.send(talk.ann, text="hello", client_id="c1")
    await talk.say(talk.bob, "between")
    for _ in range(2):
        again = await talk.send(talk.ann, text="hello", client_id="c1")
        assert again.status == 200
        assert again.body == {**first.body, "duplicate": True}
    assert await talk.seqs(talk.ann, "") == ([1, 2], False)


async def test_the_same_send_many_times_at_once_is_one_message(io_loop: Any, talk: Talk) -> None:
    sends = [talk.send(talk.ann, text="hello", client_id="c1") for _ in range(10)]
    answers = await asyncio.gather(*sends)
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await talk.seqs(talk.ann, "") == ([1], False)


async def test_a_client_id_is_good_for_one_text_and_one_target(io_loop: Any, talk: Talk) -> None:
    assert (await talk.send(talk.ann, text="hello", client_id="c1")).status == 201
    assert_refused(
        await talk.send(talk.ann, text="another", client_id="c1"), 409, "client_id_reused"
    )
    elsewhere = await talk.ann.call(
        "POST", f"/v1/users/{talk.ann.email}/messages", {"text": "hello", "client_id": "c1"}
    )
    assert_refused(elsewhere, 409, "client_id_reused")
    # It is the sender's own word: others may use it too.
    assert (await talk.send(talk.bob, text="another", client_id="c1")).status == 201
    assert await talk.seqs(talk.ann, "") == ([1, 2], False)


async def test_a_client_id_is_shown_to_its_sender_only(io_loop: Any, talk: Talk) -> None:
    sent = (await talk.send(talk.ann, text="hello", client_id="c1")).body
    for user, shown in ((talk.ann, "c1"), (talk.bob, None)):
        (listed,) = (await talk.history(user))["items"]
        single = (await user.call("GET", f"/v1/messages/{sent['id']}")).body
        (line,) = (await user.call("GET", "/v1/me/conversations")).body["items"]
        for message in (listed, single, line["last_message"]):
            assert message["id"] == sent["id"]
            assert message.get("client_id") == shown


async def test_a_client_id_is_up_to_64_printable_characters(io_loop: Any, pair: Talk) -> None:
    for client_id in ("x", "x" * 64, "mit Leerzeichen", "ключ-🔑"):
        answer = await pair.send(pair.ann, text="hello", client_id=client_id)
        assert (answer.status, answer.body["client_id"]) == (201, client_id)
    for client_id in ("", "x" * 65, "a\nb", "\0", "\u202e"):
        assert_invalid(await pair.send(pair.ann, text="hello", client_id=client_id), "client_id")
    assert len((await pair.history(pair.ann))["items"]) == 4


async def test_a_null_client_id_is_none(io_loop: Any, pair: Talk) -> None:
    for _ in range(2):
        answer = await pair.send(pair.ann, text="hello", client_id=None)
        assert answer.status == 201
        assert "client_id" not in answer.body


async def test_a_text_is_stored_as_it_was_sent(io_loop: Any, pair: Talk) -> None:
    texts = ["x" * 4000, " as typed\n", "👩‍👩‍👧‍👦", "\u202eturned", "<b>&amp;</b>", "\x1b[31m"]
    sent = await pair.say(pair.ann, *texts)
    stored = (await pair.history(pair.bob))["items"]
    assert [message["text"] for message in sent] == texts
    assert [message["text"] for message in stored] == texts


async def test_other_texts_are_refused(io_loop: Any, pair: Talk) -> None:
    for text in ("", " \n\t", "x" * 4001, "a\0b"):
        assert_invalid(await pair.send(pair.ann, text=text), "text")
    assert (await pair.history(pair.ann))["items"] == []


async def test_half_a_surrogate_pair_is_no_text(io_loop: Any, pair: Talk) -> None:
    answer = await pair.ann.call("POST", pair.url(pair.ann), raw=b'{"text": "\\ud83d"}')
    assert_invalid(answer, "text")


@pytest.mark.settings(limits__send_per_second=1, limits__send_burst=3)
async def test_sends_are_limited_for_each_user(io_loop: Any, talk: Talk) -> None:
    await talk.say(talk.ann, "1", "2", "3")
    assert_rate_limited(await talk.send(talk.ann, text="4"))
    await talk.say(talk.bob, "4")
    assert await talk.seqs(talk.ann, "") == ([1, 2, 3, 4], False)


async def test_what_is_sent_here_arrives_on_the_sockets(io_loop: Any, talk: Talk) -> None:
    async with talk.bob.socket() as socket:
        sent = (await talk.send(talk.ann, text="hello", client_id="c1")).body
        message = await socket.next("message")
    assert message["type"] == "message"
    assert {name: message[name] for name in ("id", "from", "seq", "text", "sent_at")} == {
        name: sent[name] for name in ("id", "from", "seq", "text", "sent_at")
    }
    assert "client_id" not in message


async def test_one_may_write_to_oneself(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    note = await ann.say("note", user=ann.email)
    assert (note["from"], note["to"]) == (ann.email, ann.email)
    (line,) = (await ann.call("GET", "/v1/me/conversations")).body["items"]
    assert (line["user"], line["unread"]) == (ann.email, 0)


# -- who may -----------------------------------------------------------------------------------


async def test_a_conversation_is_for_those_who_are_in_it(io_loop: Any, chat: Chat) -> None:
    ann, eve = await chat.user("ann@example.org"), await chat.user("eve@example.org")
    await ann.create("python")

    async def answers(whose: str) -> set[tuple[int, str]]:
        """What Eve is answered to everything that one does with a conversation."""
        calls = [
            await eve.call("GET", f"/v1/{whose}/messages"),
            await eve.call("POST", f"/v1/{whose}/messages", {"text": "hello"}),
            await eve.call("POST", f"/v1/{whose}/receipts", {"read_seq": 0}),
        ]
        return {(call.status, (call.body or {}).get("code", "")) for call in calls}

    # On line, where the server keeps a user's groups at hand, it is the same.
    assert await answers("groups/python") == {(403, "not_a_member")}
    async with eve.socket():
        assert await answers("groups/python") == {(403, "not_a_member")}
        await eve.join("python")
        assert await answers("groups/python") == {(200, ""), (201, ""), (204, "")}
        await eve.call("POST", "/v1/groups/python/leave")
        assert await answers("groups/python") == {(403, "not_a_member")}
    assert await answers("groups/python") == {(403, "not_a_member")}
    assert await answers("groups/go") == {(404, "unknown_group")}
    assert await answers("users/bob@example.org") == {(404, "unknown_user")}


async def test_a_pairs_conversation_is_for_the_two_alone(io_loop: Any, pair: Talk) -> None:
    eve = await pair.ann.chat.user("eve@example.org")
    await pair.say(pair.ann, "between us")
    for other in (pair.ann, pair.bob):
        found = await eve.call("GET", f"/v1/users/{other.email}/messages")
        assert found.body == {"items": [], "has_more": False}


# -- history -----------------------------------------------------------------------------------


async def test_history_is_read_in_parts_in_both_directions(io_loop: Any, talk: Talk) -> None:
    await talk.say(talk.ann, *"123")
    await talk.say(talk.bob, *"4567")
    for user in (talk.ann, talk.bob):
        for query, seqs, has_more in (
            ("", [1, 2, 3, 4, 5, 6, 7], False),
            ("?limit=3", [5, 6, 7], True),
            ("?limit=3&before_seq=5", [2, 3, 4], True),
            ("?limit=3&before_seq=4", [1, 2, 3], False),
            ("?limit=3&before_seq=2", [1], False),
            ("?before_seq=1", [], False),
            ("?before_seq=0", [], False),
            ("?limit=2&before_seq=100", [6, 7], True),
            ("?limit=3&after_seq=0", [1, 2, 3], True),
            ("?limit=3&after_seq=2", [3, 4, 5], True),
            ("?limit=3&after_seq=4", [5, 6, 7], False),
            ("?limit=3&after_seq=6", [7], False),
            ("?after_seq=7", [], False),
            ("?after_seq=100", [], False),
        ):
            assert await talk.seqs(user, query) == (seqs, has_more), query


async def test_history_shows_each_message_once_and_whole(io_loop: Any, talk: Talk) -> None:
    sent = await talk.say(talk.ann, "one", "two")
    items = (await talk.history(talk.bob))["items"]
    assert [{**item, "duplicate": False} for item in items] == sent
    assert await talk.history(talk.ann) == {"items": items, "has_more": False}


async def test_history_comes_in_fifties_unless_asked_otherwise(io_loop: Any, pair: Talk) -> None:
    await pair.say(pair.ann, *map(str, range(51)))
    assert await pair.seqs(pair.bob, "") == (list(range(2, 52)), True)
    assert await pair.seqs(pair.bob, "?limit=200") == (list(range(1, 52)), False)


async def test_history_of_nothing_is_empty(io_loop: Any, talk: Talk) -> None:
    assert await talk.history(talk.ann) == {"items": [], "has_more": False}


async def test_history_goes_one_way_at_a_time(io_loop: Any, talk: Talk) -> None:
    url = talk.url(talk.ann) + "?before_seq=3&after_seq=1"
    assert_invalid(await talk.ann.call("GET", url), "before_seq")


async def test_a_new_member_can_page_what_was_written_before(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await ann.say("before", group="python")
    await bob.join("python")
    history = (await bob.call("GET", "/v1/groups/python/messages")).body
    assert [message["text"] for message in history["items"]] == ["before"]


# -- receipts ----------------------------------------------------------------------------------


async def test_marks_move_forward_only(io_loop: Any, talk: Talk) -> None:
    await talk.say(talk.ann, *"1234")

    async def marks() -> tuple[int, int]:
        """What stands delivered and read, as the messages or the members have it."""
        if talk.kind == "group":
            members = (await talk.ann.call("GET", "/v1/groups/python/members")).body["items"]
            return members[1]["delivered_seq"], members[1]["read_seq"]
        items = (await talk.history(talk.ann))["items"]
        delivered = [item["seq"] for item in items if "delivered_at" in item]
        read = [item["seq"] for item in items if "read_at" in item]
        assert delivered == list(range(1, len(delivered) + 1))
        assert read == list(range(1, len(read) + 1))
        return len(delivered), len(read)

    for given, expected in (
        ({"delivered_seq": 2}, (2, 0)),
        ({"read_seq": 1}, (2, 1)),
        ({"read_seq": 3}, (3, 3)),
        ({"delivered_seq": 1, "read_seq": 2}, (3, 3)),
        ({"delivered_seq": 0, "read_seq": 0}, (3, 3)),
        ({"delivered_seq": 4, "read_seq": 3}, (4, 3)),
    ):
        answer = await talk.mark(talk.bob, **given)
        assert (answer.status, answer.body) == (204, None)
        assert await marks() == expected


async def test_no_mark_moves_beyond_the_last_message(io_loop: Any, talk: Talk) -> None:
    assert_invalid(await talk.mark(talk.bob, read_seq=1), "read_seq")
    await talk.say(talk.ann, "one", "two")
    assert_invalid(await talk.mark(talk.bob, delivered_seq=3), "delivered_seq")
    assert_invalid(await talk.mark(talk.bob, read_seq=3), "read_seq")
    assert_invalid(
        await talk.mark(talk.bob, delivered_seq=3, read_seq=3), "delivered_seq", "read_seq"
    )


async def test_a_refused_receipt_moves_nothing(io_loop: Any, talk: Talk) -> None:
    await talk.say(talk.ann, "one")
    async with talk.ann.socket() as socket:
        assert_invalid(await talk.mark(talk.bob, delivered_seq=1, read_seq=2), "read_seq")
        assert_invalid(await talk.mark(talk.bob, delivered_seq=2, read_seq=1), "delivered_seq")
        assert (await talk.mark(talk.bob, delivered_seq=1)).status == 204
        assert (await socket.next("receipt"))["kind"] == "delivered"
        await socket.settle()
        assert len(socket.of("receipt")) == 1


async def test_a_receipt_says_something(io_loop: Any, talk: Talk) -> None:
    assert_invalid(await talk.mark(talk.bob), "delivered_seq")
    assert_invalid(await talk.mark(talk.bob, delivered_seq=None, read_seq=None), "delivered_seq")


async def test_the_times_of_receipts_are_the_recipients_and_stay(io_loop: Any, pair: Talk) -> None:
    (sent,) = await pair.say(pair.ann, "hello")
    url = f"/v1/messages/{sent['id']}"
    assert not {"delivered_at", "read_at"} & set(sent)
    # One's own marks say nothing of what one wrote.
    await pair.mark(pair.ann, read_seq=1)
    assert not {"delivered_at", "read_at"} & set((await pair.ann.call("GET", url)).body)
    await pair.mark(pair.bob, delivered_seq=1)
    delivered = (await pair.ann.call("GET", url)).body
    assert TIME.fullmatch(delivered["delivered_at"])
    assert "read_at" not in delivered
    await asyncio.sleep(0.002)
    await pair.mark(pair.bob, read_seq=1)
    for user in (pair.ann, pair.bob):
        read = (await user.call("GET", url)).body
        assert TIME.fullmatch(read["read_at"])
        assert read["delivered_at"] == delivered["delivered_at"] < read["read_at"]


async def test_messages_of_groups_carry_no_times_of_receipts(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    sent = await ann.say("hello", group="python")
    await bob.call("POST", "/v1/groups/python/receipts", {"read_seq": 1})
    stored = (await ann.call("GET", f"/v1/messages/{sent['id']}")).body
    assert not {"delivered_at", "read_at"} & set(stored)


# -- single messages ---------------------------------------------------------------------------


async def test_a_message_is_found_by_those_who_may_read_it(io_loop: Any, talk: Talk) -> None:
    (sent,) = await talk.say(talk.ann, "hello")
    url = f"/v1/messages/{sent.pop('id')}"
    del sent["duplicate"]
    for user in (talk.ann, talk.bob):
        answer = await user.call("GET", url)
        assert answer.status == 200
        assert {name: answer.body[name] for name in sent} == sent
    eve = await talk.ann.chat.user("eve@example.org")
    assert_refused(await eve.call("GET", url), 404, "unknown_message")
    async with eve.socket():
        assert_refused(await eve.call("GET", url), 404, "unknown_message")
    unknown = await talk.ann.call("GET", "/v1/messages/nothing")
    assert_refused(unknown, 404, "unknown_message")


async def test_who_left_a_group_finds_its_messages_no_more(io_loop: Any, chat: Chat) -> None:
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    sent = await bob.say("hello", group="python")
    await bob.call("POST", "/v1/groups/python/leave")
    answer = await bob.call("GET", f"/v1/messages/{sent['id']}")
    assert_refused(answer, 404, "unknown_message")


# -- conversations -----------------------------------------------------------------------------


async def conversations(user: User) -> list[Json]:
    answer = await user.call("GET", "/v1/me/conversations")
    assert (answer.status, answer.body["next"]) == (200, None)
    return list(answer.body["items"])


def partners(lines: Sequence[Json]) -> list[str]:
    return [line.get("group") or line["user"] for line in lines]


async def test_a_conversation_tells_its_last_message_and_what_is_unread(
    io_loop: Any, talk: Talk
) -> None:
    await talk.say(talk.ann, "one", "two")
    await talk.say(talk.bob, "three")
    (last,) = await talk.say(talk.ann, "four")
    del last["duplicate"]
    partner = {"group": "python"} if talk.kind == "group" else {"user": talk.ann.email}
    (line,) = await conversations(talk.bob)
    expected = {**partner, "last_message": last, "last_seq": 4, "read_seq": 0, "unread": 3}
    assert line == expected
    await talk.mark(talk.bob, delivered_seq=4, read_seq=2)
    (line,) = await conversations(talk.bob)
    assert (line["last_seq"], line["read_seq"], line["unread"]) == (4, 2, 1)
    (line,) = await conversations(talk.ann)
    assert (line["last_seq"], line["read_seq"], line["unread"]) == (4, 0, 1)


async def test_conversations_come_newest_first(io_loop: Any, chat: Chat) -> None:
    ann, bob, eve = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "eve")]

    async def one_after_the_other(*steps: Any) -> None:
        for step in steps:
            await step
            await asyncio.sleep(0.002)

    assert await conversations(ann) == []
    await one_after_the_other(
        ann.say("1", user=bob.email), ann.create("python"), eve.say("2", user=ann.email)
    )
    lines = await conversations(ann)
    assert partners(lines) == [eve.email, "python", bob.email]
    assert lines[1] == {
        "group": "python",
        "last_message": None,
        "last_seq": 0,
        "read_seq": 0,
        "unread": 0,
    }
    await one_after_the_other(ann.say("3", group="python"), bob.say("4", user=ann.email))
    assert partners(await conversations(ann)) == [bob.email, "python", eve.email]
    await ann.call("POST", "/v1/groups/python/leave")
    assert partners(await conversations(ann)) == [bob.email, eve.email]


async def test_paging_shows_every_conversation_once(io_loop: Any, chat: Chat) -> None:
    ann = await chat.user("ann@example.org")
    # Some are active within the same millisecond: then the order must still be one.
    await asyncio.gather(*(ann.create(f"g{number}") for number in range(9)))
    await asyncio.gather(*(ann.say("hello", group=f"g{number}") for number in range(0, 9, 2)))
    everything = await conversations(ann)
    assert len(everything) == 9
    for limit in (1, 2, 4, 9):
        assert await page_through(ann, "/v1/me/conversations", limit) == everything
