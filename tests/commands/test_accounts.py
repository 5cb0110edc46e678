"""``chatd user``, ``group`` and ``token``, as an administrator types them: with the server running,
which does it at once, and without one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from tests.chat import PASSWORD, Chat, Json, Socket
from tests.commands.office import Office

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
        assert "seconds must be 1 to" in office.refused(
            "token", "issue", "ann@example.org", "--days", "-1"
        )


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
