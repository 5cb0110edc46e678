"""`chatd chat`: at a terminal with two users, and through a pipe."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from chatd.client import Message
from chatd.commands.chat import chat
from tests.chat import PASSWORD
from tests.client.heard import listening, sign_in
from tests.client.tty import Terminal
from tests.e2e.conftest import MakeServer
from tests.e2e.server import Server

ANN, BOB, CID, DAN, EVE = [f"{name}@example.org" for name in ("ann", "bob", "cid", "dan", "eve")]
ENVIRONMENT = {"CHAT_PASSWORD": PASSWORD, "TERM": "xterm"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for all that don't end it; each test has users and groups of its own."""
    server = Server(tmp_path_factory.mktemp("chat"), storage="memory:")
    yield server.start()
    server.close()


def terminal(url: str, email: str, **size: int) -> Terminal:
    return Terminal("chat", "--url", url, "--email", email, environment=ENVIRONMENT, **size)


def piped(url: str, lines: str, email: str = "gil@example.org") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatd.cli", "chat", "--url", url, "--email", email],
        env={**os.environ, **ENVIRONMENT},
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_two_users_talk_and_see_how_far_it_has_got(url: str) -> None:
    with terminal(url, ANN) as ann, terminal(url, BOB) as bob:
        ann.expect("Nobody|bob@example.org", "^> ")
        bob.expect("Nobody|ann@example.org", "^> ")
        ann.type("/create club\r")
        ann.expect("^club> ")
        bob.type("/join club\r")
        bob.expect("^club> ")
        ann.expect(r"^\s+\* bob@example.org joined")

        ann.type("Hello, Bob\r")
        bob.expect(r"^   \d\d:\d\d ann@example.org: Hello, Bob$")
        ann.expect(r"^✓✓ \d\d:\d\d you: Hello, Bob$")
        # Bob has it open: it is read, and the tick has turned blue where it stands.
        ann.expect_written("\x1b[34m✓✓")
        assert sum("Hello, Bob" in row for row in ann.screen.rows) == 1

        # What is being typed stays at the bottom while something arrives above it.
        ann.type("half a sen")
        ann.expect("^club> half a sen$")
        bob.type("Interrupting you\r")
        ann.expect(r"^   \d\d:\d\d bob@example.org: Interrupting you$")
        ann.expect_last("club> half a sen")
        ann.type("\x7f\x7f\x1b[D\x1b[3~tence\r")
        bob.expect("ann@example.org: half a stence$")

        # Alone together: a message for whom has another conversation open is shown, not read.
        ann.type("/open BOB@example.org\r")
        ann.expect("^bob@example.org> ")
        ann.type("psst\r")
        bob.expect(r"^   \d\d:\d\d \[ann@example.org\] ann@example.org: psst$")
        ann.expect(r"^✓✓ \d\d:\d\d you: psst$")
        bob.type("/list\r")
        bob.expect(r"^\s+1 ann@example.org\s+1 unread, on line$", r"^\s+2 club$")
        bob.type("1\r")
        bob.expect("^ann@example.org> ", "== ann@example.org ==")

        ann.type("/quit\r")
        assert ann.ended() == 0
        assert ann.settings == ann.before
        bob.type("\x03")
        assert bob.ended() == 0
        assert bob.settings == bob.before


async def test_what_others_write_does_not_drive_the_terminal(io_loop: Any, url: str) -> None:
    async with await sign_in(url, CID) as bob:
        await bob.create_group("open", "Title")
        with terminal(url, DAN, columns=40) as ann:
            await asyncio.to_thread(ann.expect, "^> ")
            ann.type("/join open\r")
            await asyncio.to_thread(ann.expect, "^open> ")
            # The screen of the test knows no other sequence than the client's own, and refuses.
            await bob.send(
                "\x1b[2J\x1b]0;title\x07\u202edrow\x9b31m\r12:00 you: I did not", group="open"
            )
            await asyncio.to_thread(
                ann.expect, r"\\x1b\[2J\\x1b\]0;", r"title\\x07\\u202edrow\\x9b31m\\r"
            )
            await bob.send("two\n12:00 you: lines", group="open")
            await asyncio.to_thread(ann.expect, "cid@example.org: two$", "^ {9}12:00 you: lines$")
            # Ticks find their line though lines above the prompt are broken, or many.
            ann.type("mine\r")
            await asyncio.to_thread(ann.expect, r"^✓✓ \d\d:\d\d you: mine$")
            ann.type("another " * 12 + "\r")
            await asyncio.to_thread(ann.expect, r"^✓✓ \d\d:\d\d you: another another")


async def test_through_a_pipe_lines_go_in_and_out(io_loop: Any, url: str) -> None:
    async with listening(url, EVE) as bob:
        await bob.client.create_group("pipe")
        await bob.client.send("Who is there?", group="pipe")
        await bob.client.send("You, Ann?", to=EVE)
        script = (
            f"/join pipe\nIt's me\n//slash\n/open {EVE}\nHello, Bob\n/open nobody@example.org\n"
        )
        done = await asyncio.to_thread(piped, url, script + "".join(f"{n}\n" for n in range(300)))
        assert (done.returncode, done.stderr) == (0, "")
        for line in ("eve@example.org: Who is there?", "== eve@example.org =="):
            assert line in done.stdout
        assert "✓" in done.stdout
        assert "\x1b" not in done.stdout
        assert "! " in done.stdout
        await bob.until(lambda: len(bob.of(Message)) == 303)
        texts = [one.text for one in bob.of(Message)]
        assert texts[:3] == ["It's me", "/slash", "Hello, Bob"]
        assert texts[3:] == [str(number) for number in range(300)]


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({"CHAT_PASSWORD": ""}, ["--email", ANN], "CHAT_PASSWORD"),
        (ENVIRONMENT, [], "--email"),
    ],
)
def test_what_is_missing_is_said(
    environment: dict[str, str], arguments: list[str], said: str
) -> None:
    done = CliRunner().invoke(chat, arguments, env=environment)
    assert done.exit_code == 2
    assert said in done.stderr


def test_where_there_is_no_server_that_is_said() -> None:
    done = piped("http://127.0.0.1:9", "")
    assert done.returncode == 1
    assert done.stderr.startswith("chatd: can't reach http://127.0.0.1:9")
    assert "Traceback" not in done.stderr


def test_a_password_is_asked_for_and_not_shown(url: str) -> None:
    environment = {"CHAT_PASSWORD": "", "TERM": "xterm"}
    with Terminal("chat", "--url", url, environment=environment) as ann:
        ann.expect("E-mail address: $")
        ann.type("fay@example.org\r")
        ann.expect("Password: $")
        ann.type(f"{PASSWORD}\r")
        ann.expect("^> ")
        assert PASSWORD not in ann.written


def test_a_server_that_is_restarted_is_waited_for(make_server: MakeServer) -> None:
    server = make_server()
    url = server.start()
    with terminal(url, ANN) as ann:
        ann.expect("^> ")
        ann.type(f"{ANN}\r")
        ann.expect(f"^{ANN}> ")
        server.kill()
        ann.expect(r"\* off line")
        ann.type("are you there?\r")
        ann.expect("^·  .*you: are you there")
        server.restart()
        ann.expect("^✓.*you: are you there", r"\* on line")
        ann.type("/quit\r")
        assert ann.ended() == 0
