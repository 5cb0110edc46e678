"""What looks through the logs behind the suite finds what it should, and fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import Watch

ROOT = Path(__file__).parent.parent
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("kept", "logged", "found"),
    [
        ({"password": "a long secret"}, '{"event": "x", "detail": "was a long secret!"}', True),
        ({"text": "between us 12"}, "Traceback: between us 13", True),
        ({"text": "short"}, '{"event": "x", "inner": {"deep": ["short"]}}', True),
        ({"text": "short"}, '{"event": "x", "detail": "a short word"}', False),
        ({"text": "meanwhile"}, "Traceback: # it came meanwhile", False),
        ({"text": "meanwhile"}, '{"event": "x", "detail": "meanwhile"}', True),
        ({"token": "a long secret"}, '{"event": "x", "detail": "another"}', False),
        ({"name": "no secret at all"}, '{"event": "x", "name": "no secret at all"}', False),
        ({}, f'{{"event": "x", "detail": "Bearer {TOKEN}"}}', True),
    ],
)
def test_a_secret_is_found_wherever_a_line_has_it(kept: object, logged: str, found: bool) -> None:
    watch = Watch()
    watch.keep(kept)
    watch.logged(logged)
    assert bool(watch.found()) is found


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "side by side"])
def test_a_find_fails_the_run_and_is_shown(tmp_path: Path, workers: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(
        "from tests.leaks import watch\n"
        "def test_it():\n"
        "    watch.keep({'password': 'a long secret'})\n"
        "    watch.logged('it was a long secret')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.leaks", "-q", *workers, str(tmp_path)]
    command += ["-c", "/dev/null", "--rootdir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "'a long secret'" in done.stdout
