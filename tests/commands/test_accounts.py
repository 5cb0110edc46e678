"""``chatd user``, ``group`` and ``token``, as an administrator types them: with the server running,
which does it at once, and without one."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chat import PASSWORD, Chat, Json, Socket
from tests.commands.office import Office
from tests.e2e.server import Server

OTHER = "staple battery correct"


async def signed_in(chat: Chat, email: str, password: str) -> int:
    body = {"email": email, "password": password}
    return (await chat.call("POST", "/v1/auth/sign-in", body)).status


async def test_on_a_running_server_everything_holds_at_once(io_loop: Any, office: Office) -> None:
    """Seen to fail with ``_on_end`` left out of ``Accounts.replace``."""
    chat = Chat(office.server.start())
    ann = await chat.user("ann@example.org")
    async with ann.socket() as socket:
        assert office.ask("user", "list")[0]["online"] is True
        disabled = office.ask("user", "disable", "Ann@Example.org")
        assert (disabled["email"], disabled["disabled"]) == (ann.email, True)
        assert await socket.closed() == 4401
    assert (await ann.call("GET", "/v1/auth/me")).status == 401
    assert await signed_in(chat, ann.email, PASSWORD) == 401
    assert office.ask("user", "enable", ann.email)["disabled"] is False
    again = await chat.user("ann@example.org")
    async with again.socket() as socket:
        assert office.ask("user", "sign-out", ann.email)["disabled"] is False
        assert await socket.closed() == 4401
    reset = office.ask("user", "reset-password", ann.email, "--password-stdin", stdin=OTHER + "\n")
    assert reset == {"email": ann.email, "password": None}
    assert await signed_in(chat, ann.email, PASSWORD) == 401
    assert await signed_in(chat, ann.email, OTHER) == 200
    made = office.ask("user", "reset-password", ann.email)
    assert await signed_in(chat, ann.email, OTHER) == 401
    assert await signed_in(chat, ann.email, made["password"]) == 200
    chat.close()


async def test_without_a_server_the_store_itself_is_opened(io_loop: Any, office: Office) -> None:
    made = office.ask("user", "add", "bob@example.org")
    office.ask("user", "add", "ann@example.org", "--password-stdin", stdin=PASSWORD)
    assert office.ask("user", "disable", "ann@example.org")["disabled"] is True
    listed = office.ask("user", "list", "--prefix", "a")
    assert [(one["email"], one["disabled"], one["online"]) for one in listed] == [
        ("ann@example.org", True, False)
    ]
    chat = Chat(office.server.start())
    assert await signed_in(chat, "ann@example.org", PASSWORD) == 401
    assert await signed_in(chat, "bob@example.org", made["password"]) == 200
    chat.close()


def test_where_there_is_no_store_nothing_is_told_of_one(office: Office) -> None:
    """Whoever names another folder than the server's hears of it. Seen to fail with a store that
    every command makes."""
    for command in (
        *(("user", "list"), ("user", "disable", "ann@example.org"), ("group", "list")),
        *(("doctor",), ("user", "list", "--storage", "memory:")),
    ):
        said = office.refused(*command)
        assert f"no server runs on the data folder {office.folder}" in said
    assert not (office.folder / "chatd.db").exists()
    # It would be gone with the command.
    made = office.refused("user", "add", "ann@example.org", "--storage", "memory:")
    assert "a store in memory ends with its server" in made


def test_a_server_is_asked_of_no_other_store_than_its_own(office: Office, tmp_path: Path) -> None:
    """Seen to fail with the named store left out of account."""
    office.server.start()
    office.ask("user", "add", "ann@example.org")
    office.ask("user", "list", "--storage", "sqlite:chatd.db")
    for other in ("sqlite:other.db", "memory:", "mongodb://127.0.0.1:1/chatd"):
        for command in (("user", "list"), ("doctor",), ("erase", "ann@example.org", "--yes")):
            said = office.refused(*command, "--storage", other)
            assert f"the server on {office.folder} works on another store: leave --storage" in said
    # One store, by whatever path.
    link = tmp_path / "link"
    link.symlink_to(office.folder)
    for folder, named in ((link, "chatd.db"), (office.folder, str(link / "chatd.db"))):
        found = Office(folder).ask("user", "list", "--storage", f"sqlite:{named}")
        assert [one["email"] for one in found] == ["ann@example.org"]


@pytest.mark.mongod
def test_a_store_in_mongodb_is_the_servers_own_or_another(office: Office, mongo_url: str) -> None:
    office.server = Server(office.folder, storage=mongo_url)
    office.server.start()
    assert office.ask("user", "list", "--storage", mongo_url) == []
    for other in (mongo_url.replace("chatd_", "chatd_other_"), "sqlite:chatd.db"):
        assert "works on another store" in office.refused("user", "list", "--storage", other)


async def test_a_disabled_account_is_refused_like_a_wrong_password(
    io_loop: Any, office: Office
) -> None:
    chat = Chat(office.server.start())
    ann = await chat.user("ann@example.org")
    wrong = {"email": ann.email, "password": OTHER}
    before = (await chat.call("POST", "/v1/auth/sign-in", wrong)).body
    office.ask("user", "disable", ann.email)
    right = {"email": ann.email, "password": PASSWORD}
    after = (await chat.call("POST", "/v1/auth/sign-in", right)).body
    assert {**before, "request_id": ""} == {**after, "request_id": ""}
    # A password that is reset meanwhile opens nothing before the account is enabled.
    office.ask("user", "reset-password", ann.email, "--password-stdin", stdin=OTHER)
    assert await signed_in(chat, ann.email, OTHER) == 401
    office.ask("user", "enable", ann.email)
    assert await signed_in(chat, ann.email, OTHER) == 200
    chat.close()


async def test_a_program_gets_a_token_for_as_long_as_is_said(io_loop: Any, office: Office) -> None:
    chat = Chat(office.server.start())
    ann = await chat.user("ann@example.org")
    issued = office.ask("token", "issue", ann.email, "--days", "30")
    me = (await chat.call("GET", "/v1/auth/me", token=issued["token"])).body
    assert (me["email"], me["expires_at"]) == (ann.email, issued["expires_at"])
    url = chat.socket_url("/v1/ws")
    async with Socket(url, {"Authorization": f"Bearer {issued['token']}"}) as socket:
        assert 29 * 86_400 < socket.frames[0]["expires_in"] <= 30 * 86_400
    plain = office.run("token", "issue", ann.email).stdout
    assert (await chat.call("GET", "/v1/auth/me", token=plain.strip())).status == 200
    office.ask("user", "sign-out", ann.email)
    assert (await chat.call("GET", "/v1/auth/me", token=issued["token"])).status == 401
    chat.close()


async def test_accounts_and_groups_are_shown_to_people_and_programs(
    io_loop: Any, office: Office
) -> None:
    chat = Chat(office.server.start())
    ann, bob = await chat.user("ann@example.org"), await chat.user("bob@example.org")
    await ann.create("python")
    await bob.join("python")
    await ann.say("hello", group="python")
    await ann.say("hello", user=bob.email)
    shown: Json = office.ask("user", "show", ann.email)
    assert (shown["groups"], shown["conversations"]) == (["python"], 2)
    assert "password" not in json.dumps(shown)
    group = office.ask("group", "show", "Python")
    assert (group["members"], group["messages"], group["created_by"]) == (2, 1, ann.email)
    members = office.ask("group", "members", "python")
    assert [one["email"] for one in members] == [ann.email, bob.email]
    assert [one["name"] for one in office.ask("group", "list")] == ["python"]
    heading, row = office.start("group", "list").stdout.splitlines()
    assert heading.split()[:3] == ["NAME", "TITLE", "MEMBERS"]
    assert row.split()[:4] == ["python", "-", "2", "1"]
    assert "groups         python" in office.run("user", "show", ann.email).stdout
    chat.close()


def test_what_can_not_be_done_is_said_in_a_sentence(office: Office) -> None:
    for running in (False, True):
        if running:
            office.server.start()
        else:
            office.ask("user", "add", "ann@example.org")
        assert "there is no account 'nobody@example.org'" in office.refused(
            "user", "show", "nobody@example.org"
        )
        assert "there is an account 'ann@example.org' already" in office.refused(
            "user", "add", "ann@example.org"
        )
        assert "email is no e-mail address" in office.refused("user", "add", "nobody")
        assert "there is no group 'nowhere'" in office.refused("group", "members", "nowhere")


async def test_the_socket_is_for_chatds_own_user_and_goes_with_the_server(
    io_loop: Any, office: Office
) -> None:
    office.server.start()
    place = office.folder / "admin.sock"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    office.server.terminate()
    assert not place.exists()
    # One that a killed server left behind is in nobody's way.
    office.server.start()
    office.server.kill()
    assert place.exists()
    assert office.ask("user", "list") == []
    office.server.start()
    assert office.ask("user", "list") == []


def test_a_folder_with_a_long_name_has_its_socket_too(tmp_path: Path) -> None:
    office = Office(tmp_path / ("long" * 30) / "data")
    try:
        office.server.start()
        office.ask("user", "add", "ann@example.org")
        assert '"admin.done"' in office.server.log.read_text()
    finally:
        office.server.close()


async def test_what_an_administrator_does_is_logged_without_secrets(
    io_loop: Any, office: Office
) -> None:
    office.server.start()
    made = office.ask("user", "add", "ann@example.org")
    office.ask("token", "issue", "ann@example.org")
    lines = [json.loads(line) for line in office.server.log.read_text().splitlines() if "{" in line]
    done = [(one["operation"], one["email"]) for one in lines if one["event"] == "admin.done"]
    assert done == [("add_user", "ann@example.org"), ("issue_token", "ann@example.org")]
    assert made["password"] not in office.server.log.read_text()


def test_a_second_server_on_the_folder_leaves_the_socket_to_the_first(office: Office) -> None:
    """Seen to fail with the place taken whoever answers there."""
    office.server = Server(office.folder, storage="memory:")
    office.server.start()
    office.ask("user", "add", "ann@example.org")
    second = Server(office.folder, storage="memory:")
    second.start()
    found = office.ask("user", "list", "--storage", "memory:")
    assert [one["email"] for one in found] == ["ann@example.org"]
    assert "another server answers there" in second.log.read_text()
    second.close()
    assert [one["email"] for one in office.ask("user", "list")] == ["ann@example.org"]


def test_a_server_that_ends_takes_no_others_socket_away(office: Office) -> None:
    """Seen to fail with whatever is there taken away at the end."""
    office.server = Server(office.folder, storage="memory:")
    office.server.start()
    (office.folder / "admin.sock").unlink()
    second = Server(office.folder, storage="memory:")
    second.start()
    office.server.terminate()
    assert (office.folder / "admin.sock").exists()
    assert office.ask("user", "list") == []
    second.close()
    assert not (office.folder / "admin.sock").exists()


@pytest.mark.parametrize("days", ["nan", "inf", "-inf", "0", "-1", "0.00001", "3651"])
def test_a_token_is_for_some_days(office: Office, days: str) -> None:
    done = office.run("token", "issue", "ann@example.org", "--days", days)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "goes from 1/86400 to 3650 days" in done.stderr


@pytest.mark.parametrize("running", [True, False])
def test_what_is_no_text_is_refused(office: Office, running: bool) -> None:
    office.ask("user", "add", "ann@example.org")
    if running:
        office.server.start()
    done = office.run("user", "list", "--prefix", "\udcff")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "chatd: prefix should be UTF-8 text\n"


@pytest.mark.parametrize("command", [("add",), ("reset-password",)])
@pytest.mark.parametrize("stdin", ["", "\n", "\r\nsecond line"])
def test_no_password_is_not_a_random_one(
    office: Office, command: tuple[str, ...], stdin: str
) -> None:
    office.ask("user", "add", "ann@example.org")
    arguments = ("user", *command, "bob@example.org", "--password-stdin")
    done = office.run(*arguments, stdin=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "chatd: standard input has no password\n"
    assert len(office.ask("user", "list")) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ('[cluster]\nnats_url = "nats://127.0.0.1"', "several servers need one store"),
        ('[storage]\nurl = "sqlite://chatd.db"', "without slashes in between"),
    ],
)
def test_settings_that_no_server_takes_are_named(
    office: Office, tmp_path: Path, settings: str, sentence: str
) -> None:
    office.ask("user", "add", "ann@example.org")
    file = tmp_path / "chatd.toml"
    file.write_text(settings)
    done = office.run("user", "add", "bob@example.org", "--config", str(file))
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


@contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[None]:
    """A server on the folder that gives this answer, once, and ends."""
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor(1) as aside:
        server.bind(str(folder / "admin.sock"))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while not connection.recv(65_536).endswith(b"}"):
                    pass
                connection.sendall(answer)

        served = aside.submit(serve)
        yield
        served.result()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[", "the server did not answer: "),
        (b"HTTP/1.1 2", "the server did not answer: "),
        (b"", "the server did not answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n[", "the server did not answer: "),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]", "the server answered 500"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", "the server answered 500"),
    ],
)
def test_an_answer_that_is_none_is_said_in_a_sentence(
    office: Office, tmp_path: Path, answer: bytes, sentence: str
) -> None:
    elsewhere = Office(tmp_path / "elsewhere")
    elsewhere.folder.rmdir()
    with answering(elsewhere.folder, answer):
        said = elsewhere.refused("user", "list")
    assert said.startswith(f"chatd: {sentence}")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [("user", "list"), ("user", "list", "--json"), ("export", "ann@example.org")]
)
def test_output_that_can_not_be_written_is_said_in_a_sentence(
    office: Office, command: tuple[str, ...]
) -> None:
    office.ask("user", "add", "ann@example.org")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chatd.cli", *command, "--data-dir", str(office.folder)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stderr == f"chatd: standard output can't be written: {os.strerror(28)}\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("erase", "bob@example.org"), "there is no account 'bob@example.org'"),
        (("user", "delete", "bob@example.org"), "there is no account 'bob@example.org'"),
        (("user", "delete", "bob"), "email is no e-mail address"),
    ],
)
def test_nobody_is_asked_of_what_there_is_not(
    office: Office, command: tuple[str, ...], sentence: str
) -> None:
    office.ask("user", "add", "bobby@example.org")
    said = office.refused(*command)
    assert sentence in said
    assert "[y/N]" not in said
    assert "Delete Bobby@example.org" in office.refused("user", "delete", "Bobby@example.org")


def test_a_prefix_may_be_typed_in_capitals(office: Office) -> None:
    office.ask("user", "add", "ann@example.org")
    assert len(office.ask("user", "list", "--prefix", "ANN")) == 1


def test_a_command_that_there_is_not_names_the_nearest(office: Office) -> None:
    done = office.run("usr", "list")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no command 'usr'; did you mean user?" in done.stderr
    assert "there are backup, chat, " in office.run("frobnicate").stderr


def test_a_folder_that_is_a_file_is_named(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    office.folder = file / "data"
    for command in (("serve",), ("user", "add", "ann@example.org")):
        done = office.run(*command)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{file} is no folder: name one" in done.stderr
