"""``chatd doctor`` finds what should not be, in every kind of store, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from chatd.doctor import Doctor
from chatd.models import Draft, Group, User, group_conversation, pair_conversation
from chatd.storage import open_storage
from chatd.storage.base import Storage
from tests.chat import Chat
from tests.commands.office import Office
from tests.e2e.faults.device import Device, until

ANN, BOB = "ann@example.org", "bob@example.org"
PAIR, GROUP = pair_conversation(ANN, BOB), group_conversation("python")


async def fill(storage: Storage) -> None:
    for number, email in enumerate((ANN, BOB)):
        await storage.create_user(User(f"id {number}", email, "hash", 1))
    await storage.create_group(Group("python", None, ANN, 1))
    await storage.join("python", BOB, 2)
    drafts = [
        Draft(f"{conversation} {number}", conversation, ANN, "hello", 3)
        for conversation in (PAIR, GROUP)
        for number in range(7)
    ]
    await storage.append(drafts)


async def test_a_sound_store_has_nothing_to_be_found(
    io_loop: Any, storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.doctor._PAGE", 3)
    storage = open_storage(storage_url, tmp_path)
    await storage.start()
    await fill(storage)
    report = await Doctor(storage).examine()
    assert (report.users, report.groups, report.conversations, report.messages) == (2, 1, 2, 14)
    assert report.findings == []
    await storage.close()


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        ("DELETE FROM messages WHERE id = 'g:python 3'", "g:python", "has 5 where 4 should be"),
        (
            "UPDATE marks SET delivered_seq = 9, read_seq = 1 WHERE user = 'bob@example.org'",
            "bob@example.org in g:python",
            "has read up to 1 and been delivered up to 9 of 7",
        ),
        (
            "UPDATE marks SET read_seq = 2 WHERE user = 'bob@example.org'",
            "bob@example.org in g:python",
            "has read up to 2 and been delivered up to 0 of 7",
        ),
        (
            "DELETE FROM users WHERE email = 'ann@example.org'",
            "g:python",
            "has ann@example.org in it",
        ),
        ("DELETE FROM users WHERE email = 'ann@example.org'", "g:python", "messages of ann"),
        (
            "DELETE FROM users WHERE email = 'ann@example.org'",
            str(PAIR),
            "has ann@example.org in it",
        ),
        (
            """
            DELETE FROM marks WHERE user = 'bob@example.org'
            AND conversation = (SELECT number FROM conversations WHERE key LIKE 'u:%')
            """,
            str(PAIR),
            "has no marks of bob@example.org",
        ),
        ("DELETE FROM groups", "g:python", "there is no such group"),
        ("DROP INDEX marks_by_user", "the store", "marks_by_user"),
        (
            "UPDATE users SET password_hash = '!erased-1@erased.invalid' WHERE email LIKE 'ann%'",
            ANN,
            "is being erased",
        ),
        ("UPDATE groups SET members = 5", "python", "counts 5 members, and has 2"),
        ("UPDATE groups SET messages = 9", "python", "counts 9 messages"),
    ],
)
async def test_what_is_damaged_is_found_and_how_to_mend_it_is_said(
    io_loop: Any, office: Office, damage: str, where: str, what: str
) -> None:
    storage = open_storage("sqlite:chatd.db", office.folder)
    await storage.start()
    await fill(storage)
    await storage.close()
    with sqlite3.connect(office.folder / "chatd.db") as db:
        db.execute(damage)
    db.close()
    done = office.run("doctor")
    assert done.exit_code == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{where}: ")]
    mend = ("backup", "CREATE INDEX", "chatd erase", "chatd group delete")
    assert any(what in line and any(word in line for word in mend) for line in lines), done.stdout


async def test_what_was_taken_away_on_purpose_is_no_finding(
    io_loop: Any, storage_url: str, tmp_path: Path
) -> None:
    storage = open_storage(storage_url, tmp_path)
    await storage.start()
    await fill(storage)
    await storage.prune(PAIR, 9, 3)
    nobody = User.nobody("3", "erased-1", 1)
    await storage.create_user(nobody)
    for conversation in (PAIR, GROUP):
        await storage.reassign(conversation, ANN, nobody.email, blank=False)
    await storage.leave("python", ANN)
    await storage.delete_user(ANN)
    await storage.create_group(Group("gone", None, BOB, 1))
    await storage.append([Draft("gone", group_conversation("gone"), BOB, "bye", 3)])
    await storage.prune(group_conversation("gone"), 9, 3)
    await storage.delete_group("gone")
    assert (await Doctor(storage).examine()).findings == []
    await storage.close()


async def test_a_store_that_is_being_written_to_is_as_sound(io_loop: Any, office: Office) -> None:
    chat = Chat(office.server.start())
    ann, bob = await chat.user(ANN), await chat.user(BOB)
    await ann.create("python")
    await bob.join("python")
    async with Device(ann) as one, Device(bob) as other:
        talk = [
            asyncio.create_task(one.keep_sending(group="python")),
            asyncio.create_task(other.keep_sending(to=ANN)),
        ]
        await until(lambda: one.top(GROUP) > 50)
        for _ in range(5):
            assert (await asyncio.to_thread(office.ask, "doctor"))["findings"] == []
        for task in talk:
            task.cancel()
        await asyncio.wait(talk)
    chat.close()


def test_a_key_file_that_others_may_read_is_found(office: Office) -> None:
    office.server.start()
    assert "All is well." in office.run("doctor").stdout
    (office.folder / "keys.json").chmod(0o644)
    done = office.run("doctor")
    assert done.exit_code == 1
    assert "chmod 600" in done.stdout
