"""The unit for systemd: what systemd-analyze says to it, and that it forbids nothing that chatd
does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from chatd.commands.options import BAD_SETTINGS
from chatd.settings import Settings
from tests.chat import Chat
from tests.e2e.server import Server

UNIT: Final = Path(__file__).parents[2] / "conf" / "systemd" / "chatd.service"
PROGRAM: Final = "/opt/chatd/bin/chatd"
MOST_EXPOSED: Final = 12
"""Tenths of systemd's level, of which 100 is the worst; more than this is left open."""

DENIED_TO_ROOT_TOO: Final = {"fchown"}
"""What SQLite does if it is root, and goes on if it can't."""


@pytest.fixture(scope="module")
def settings_of_unit() -> dict[str, list[str]]:
    """The values of each key; of which systemd lets some stand more than once."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
        else:
            assert not line or line.startswith(("#", "[")), line
    return found


def test_the_unit_fits_chatd(settings_of_unit: dict[str, list[str]]) -> None:
    (start,) = settings_of_unit["ExecStart"]
    (folder,) = settings_of_unit["StateDirectory"]
    program, *arguments = start.split()
    assert program == PROGRAM
    assert arguments[-2:] == ["--data-dir", f"/var/lib/{folder}"]
    (seconds,) = settings_of_unit["TimeoutStopSec"]
    assert float(seconds) > Settings().server.drain_seconds
    assert settings_of_unit["KillSignal"] == ["SIGTERM"]
    assert settings_of_unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert settings_of_unit["RestartPreventExitStatus"] == [str(BAD_SETTINGS)]


def test_what_the_unit_starts_is_a_command_line_of_chatd(
    settings_of_unit: dict[str, list[str]], tmp_path: Path
) -> None:
    (start,) = settings_of_unit["ExecStart"]
    arguments = start.replace("/etc/chatd/chatd.toml", str(tmp_path / "none.toml")).split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "chatd.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    # It has understood all of it, as far as the file that is not there.
    assert done.returncode == BAD_SETTINGS
    assert "none.toml" in done.stderr
    assert "Usage" not in done.stderr


@pytest.mark.systemd
def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.systemd
def test_it_is_hardly_exposed() -> None:
    done = analyze(
        "security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}", str(UNIT)
    )
    assert done.returncode == 0, done.stdout


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


# -- what it does not allow --------------------------------------------------------------------


@pytest.mark.strace
@pytest.mark.systemd
async def test_chatd_gets_along_with_what_is_left(
    io_loop: Any, settings_of_unit: dict[str, list[str]], tmp_path: Path
) -> None:
    """Seen to fail with a filter that denies all @resources: hashing passwords would fail."""
    trace = tmp_path / "trace"
    with closing(Traced(tmp_path / "data", trace)) as server:
        chat = Chat(server.start())
        ann = await chat.user("ann@example.org")
        async with ann.socket() as socket:
            await socket.say("Hello", to=ann.email)
        assert (await chat.call("GET", "/metrics")).status == 200
        chat.close()
        assert server.terminate() == 0
    calls = trace.read_text()
    used = set(re.findall(r"^\d+ +(\w+)\(", calls, re.MULTILINE))
    denied = used - allowed(settings_of_unit["SystemCallFilter"]) - DENIED_TO_ROOT_TOO
    assert not denied
    families = set(re.findall(r"\bsocket(?:pair)?\((AF_\w+)", calls))
    assert families <= set(settings_of_unit["RestrictAddressFamilies"][0].split())
    assert not re.findall(r".*\bmmap\(.*PROT_WRITE\|PROT_EXEC.*|.*\bmprotect\(.*PROT_EXEC.*", calls)


class Traced(Server):
    """A server whose system calls are written down, one a line."""

    def __init__(self, data_dir: Path, trace: Path) -> None:
        super().__init__(data_dir)
        # -D: the process is chatd's own, as for all that ends it.
        strace = ["strace", "-D", "-f", "-qq", "-o", str(trace), "-e", "signal=none"]
        self._command = [*strace, *self._command]


def allowed(filters: list[str]) -> set[str]:
    """What lines of SystemCallFilter allow, one after the other."""
    groups = call_groups(analyze("syscall-filter", "--no-pager").stdout)
    # Without these no process could be.
    left = set(calls_of("@default", groups))
    for line in filters:
        names = {call for word in line.lstrip("~").split() for call in calls_of(word, groups)}
        left = left - names if line.startswith("~") else left | names
    return left


def call_groups(told: str) -> dict[str, list[str]]:
    """The members of each group, of which some are groups."""
    groups: dict[str, list[str]] = {}
    members: list[str] = []
    for line in told.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif (word := line.strip()) and not word.startswith("#"):
            members.append(word)
    return groups


def calls_of(word: str, groups: dict[str, list[str]]) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    for one in groups[word]:
        yield from calls_of(one, groups)
