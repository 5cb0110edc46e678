"""``chatd copy``, as an administrator types it: between stores, dumps and servers that run."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from pymongo import MongoClient

from chatd.models import User
from tests.chat import PASSWORD, Chat
from tests.commands.office import Office
from tests.copies import COUNTS, everything, fill, fill_long, opened, seen
from tests.e2e.server import Server
from tests.storage.samples import ANN, ANN_AND_BOB, BOB, draft

LONG: Final = 20_000
PATIENCE: Final = 60
_FOREGROUND: Final = """
import signal
from chatd.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main(prog_name="chatd")
"""
"""A command that heeds Ctrl-C, wherever the tests run: programs in a shell's background don't."""


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Office]:
    """A data folder whose server, once it is started, keeps everything in memory."""
    office = Office(tmp_path / "memory")
    office.server = Server(office.folder, storage="memory:")
    yield office
    office.server.close()


def arguments(source: str, target: str, *others: str) -> list[str]:
    return ["copy", "--from", source, "--to", target, *others]


async def made(office: Office, url: str = "sqlite:chatd.db") -> dict[str, Any]:
    """Fill a store; all that is seen of it."""
    async with opened(url, office.folder) as storage:
        await fill(storage)
        return await seen(storage)


async def found(office: Office, url: str) -> dict[str, Any]:
    async with opened(url, office.folder) as storage:
        return await seen(storage)


# -- between stores and dumps ----------------------------------------------------------------------


@pytest.mark.mongod
async def test_a_store_goes_everywhere_and_back(
    io_loop: Any, office: Office, mongo_url: str, tmp_path: Path
) -> None:
    first = await made(office)
    dump = f"dump:{tmp_path / 'chat.dump'}"
    ends = ["sqlite:chatd.db", mongo_url, "sqlite:back.db", dump, "sqlite:last.db"]
    told = []
    for source, target in pairwise(ends):
        told.append(office.ask(*arguments(source, target)))
        if target != dump:
            assert await found(office, target) == first
    assert {one["checksum"] for one in told} == {told[0]["checksum"]}
    for one in told:
        assert {name: one[name] for name in COUNTS} == COUNTS
        assert one["seconds"] > 0
        assert one.keys() == {*COUNTS, "checksum", "seconds"}
    assert not list(office.folder.glob("keys*")), "keys are no part of a store"


async def test_people_are_told_what_was_copied(io_loop: Any, office: Office) -> None:
    await made(office)
    done = office.run(*arguments("sqlite:chatd.db", "sqlite:other.db"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Copied 4 users, 2 groups, 541 messages, 8 places, 2 tokens in" in done.stdout
    assert re.search(r"both are the same \(SHA-256 [0-9a-f]{64}\)", done.stdout)
    assert str(office.folder / "keys.json") in done.stdout


async def test_a_bar_shows_how_far_it_is_at_a_terminal(io_loop: Any, office: Office) -> None:
    await made(office)
    terminal, its_end = pty.openpty()
    with popen(office, *arguments("sqlite:chatd.db", "sqlite:o.db", "--json"), at=its_end) as copy:
        stdout, _ = await asyncio.to_thread(copy.communicate, timeout=PATIENCE)
    os.close(its_end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert re.search(r"Copying .*100%", shown), shown
    assert re.search(r"Comparing .*100%", shown), shown
    assert msgspec.json.decode(stdout)["messages"] == 541


def popen(office: Office, *arguments: str, at: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """A command under way, its standard error at a terminal or in a pipe."""
    command = [sys.executable, "-c", _FOREGROUND, *arguments, "--data-dir", str(office.folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=at)


# -- what breaks off -------------------------------------------------------------------------------


@pytest.mark.full("mongo")
@pytest.mark.parametrize(
    ("to_mongo", "by"),
    [
        pytest.param(False, signal.SIGKILL, id="sqlite-killed"),
        pytest.param(False, signal.SIGINT, id="sqlite-ended"),
        pytest.param(True, signal.SIGKILL, id="mongo-killed", marks=pytest.mark.mongod),
    ],
)
async def test_a_copy_that_is_ended_goes_on_where_it_was(
    io_loop: Any,
    office: Office,
    request: pytest.FixtureRequest,
    to_mongo: bool,
    by: signal.Signals,
) -> None:
    """Seen to fail with the first record of each page passed over, there or not."""
    target = str(request.getfixturevalue("mongo_url")) if to_mongo else "sqlite:other.db"
    async with opened("sqlite:chatd.db", office.folder) as storage:
        await fill_long(storage, LONG)
        expected = await everything(storage)
    count = counter(office, target)
    with popen(office, *arguments("sqlite:chatd.db", target)) as copy:
        while await asyncio.to_thread(count) < LONG // 20:
            assert copy.poll() is None, "the copy was over before it could be ended"
        copy.send_signal(by)
        _, stderr = await asyncio.to_thread(copy.communicate, timeout=PATIENCE)
    if by is signal.SIGINT:
        assert copy.returncode == 1
        assert len(stderr.splitlines()) == 1
        assert b"chatd: ended by Ctrl-C; " in stderr
        assert b"--resume goes on with it" in stderr
    assert count() < LONG
    assert "is not empty; if a copy to it broke off, --resume" in office.refused(
        *arguments("sqlite:chatd.db", target)
    )
    told = office.ask(*arguments("sqlite:chatd.db", target, "--resume"))
    assert told["messages"] == LONG + 2
    async with opened(target, office.folder) as storage:
        assert await everything(storage) == expected
        assert await storage.check() == []


def counter(office: Office, url: str) -> Callable[[], int]:
    """Counts the messages of a store that somebody else is writing."""

    def in_sqlite() -> int:
        path = office.folder / url.removeprefix("sqlite:")
        if not path.exists():
            return 0
        db = sqlite3.connect(path)
        try:
            return int(db.execute("SELECT count(*) FROM messages").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # its tables are being made
        finally:
            db.close()

    def in_mongo() -> int:
        with MongoClient[dict[str, Any]](url) as client:
            return client.get_default_database()["messages"].count_documents({})

    return in_sqlite if url.startswith("sqlite:") else in_mongo


async def test_a_dump_that_is_ended_leaves_nothing_and_begins_anew(
    io_loop: Any, office: Office, tmp_path: Path
) -> None:
    async with opened("sqlite:chatd.db", office.folder) as storage:
        await fill_long(storage, LONG)
    dump = tmp_path / "chat.dump"
    aside = tmp_path / "chat.dump.part"
    with popen(office, *arguments("sqlite:chatd.db", f"dump:{dump}")) as copy:
        while not has_some(aside):
            assert copy.poll() is None, "the dump was over before it could be ended"
        copy.send_signal(signal.SIGINT)
        _, stderr = await asyncio.to_thread(copy.communicate, timeout=PATIENCE)
    assert copy.returncode == 1
    assert b"ended by Ctrl-C; nothing is in that place: give the same command again" in stderr
    assert not has_some(dump)
    assert not has_some(aside)
    assert office.ask(*arguments("sqlite:chatd.db", f"dump:{dump}", "--resume"))["users"] == 3
    assert "exists: give the dump a name of its own" in office.refused(
        *arguments("sqlite:chatd.db", f"dump:{dump}", "--resume")
    )


def has_some(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


async def test_what_is_not_the_same_in_the_end_is_told(io_loop: Any, office: Office) -> None:
    """Seen to fail with conversations compared by how many messages they have."""
    async with opened("sqlite:chatd.db", office.folder) as storage:
        await fill_long(storage, 2000)
    both = "sqlite:chatd.db", "sqlite:other.db"
    office.ask(*arguments(*both))
    async with opened("sqlite:other.db", office.folder) as storage:
        (early,) = await storage.history(ANN_AND_BOB, after_seq=9, limit=1)
        await storage.load([msgspec.structs.replace(early, text="another")])
    told = office.refused(*arguments(*both, "--resume")).splitlines()
    assert told[0] == f"chatd: messages differ: not the same, the first of them in {ANN_AND_BOB}"
    assert len(told) == 2
    async with opened("sqlite:other.db", office.folder) as storage:
        await storage.load([early])
        await storage.load([User("new", "new@example.org", "hash", 1)])
    told = office.refused(*arguments(*both, "--resume")).splitlines()
    assert told[0] == "chatd: users differ: 3 were to be copied, 4 are there"


async def test_what_was_erased_meanwhile_is_why_a_copy_can_not_go_on(
    io_loop: Any, office: Office
) -> None:
    """Seen to fail with the conflict taken for a store that can't be reached."""
    await made(office)
    both = "sqlite:chatd.db", "sqlite:other.db"
    office.ask(*arguments(*both))
    office.ask("erase", ANN, "--yes")
    refused = office.refused(*arguments(*both, "--resume"))
    assert "what is there is no part of this copy: " in refused
    assert "; copy to an empty place instead" in refused
    assert "reached" not in refused


# -- with a server that runs -----------------------------------------------------------------------


async def test_a_server_in_memory_goes_on_as_one_that_keeps_everything(
    io_loop: Any, in_memory: Office
) -> None:
    """Seen to fail with the revoked tokens left out."""
    chat = Chat(in_memory.server.start())
    ann, bob, cat = [await chat.user(f"{name}@example.org") for name in ("ann", "bob", "cat")]
    assert (await cat.call("POST", "/v1/auth/sign-out")).status == 204
    await ann.create("club")
    await bob.join("club")
    for number in range(5):
        await ann.say(f"in the club {number}", group="club")
        await bob.say(f"to you {number}", user=ann.email)
    histories = [await history_of(chat, one.token) for one in (ann, bob)]
    told = in_memory.ask(*arguments("memory:", "sqlite:chatd.db"))
    assert [told[name] for name in ("users", "groups", "messages", "tokens")] == [3, 1, 10, 1]
    in_memory.server.terminate()
    later = Server(in_memory.folder)
    chat.url = later.start()
    assert [await history_of(chat, one.token) for one in (ann, bob)] == histories
    assert (await cat.call("GET", "/v1/auth/me")).status == 401, "she has signed out"
    async with ann.socket() as socket:
        assert (await socket.say("goes on", group="club"))["seq"] == 6
    later.close()
    chat.close()


async def history_of(chat: Chat, token: str) -> list[Any]:
    paths = ("/groups/club/messages", "/groups/club/members", "/users/ann@example.org/messages")
    return [(await chat.call("GET", f"/v1{path}", token=token)).body for path in paths]


async def test_a_new_server_in_memory_takes_a_copy_over(
    io_loop: Any, in_memory: Office, office: Office
) -> None:
    """Seen to fail with the revoked tokens kept from who looks tokens over."""
    chat = Chat(office.server.start())
    ann = await chat.user("ann@example.org")
    bob = await chat.user("bob@example.org")
    await ann.say("long " * 700, user=bob.email)
    for _ in range(40):
        await ann.say("é" * 3000, user=bob.email)
    assert (await bob.call("POST", "/v1/auth/sign-out")).status == 204
    dump = f"dump:{office.folder / 'chat.dump'}"
    # Through the server that has the file.
    assert office.ask(*arguments("sqlite:chatd.db", dump))["messages"] == 41
    office.server.terminate()
    keys = (office.folder / "keys.json").read_bytes()
    place = in_memory.folder / "keys.json"
    place.write_bytes(keys)
    place.chmod(0o600)
    chat.url = in_memory.server.start()
    assert in_memory.ask(*arguments(dump, "memory:"))["messages"] == 41
    assert (await ann.call("GET", "/v1/auth/me")).status == 200
    assert (await bob.call("GET", "/v1/auth/me")).status == 401, "he has signed out"
    assert (await chat.user("bob@example.org", PASSWORD)).email == bob.email
    assert "has users or groups already: start it anew" in in_memory.refused(
        *arguments(dump, "memory:", "--resume")
    )
    chat.close()


async def test_a_store_that_a_server_works_on_is_read_and_not_written(
    io_loop: Any, office: Office
) -> None:
    """Seen to fail with no store taken for the one that the server has."""
    chat = Chat(office.server.start())
    await chat.user("ann@example.org")
    assert office.ask(*arguments("sqlite:chatd.db", "sqlite:other.db"))["users"] == 1
    refused = office.refused(*arguments("sqlite:other.db", "sqlite:chatd.db", "--resume"))
    assert "a server works on the store that is to be copied to: stop it" in refused
    assert "has no store in memory" in office.refused(*arguments("memory:", "sqlite:x.db"))
    assert "has no store in memory" in office.refused(*arguments("sqlite:other.db", "memory:"))
    chat.close()


@pytest.mark.mongod
async def test_a_database_that_a_server_works_on_is_not_written_to(
    io_loop: Any, office: Office, mongo_url: str
) -> None:
    await made(office, "sqlite:other.db")
    office.server = Server(office.folder, storage=mongo_url)
    office.server.start()
    refused = office.refused(*arguments("sqlite:other.db", mongo_url))
    assert "a server works on the store that is to be copied to: stop it" in refused
    assert office.ask(*arguments(mongo_url, "sqlite:empty.db"))["users"] == 0


async def test_what_is_written_meanwhile_is_no_part_of_the_copy_and_told(
    io_loop: Any, office: Office, tmp_path: Path
) -> None:
    async with opened("sqlite:chatd.db", office.folder) as storage:
        await fill_long(storage, LONG)
    chat = Chat(office.server.start())
    cat = await chat.user("dog@example.org")
    dump = tmp_path / "chat.dump"
    with popen(office, *arguments("sqlite:chatd.db", f"dump:{dump}")) as copy:
        while not has_some(tmp_path / "chat.dump.part"):
            await asyncio.sleep(0.001)
        while not has_some(dump):
            await cat.create(f"group-{os.urandom(4).hex()}")
        _, stderr = await asyncio.to_thread(copy.communicate, timeout=PATIENCE)
    assert copy.returncode == 1
    assert b"chatd: groups differ: " in stderr
    assert b"What changed while it was copied shows here too" in stderr
    chat.close()


# -- what is refused -------------------------------------------------------------------------------


async def test_what_can_not_be_copied_is_said_in_a_sentence(
    io_loop: Any, office: Office, tmp_path: Path
) -> None:
    await made(office)
    source = "sqlite:chatd.db"
    assert "memory: is the store of a server that runs, and none runs" in office.refused(
        *arguments("memory:", "sqlite:x.db")
    )
    assert "memory: is the store of a server that runs, and none runs" in office.refused(
        *arguments(source, "memory:")
    )
    assert f"there is no store at {office.folder / 'none.db'}" in office.refused(
        *arguments("sqlite:none.db", "sqlite:x.db")
    )
    assert "can't be read: No such file" in office.refused(*arguments("dump:none", "sqlite:x.db"))
    wrong = tmp_path / "wrong.dump"
    wrong.write_text("something else\n")
    assert f"{wrong}, line 1: this is no dump of chatd's" in office.refused(
        *arguments(f"dump:{wrong}", "sqlite:x.db")
    )
    assert f"{wrong} exists: give the dump a name" in office.refused(
        *arguments(source, f"dump:{wrong}")
    )
    assert not (office.folder / "x.db").exists()
    async with opened("sqlite:some.db", office.folder) as storage:
        await storage.append([draft(sender=BOB)])
    assert "is not empty; if a copy to it broke off" in office.refused(
        *arguments(source, "sqlite:some.db")
    )
    assert "is no part of this copy" in office.refused(
        *arguments(source, "sqlite:some.db", "--resume")
    )


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("sqlite:a.db", "file", "or dump:FILE, not a word without a scheme"),
        ("sqlite:a.db", "redis://x", "a store URL is memory:, sqlite:PATH"),
        ("memory:here", "sqlite:a.db", "a store in memory has no path"),
        ("dump:", "sqlite:a.db", "a dump needs a file: write dump:FILE"),
        ("sqlite:a.db", "sqlite:a.db", "both ends of the copy are the same place"),
    ],
)
def test_urls_that_mean_nothing_exit_2(
    office: Office, source: str, target: str, sentence: str
) -> None:
    done = office.run(*arguments(source, target))
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
