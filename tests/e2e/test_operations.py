"""docs/operations.md: its commands are run, its metrics are those of a server, its alerts' parts
are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.test_readme import free_port

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
UNTIL_IT_SERVES = "until curl -sf http://127.0.0.1:{port}/readyz > /dev/null; do sleep 0.05; done\n"


@pytest.mark.curl
def test_every_command_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh try\n(.*?)^```", TEXT, re.M | re.S)
    assert len(blocks) == 8
    assert TEXT.count("```sh") == len(blocks)
    port = free_port()
    first, *others = [block.replace("8080", str(port)) for block in blocks]
    script = "".join([first, UNTIL_IT_SERVES.format(port=port), *others, "kill %1; wait %1\n"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "The settings are good.",
        'auth.signup = "closed"',
        "The account ann@example.org is made.",
        "The account ann@example.org is enabled.",
        "ann@example.org is signed out everywhere.",
        "cat.json has everything of cat@example.org.",
        "cat@example.org is erased. What remains:",
        "backup.db has 0 messages",
        "All is well.",
    ):
        assert said in done.stdout, done.stdout + done.stderr


def test_the_metrics_are_those_of_a_server(make_server: MakeServer) -> None:
    with urlopen(make_server().start() + "/metrics") as answer:
        served = set(re.findall(r"^# TYPE (chatd_\w+) ", answer.read().decode(), re.M))
    served = {name for name in served if not name.endswith("_created")}
    table = "\n".join(re.findall(r"^\| (`.*?) \| ", TEXT, re.M))
    named = set(re.findall(r"`(chatd_\w+)", table))
    assert named == served


def test_every_alert_leads_to_a_part() -> None:
    alerts = (ROOT / "conf" / "prometheus" / "alerts.yml").read_text()
    anchors = set(re.findall(r"operations\.md#(\w+)", alerts))
    parts = {title.lower() for title in re.findall(r"^### (\w+)$", TEXT, re.M)}
    assert anchors == parts
