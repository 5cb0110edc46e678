"""``chatd backup`` under load, and ``chatd restore``: nothing that was sent before is missing."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.chat import Chat
from tests.commands.office import Office
from tests.e2e.faults.device import Device, until


async def test_what_was_sent_before_a_backup_under_load_is_in_it(
    io_loop: Any, office: Office, tmp_path: Path
) -> None:
    """Seen to fail with the file copied without its log (``shutil.copy``)."""
    chat = Chat(office.server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with Device(ann) as sender:
        sending = asyncio.create_task(sender.keep_sending(to=bob.email))
        await until(lambda: sender.top("u:ann@example.org bob@example.org") > 50)
        before = sender.top("u:ann@example.org bob@example.org")
        file = tmp_path / "backup.db"
        told = await asyncio.to_thread(office.ask, "backup", str(file))
        after = sender.top("u:ann@example.org bob@example.org")
        assert before <= told["messages"] <= after + 100
        sending.cancel()
        await asyncio.wait([sending])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with sqlite3.connect(file) as db:
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM messages ORDER BY seq")]
    db.close()
    assert seqs == list(range(1, told["messages"] + 1))
    chat.close()


async def test_a_restored_store_goes_on_from_where_it_was(
    io_loop: Any, office: Office, tmp_path: Path
) -> None:
    chat = Chat(office.server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    async with ann.socket() as socket:
        await socket.say("kept", to=bob.email)
        epoch = socket.frames[0]["epoch"]
    file = str(tmp_path / "backup.db")
    assert office.ask("backup", file)["messages"] == 1
    await ann.say("lost", user=bob.email)
    assert "is in use by another chatd server" in office.refused("restore", file, "--replace")
    office.server.terminate()
    assert "exists: say --replace" in office.refused("restore", file)
    assert office.ask("restore", file, "--replace")["messages"] == 1
    chat.url = office.server.start()
    history = (await bob.call("GET", f"/v1/users/{ann.email}/messages")).body["items"]
    assert [one["text"] for one in history] == ["kept"]
    async with ann.socket() as socket:
        assert socket.frames[0]["epoch"] != epoch
        assert (await socket.say("goes on", to=bob.email))["seq"] == 2
    chat.close()


def test_the_store_that_a_link_leads_to_is_put_back_while_no_server_has_it(
    office: Office, tmp_path: Path
) -> None:
    """Seen to fail with the link's own name locked and replaced."""
    real = tmp_path / "disk" / "real.db"
    real.parent.mkdir()
    (office.folder / "chatd.db").symlink_to(real)
    office.ask("user", "add", "ann@example.org")
    file = str(tmp_path / "backup.db")
    office.ask("backup", file)
    office.server.start()
    office.ask("user", "add", "bob@example.org")
    assert "is in use by another chatd server" in office.refused("restore", file, "--replace")
    office.server.terminate()
    office.ask("restore", file, "--replace")
    assert (office.folder / "chatd.db").readlink() == real
    assert [one["email"] for one in office.ask("user", "list")] == ["ann@example.org"]


def test_a_place_that_can_not_be_written_is_named(office: Office, tmp_path: Path) -> None:
    office.ask("user", "add", "ann@example.org")
    for folder in (tmp_path / "nowhere", Path("/proc")):
        said = office.refused("backup", str(folder / "b.db"))
        assert f"{folder / 'b.db'} can't be written (" in said
        assert "name a folder that there is" in said


def test_a_lost_data_folder_is_made_again_from_a_backup(office: Office, tmp_path: Path) -> None:
    office.ask("user", "add", "ann@example.org")
    file = tmp_path / "backup.db"
    office.ask("backup", str(file))
    elsewhere = Office(tmp_path / "elsewhere")
    elsewhere.ask("restore", str(file))
    assert [one["email"] for one in elsewhere.ask("user", "list")] == ["ann@example.org"]
    elsewhere.server.start()
    elsewhere.server.close()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty, and no store of chatd's"),
        (b"SQLite format 3\0 but no more than that", "not a chatd database"),
        (b"something else entirely, and long enough to be looked at" * 10, "not a chatd database"),
    ],
)
def test_what_is_no_backup_leaves_the_store_as_it_is(
    office: Office, tmp_path: Path, content: bytes, sentence: str
) -> None:
    office.ask("user", "add", "ann@example.org")
    file = tmp_path / "no backup"
    file.write_bytes(content)
    assert sentence in office.refused("restore", str(file), "--replace")
    assert len(office.ask("user", "list")) == 1


def test_a_damaged_backup_is_refused(office: Office, tmp_path: Path) -> None:
    office.ask("user", "add", "ann@example.org")
    file = tmp_path / "backup.db"
    office.ask("backup", str(file))
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    file.write_bytes(content)
    refused = office.refused("restore", str(file), "--replace")
    assert "damaged" in refused or "can't be copied" in refused
    assert len(office.ask("user", "list")) == 1


def test_nothing_is_written_over_and_nothing_is_made_of_nothing(
    office: Office, tmp_path: Path
) -> None:
    file = tmp_path / "backup.db"
    assert "there is no store" in office.refused("backup", str(file))
    assert "there is no backup" in office.refused("restore", str(file))
    office.ask("user", "add", "ann@example.org")
    file.write_text("mine")
    assert "exists" in office.refused("backup", str(file))
    assert file.read_text() == "mine"
    assert "mongodump" in office.refused("backup", "x", "--storage", "mongodb://127.0.0.1/chatd")


def test_the_answer_is_for_people_too(office: Office, tmp_path: Path) -> None:
    office.ask("user", "add", "ann@example.org")
    done = office.start("backup", str(tmp_path / "backup.db"))
    assert "has 0 messages" in done.stdout
    assert {one.name for one in tmp_path.iterdir()} == {"data", "backup.db"}
