"""Old messages go, and clients hear of it as of any other gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatd.errors import Unavailable
from chatd.models import Conversation, Draft, group_conversation, now_ms, pair_conversation
from chatd.retention import Ages, Retention, remove_messages
from chatd.storage.memory import MemoryStorage
from tests.chat import Chat, eventually, start_app, texts

DAY = 24 * 60 * 60 * 1000
ANN, BOB = "ann@example.org", "bob@example.org"
PAIR = pair_conversation(ANN, BOB)
CLUB, NEWS = group_conversation("club"), group_conversation("news")


class Notes:
    """What the retention tells."""

    def __init__(self) -> None:
        self.removed = 0
        self.failures: list[str] = []

    def messages_removed(self, count: int) -> None:
        self.removed += count

    def failed(self, event: str, error: BaseException) -> None:
        self.failures.append(event)


class Forgetful(MemoryStorage):
    """Out when it is asked first."""

    asked = 0

    async def conversations(self, **options: Any) -> list[Conversation]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("put in by hand")
        return await super().conversations(**options)


async def write(storage: MemoryStorage, conversation: Conversation, *days_ago: float) -> None:
    for days in days_ago:
        at = now_ms() - round(days * DAY)
        await storage.append([Draft(f"{conversation} {days}", conversation, ANN, "text", at)])


async def left(storage: MemoryStorage, conversation: Conversation) -> list[int]:
    return [one.seq for one in await storage.history(conversation, limit=9999)]


async def filled() -> MemoryStorage:
    storage = MemoryStorage()
    await storage.start()
    for conversation in (PAIR, CLUB, NEWS):
        await write(storage, conversation, 40, 20, 5, 1)
    return storage


async def test_each_conversation_keeps_as_many_days_as_it_may(io_loop: Any) -> None:
    storage, notes = await filled(), Notes()
    ages = Ages(30, {"news": 3, "club": 0})
    assert await Retention(storage, ages, notes).remove_old() == 4
    assert await left(storage, PAIR) == [2, 3, 4]
    assert await left(storage, CLUB) == [1, 2, 3, 4]
    assert await left(storage, NEWS) == [4]
    assert notes.removed == 4
    assert await Retention(storage, ages, notes).remove_old() == 0


async def test_many_go_a_few_at_a_time(io_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.retention._AT_ONCE", 3)
    storage = MemoryStorage()
    await storage.start()
    await write(storage, CLUB, *range(40, 30, -1), 1)
    assert await remove_messages(storage, CLUB, now_ms() - 10 * DAY) == 10
    assert await left(storage, CLUB) == [11]
    assert await remove_messages(storage, CLUB) == 1
    assert await remove_messages(storage, CLUB) == 0


async def test_where_all_is_kept_it_ends_at_once(io_loop: Any) -> None:
    storage = await filled()
    await Retention(storage, Ages(0, {"news": 0}), Notes()).run_forever()
    assert await left(storage, NEWS) == [1, 2, 3, 4]


async def test_an_outage_is_made_up_for(io_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.retention._ROUND_SECONDS", 0.01)
    storage, notes = Forgetful(), Notes()
    await storage.start()
    await write(storage, CLUB, 40, 1)
    task = io_loop.asyncio_loop.create_task(Retention(storage, Ages(30), notes).run_forever())
    await eventually(lambda: notes.removed == 1)
    task.cancel()
    assert notes.failures == ["retention.failed"]


async def test_who_comes_back_hears_of_a_gap(io_loop: Any, tmp_path: Path) -> None:
    """And gets everything behind it, however much is gone in front.

    Seen to fail with the replay's end counted from where it starts, not by what it has written.
    """
    app = await start_app(tmp_path, limits__replay=3)
    chat = Chat(await app.start())
    ann, bob = await chat.user(ANN), await chat.user(BOB)
    for number in range(1, 9):
        await ann.say(f"text {number}", user=bob.email)
    fifth = (await app.storage.history(PAIR, limit=9))[4]
    # Times are the server's own, and these eight are not a day apart.
    await app.storage.load(
        [
            type(one)(**{**_fields(one), "sent_at": one.seq})
            for one in await app.storage.history(PAIR, limit=9)
        ]
    )
    assert await remove_messages(app.storage, PAIR, fifth.seq) == 4
    async with bob.socket() as socket:
        gaps = [(one["from_seq"], one["to_seq"]) for one in socket.of("gap")]
        assert gaps == [(1, 4), (8, 8)]
        assert texts(socket.of("message")) == ["text 5", "text 6", "text 7"]
    answer = await bob.call("GET", f"/v1/users/{ann.email}/messages?after_seq=0")
    assert [one["seq"] for one in answer.body["items"]] == [5, 6, 7, 8]
    assert answer.body["has_more"] is False
    chat.close()
    await app.stop()


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
