"""The README's tour is run to the letter, but for its port, its folder and its environment."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tour() -> list[str]:
    blocks = re.findall(r"^```sh tour\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 5
    return blocks


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(script: str, folder: Path) -> str:
    """What the script prints. Whatever it leaves running ends with it."""
    printed = folder / "printed.txt"
    with printed.open("w") as stdout, (folder / "log.txt").open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
            stdout=stdout,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = shell.wait(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert status == 0, printed.read_text() + (folder / "log.txt").read_text()
    return printed.read_text()


@pytest.fixture
def option(storage_url: str) -> str:
    """What is added to the tour's command line for each store; for the default, nothing."""
    return "" if storage_url == "sqlite:chatd.db" else f"--storage {shlex.quote(storage_url)} "


@pytest.mark.full("memory", "mongo")
@pytest.mark.curl
def test_the_tour_does_what_it_says(tmp_path: Path, option: str) -> None:
    port, folder = free_port(), tmp_path / "chatd-tour"
    # What is kept in memory ends with the process, and the tour's last part with it.
    parts = tour()[:-1] if "memory:" in option else tour()
    script = "\necho '=== next'\n".join(parts)
    script = script.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    script = script.replace("ws://127.0.0.1:8080", f"ws://127.0.0.1:{port}")
    script = script.replace("/tmp/chatd-tour", str(folder))
    script = script.replace(".venv/bin/", f"{sys.prefix}/bin/")
    script = script.replace("bin/chatd --data-dir", f"bin/chatd {option}--port {port} --data-dir")
    _, groups, live, offline, *restarted = run(script, tmp_path).split("=== next\n")

    assert '"name":"python"' in groups
    assert '"members":2' in groups

    bob, _, ann = live.partition('{"type":"sent"')
    for text in ("Hello, all", "Hello, Bob 👋"):
        assert f'"text":"{text}"' in bob
    assert ann.count('"type":"sent"') == 1  # the first one is what it was cut at
    assert '"text":"Hello, Ann"' in ann
    assert '"type":"receipt","kind":"delivered","by":"bob@example.org"' in ann

    stored, received, history = [line for line in offline.splitlines() if line]
    assert "delivered_at" not in stored
    assert '"text":"See you tomorrow"' in received
    assert '"delivered_at":"' in history

    for part in restarted:
        again, joined, members = part.splitlines()[-3:]
        assert '"duplicate":true' in again
        assert '"delivered_at":"' in again
        assert '"name":"python"' in joined
        assert '"delivered_seq":2' in members
    assert bool(restarted) == ("memory:" not in option)
