"""``chatd export`` and ``erase``, ``user delete`` and ``group delete``, with the server running and
without."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from typing import Any, Final

import pytest

from tests.chat import PASSWORD, PATIENCE, Chat, Json, User, texts
from tests.commands.office import Office

_DYING: Final = """
import os
from chatd.cli import main
from chatd.storage.sqlite import SqliteStorage

SqliteStorage.reassign = lambda *_, **__: os.kill(os.getpid(), 9)
main()
"""


async def talk(chat: Chat) -> tuple[User, User]:
    """Ann and Bob write to each other, and in a group of Ann's."""
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("club")
    await bob.join("club")
    await ann.say("hello", user=bob.email)
    await bob.say("hi", user=ann.email)
    await ann.say("to all", group="club")
    return ann, bob


async def read(user: User, path: str) -> list[tuple[str, str]]:
    answer = await user.call("GET", f"{path}/messages")
    assert answer.status == 200, answer
    return [(one["from"], one["text"]) for one in answer.body["items"]]


@pytest.mark.parametrize("running", [True, False])
async def test_a_person_is_exported_and_erased(io_loop: Any, office: Office, running: bool) -> None:
    chat = Chat(office.server.start())
    ann, bob = await talk(chat)
    if not running:
        office.server.terminate()
    written = office.folder / "ann.json"
    done = office.run("export", "ann@example.org", "--to", str(written))
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    everything = json.loads(written.read_text("utf-8"))
    assert everything["user"]["email"] == ann.email
    assert [texts(one["messages"]) for one in everything["conversations"]] == [
        ["hello", "hi"],
        ["to all"],
    ]
    assert "exists" in office.refused("export", "ann@example.org", "--to", str(written))
    assert json.loads(office.run("export", ann.email).stdout)["user"] == everything["user"]

    erased = office.ask("erase", "Ann@example.org", "--yes")
    author = erased["author"]
    assert erased["email"] == ann.email
    assert len(erased["remains"]) == 3
    assert "no account" in office.refused("user", "show", ann.email)
    assert "no account" in office.refused("erase", author, "--yes")
    assert [one["email"] for one in office.ask("user", "list")] == [bob.email]
    assert office.ask("group", "members", "club")[0]["email"] == bob.email
    if not running:
        chat.close()
        chat = Chat(office.server.start())
        bob = await chat.user(bob.email)
    assert await read(bob, f"/v1/users/{author}") == [(author, "hello"), (bob.email, "hi")]
    assert await read(bob, "/v1/groups/club") == [(author, "to all")]
    assert office.ask("doctor")["findings"] == []
    chat.close()


async def test_a_deleted_user_leaves_no_texts(io_loop: Any, office: Office) -> None:
    chat = Chat(office.server.start())
    ann, bob = await talk(chat)
    async with bob.socket() as his, ann.socket() as hers:
        author = office.ask("user", "delete", ann.email, "--yes")["author"]
        assert await hers.closed() == 4401
        assert (await his.next("left"))["user"] == ann.email
    assert await read(bob, f"/v1/users/{author}") == [(author, ""), (bob.email, "hi")]
    assert await read(bob, "/v1/groups/club") == [(author, "")]
    chat.close()


async def test_a_deleted_group_is_gone_for_its_members_at_once(
    io_loop: Any, office: Office
) -> None:
    chat = Chat(office.server.start())
    ann, bob = await talk(chat)
    async with bob.socket() as everywhere, ann.socket("/group/club/connect") as only_there:
        deleted = office.ask("group", "delete", "Club", "--yes")
        assert deleted == {"name": "club", "messages": 1}
        left = await everywhere.next("left")
        assert (left["group"], left["user"]) == ("club", bob.email)
        assert await only_there.closed() == 4403
        refused = await everywhere.say("still there?", group="club")
        assert refused["code"] == "unknown_group"
    assert (await ann.call("GET", "/v1/groups/club/messages")).status == 404
    assert office.ask("group", "list") == []
    assert "no group" in office.refused("group", "delete", "club", "--yes")
    # Made again, it goes on behind what was: who had read up to there misses nothing.
    await bob.create("club")
    assert (await bob.say("anew", group="club"))["seq"] == 2
    items = (await bob.call("GET", "/v1/groups/club/messages")).body["items"]
    assert texts(items) == ["", "anew"]
    assert office.ask("doctor")["findings"] == []
    chat.close()


async def test_a_group_is_deleted_without_a_server(io_loop: Any, office: Office) -> None:
    chat = Chat(office.server.start())
    await talk(chat)
    office.server.terminate()
    chat.close()
    assert office.ask("group", "delete", "club", "--yes") == {"name": "club", "messages": 1}
    assert office.ask("group", "list") == []


@pytest.mark.parametrize(
    "command",
    [("erase", "ann@example.org"), ("user", "delete", "ann@example.org"), ("group", "delete", "x")],
)
def test_what_can_not_be_undone_is_asked_about(office: Office, command: tuple[str, ...]) -> None:
    office.ask("user", "add", "ann@example.org", "--password-stdin", stdin=PASSWORD)
    for answer in ("n\n", "\n", ""):
        done = office.run(*command, stdin=answer)
        assert done.exit_code == 1
        assert "Aborted" in done.stderr
    assert office.ask("user", "show", "ann@example.org")["disabled"] is False


async def test_an_erasure_that_broke_off_is_finished_at_the_next_start(
    io_loop: Any, office: Office
) -> None:
    """It is killed when it comes to the first conversation.

    Seen to fail with ``finish_in_time`` left out of ``App._open``.
    """
    chat = Chat(office.server.start())
    ann, bob = await talk(chat)
    office.server.terminate()
    died = office.start("erase", ann.email, "--yes", program=("-c", _DYING))
    assert died.returncode == -signal.SIGKILL, died
    chat.close()

    chat = Chat(office.server.start())
    bob = await chat.user(bob.email)
    found: list[Json] = []
    async with asyncio.timeout(PATIENCE):
        while not any("erased" in one.get("user", "") for one in found):
            found = (await bob.call("GET", "/v1/me/conversations")).body["items"]
    assert "no account" in office.refused("user", "show", ann.email)
    assert office.ask("doctor")["findings"] == []
    chat.close()
