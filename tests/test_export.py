"""The document of an export, as it is written while it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError

from chatd.errors import RateLimited, Unavailable
from chatd.export import Exports
from chatd.models import Draft, Message, User, pair_conversation
from chatd.schemas import ExportView
from chatd.storage.memory import MemoryStorage
from tests.chat import Chat, start_app

ANN = User("1", "ann@example.org", "hash", 1)
PAIR = pair_conversation(ANN.email, "bob@example.org")


async def storage_with(count: int) -> MemoryStorage:
    storage = MemoryStorage()
    await storage.start()
    await storage.create_user(ANN)
    await storage.append(
        [Draft(f"id {number}", PAIR, ANN.email, "x" * 1000, 1) for number in range(count)]
    )
    return storage


@pytest.mark.parametrize("count", [0, 1, 500, 1001])
async def test_it_is_one_document_however_long(io_loop: Any, count: int) -> None:
    exports = Exports(await storage_with(count))
    found = json.loads("".join([piece async for piece in exports.of(ANN)]))
    view = ExportView.model_validate(found)
    assert sum(len(one.messages) for one in view.conversations) == count


async def test_one_at_a_time_for_each_account(io_loop: Any) -> None:
    """It costs more to read than to ask for."""
    exports = Exports(await storage_with(1))
    first = exports.of(ANN)
    await anext(first)
    with pytest.raises(RateLimited):
        await anext(exports.of(ANN))
    other = exports.of(User("2", "bob@example.org", "hash", 1))
    assert await anext(other)
    await other.aclose()
    await first.aclose()
    assert [piece async for piece in exports.of(ANN)]


async def test_half_a_document_is_not_taken_for_a_whole_one(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store is out in the middle, the connection ends.

    Seen to fail with the pieces just ending there.
    """
    app = await start_app(tmp_path)
    chat = Chat(await app.start())
    ann = await chat.user(ANN.email)
    bob = await chat.user("bob@example.org")
    await ann.say("hello", user=bob.email)
    await app.storage.append(
        [Draft(f"id {number}", PAIR, ANN.email, "x" * 1000, 1) for number in range(600)]
    )
    history, asked = app.storage.history, 0

    async def failing(*args: Any, **kwargs: Any) -> list[Message]:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise Unavailable("put in by hand")
        return await history(*args, **kwargs)

    monkeypatch.setattr(app.storage, "history", failing)
    with pytest.raises(HTTPStreamClosedError):
        await ann.call("GET", "/v1/me/export")
    monkeypatch.setattr(app.storage, "history", history)
    assert (await ann.call("GET", "/v1/me/export")).status == 200
    chat.close()
    await app.stop()
