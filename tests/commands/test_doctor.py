"""``chatd doctor`` finds what should not be, in every kind of store, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from chatd.doctor import Doctor, Report
from chatd.errors import Unavailable
from chatd.models import Draft, Group, Message, User, group_conversation, pair_conversation
from chatd.storage import open_storage
from chatd.storage.base import Storage
from tests.chat import Chat, start_app
from tests.commands.office import Office
from tests.e2e.faults.device import Device, until
from tests.storage.test_sqlite_check import page_of

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
        (
            "UPDATE conversations SET key = 'u:justone' WHERE key LIKE 'u:%'",
            "u:justone",
            "is the name of no conversation",
        ),
        (
            "UPDATE conversations SET key = 'python' WHERE key LIKE 'g:%'",
            "python",
            "is the name of no conversation",
        ),
        (
            "UPDATE marks SET own_after_read = 3 WHERE user = 'bob@example.org'",
            "the store",
            "bob@example.org in g:python counts 3 messages of their own as not read, and has 0",
        ),
        (
            "DELETE FROM conversations WHERE key LIKE 'u:%'",
            "the store",
            "the table messages has 7 rows of conversation 2, of which there is none",
        ),
        ("DELETE FROM store", "the store", "the table store is empty"),
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
    mend = (
        "backup",
        "CREATE INDEX",
        "INSERT INTO store",
        "UPDATE marks",
        "chatd erase",
        "chatd group delete",
    )
    assert any(what in line and any(word in line for word in mend) for line in lines), done.stdout


async def test_what_was_found_is_told_where_the_rest_can_not_be_read(
    io_loop: Any, office: Office
) -> None:
    """Seen to fail with a store that can't be read taken for one that is not there."""
    storage = open_storage("sqlite:chatd.db", office.folder)
    await storage.start()
    await fill(storage)
    await storage.close()
    path = office.folder / "chatd.db"
    at = page_of(path, "messages")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 512)
    done = office.run("doctor")
    assert (done.exit_code, done.stderr) == (1, "")
    first, *found = done.stdout.splitlines()
    assert first.startswith("Looked at 2 users, ")
    assert found[0].startswith("the store: SQLite says")
    assert found[-1].startswith("the store: can't be read any further (database disk image is")


async def test_a_store_that_is_just_not_there_is_no_finding(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with every failure taken for a finding."""
    storage = open_storage("memory:", tmp_path)
    await storage.start()

    async def out(**_: object) -> list[Group]:
        raise Unavailable("put in by hand")

    monkeypatch.setattr(storage, "list_groups", out)
    with pytest.raises(Unavailable):
        await Doctor(storage).examine()


@pytest.mark.parametrize("before", ["list_users", "places"])
async def test_somebody_who_is_erased_at_this_moment_is_no_finding(
    io_loop: Any, storage_url: str, tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure goes on to its end while the doctor looks.

    Seen to fail with places taken for missing that are looked for under the old name, and with
    what is said of users said before the end.
    """
    storage = open_storage(storage_url, tmp_path)
    await storage.start()
    await fill(storage)
    nobody = User.nobody("3", "erased-1", 1)
    await storage.create_user(nobody)
    await storage.leave("python", ANN)
    await storage.set_password(ANN, (await stored(storage, ANN)).hash_erased_for(nobody), 1)
    proceed = getattr(storage, before)

    async def erase_first(*args: Any, **options: Any) -> Any:
        found = await proceed(*args, **options) if before == "list_users" else None
        monkeypatch.undo()
        for conversation in (PAIR, GROUP):
            await storage.reassign(conversation, ANN, nobody.email, blank=False)
        await storage.delete_user(ANN)
        return await proceed(*args, **options) if found is None else found

    monkeypatch.setattr(storage, before, erase_first)
    assert (await Doctor(storage).examine()).findings == []
    await storage.close()


async def stored(storage: Storage, email: str) -> User:
    user = await storage.user_by_email(email)
    assert user is not None
    return user


async def test_a_pair_that_is_half_way_to_its_new_name_is_no_finding_while_it_goes_on(
    io_loop: Any, storage_url: str, tmp_path: Path
) -> None:
    """Its messages come before its places.

    Seen to fail with places taken for missing that are on the way.
    """
    storage = open_storage(storage_url, tmp_path)
    await storage.start()
    await fill(storage)
    nobody = User.nobody("3", "erased-1", 1)
    await storage.create_user(nobody)
    renamed = pair_conversation(nobody.email, BOB)
    await storage.load([Message("moved", renamed, 1, nobody.email, "hello", 3)])
    await storage.set_password(ANN, (await stored(storage, ANN)).hash_erased_for(nobody), 1)
    assert (await Doctor(storage, lambda email: email == ANN).examine()).findings == []
    (broken_off,) = (await Doctor(storage).examine()).findings
    assert (broken_off.where, broken_off.what) == (ANN, "is being erased")
    assert broken_off.mend == f"if that broke off, run chatd erase {ANN}"
    await storage.delete_user(ANN)
    found = (await Doctor(storage).examine()).findings
    assert (renamed, f"has no marks of {BOB}") in [(one.where, one.what) for one in found]
    await storage.close()


async def test_a_running_server_says_nothing_of_whom_it_erases(
    io_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the doctor told nothing of erasures."""
    app = await start_app(tmp_path)
    chat = Chat(await app.start())
    ann, bob = await chat.user(ANN), await chat.user(BOB)
    await ann.say("hello", user=bob.email)
    reassign = app.storage.reassign
    reports: list[Report] = []

    async def examine_first(*args: Any, **options: Any) -> None:
        reports.append(await app.administration.examine())
        await reassign(*args, **options)

    monkeypatch.setattr(app.storage, "reassign", examine_first)
    await app.administration.erase_user(ANN)
    assert [one.findings for one in reports] == [[]]
    chat.close()
    await app.stop()


async def test_a_group_that_is_deleted_at_this_moment_is_no_finding(
    io_loop: Any, storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the texts that were read before taken for left."""
    storage = open_storage(storage_url, tmp_path)
    await storage.start()
    await fill(storage)
    group = storage.group

    async def delete_first(name: str) -> Group | None:
        monkeypatch.undo()
        await storage.prune(GROUP, 9, 100)
        await storage.delete_group(name)
        return await group(name)

    monkeypatch.setattr(storage, "group", delete_first)
    assert (await Doctor(storage).examine()).findings == []
    await storage.close()


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
    for running in (True, False):
        if not running:
            office.server.terminate()
        done = office.run("doctor")
        assert (done.exit_code, done.stderr) == (1, "")
        assert "chmod 600" in done.stdout
        assert done.stdout.startswith("Looked at 0 users")
