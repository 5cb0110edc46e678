"""Nothing is told twice, before what it is about, or behind a good-bye."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from chatd.app import App
from chatd.cluster.bus import Bus
from chatd.models import ReceiptKind
from chatd.news import PulseNews, ReceiptNews
from tests.chat import Socket, eventually
from tests.cluster.conftest import Late, Post, Team


async def test_who_is_heard_by_two_ways_is_seen_to_type_once(io_loop: Any, team: Team) -> None:
    """A server that has both sides listens to the shards of both.

    Seen to fail with typing told to the shards of the whole conversation.
    """
    one, two, _ = team.chats
    ann, there = await one.user("ann@example.org"), await two.user("ann@example.org")
    bob = await two.user("bob@example.org")
    async with ann.socket() as a, there.socket(), bob.socket() as b:
        await a.send(type="typing", to=bob.email)
        await a.say("hello", to=bob.email)
        await b.next("message")
        await team.heard(0)
        await b.settle()
        assert len(b.of("typing")) == 1


def _watch(monkeypatch: pytest.MonkeyPatch, app: App, name: str, what: object) -> asyncio.Event:
    """Set once the server counts something by this name."""
    event = asyncio.Event()

    def count(counted: object) -> None:
        if what in (None, counted):
            event.set()

    monkeypatch.setattr(app.metrics, name, count)
    return event


async def _heal(team: Team, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a server look for all that it may have missed."""
    with monkeypatch.context() as patch:
        healed = _watch(patch, team.apps[number], "healed", None)
        team.cluster(number).heard_late()
        await healed.wait()


async def test_receipts_of_before_somebody_came_are_not_told_when_a_server_heals(
    io_loop: Any, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were lost since are.

    Seen to fail with ``Healer._concerns`` asking only whether the sender is here.
    """
    monkeypatch.setattr("chatd.cluster.healing._LEEWAY_MS", 0)
    one, two, three = team.chats
    ann, bob = await one.user("ann@example.org"), await two.user("bob@example.org")
    await ann.create("club")
    await bob.join("club")
    async with bob.socket() as b:
        async with ann.socket() as a:
            for target in ({"to": bob.email}, {"group": "club"}):
                await a.say("hello", **target)
                await a.next("receipt")
        there = await three.user(ann.email)
        async with there.socket() as a:
            await _heal(team, 2, monkeypatch)
            await a.settle()
            assert a.of("receipt") == []
            sent = await a.say("again", to=bob.email)
            await a.next("receipt")
            with post.cut():
                await b.send(type="read", **{"from": ann.email}, seq=sent["seq"])
                await eventually(lambda: ReceiptKind.READ in _receipts_told(post))
            await _heal(team, 2, monkeypatch)
            assert (await a.next("receipt"))["kind"] == "read"


def _receipts_told(post: Post) -> list[ReceiptKind]:
    return [news.advance.kind for _, news in post.told if isinstance(news, ReceiptNews)]


class Unanswered:
    """Ann's third message, whose answer waits for what Bob wrote before on another server."""

    def __init__(self, a: Socket, history: Late) -> None:
        self._a = a
        self._history = history

    @classmethod
    async def begin(
        cls, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch, a: Socket, b: Socket
    ) -> Self:
        history = Late.put(monkeypatch, team.apps[0].storage, "history", only=["after_seq"])
        with post.cut():
            await b.say("2", to="ann@example.org")
        await a.send(type="send", to="bob@example.org", text="3", client_id="three")
        await history.made.wait()
        return cls(a, history)

    async def told(self) -> list[str]:
        """What Ann was told by the time that she hears of a receipt, in order."""
        await self._a.settle()
        self._history.go.set()
        await eventually(lambda: self._a.of("receipt")[-1]["seq"] == 3)
        return [frame["type"] for frame in self._a.of("message", "sent", "receipt")]


async def test_a_receipt_waits_until_its_message_is_answered(
    io_loop: Any, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is found in the store, as something was lost.

    Seen to fail with receipts told when they are heard; and with such as are told when found.
    """
    one, two, _ = team.chats
    ann, bob = await one.user("ann@example.org"), await two.user("bob@example.org")
    async with ann.socket() as a, bob.socket() as b:
        await a.say("1", to=bob.email)
        await a.next("receipt")
        heard = _watch(monkeypatch, team.apps[0], "news_heard", "ReceiptNews")
        unanswered = await Unanswered.begin(team, post, monkeypatch, a, b)
        await heard.wait()
        await _heal(team, 0, monkeypatch)
        assert await unanswered.told() == ["sent", "receipt", "message", "sent", "receipt"]


async def test_so_does_one_of_what_was_read_here(
    io_loop: Any, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with receipts told when they are stored."""
    one, two, _ = team.chats
    ann, bob = await one.user("ann@example.org"), await two.user("bob@example.org")
    here = await one.user(bob.email)
    async with ann.socket() as a, bob.socket() as b:
        await a.say("1", to=bob.email)
        await a.next("receipt")
        unanswered = await Unanswered.begin(team, post, monkeypatch, a, b)
        with post.cut():
            answer = await here.call("POST", f"/v1/users/{ann.email}/receipts", {"read_seq": 3})
            assert answer.status == 204, answer
            assert (await unanswered.told())[:4] == ["sent", "receipt", "message", "sent"]


@pytest.fixture
def quick_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.cluster.cluster.PULSE_SECONDS", 0.02)


async def test_no_pulse_follows_a_good_bye(
    io_loop: Any, quick_pulses: None, team: Team, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would take it that the server is there again.

    Seen to fail with ``Cluster.close`` that leaves the pulse going.
    """
    drain = Bus.drain

    async def drain_slowly(bus: Bus) -> None:
        await drain(bus)
        await asyncio.sleep(0.2)

    with monkeypatch.context() as patch:
        patch.setattr(Bus, "drain", drain_slowly)
        await team.apps[0].stop()
    gone = team.cluster(0).server
    pulses = [news for server, news in post.told if server == gone and isinstance(news, PulseNews)]
    assert pulses[-1].leaving
