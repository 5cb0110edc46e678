"""The web client's files, as they stand: what a linter says, who imports whom."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
CLIENT: Final = ROOT / "chatd" / "static" / "chat"
SCRIPTS: Final = sorted(CLIENT.glob("**/*.js"))

_IMPORT: Final = re.compile(r'^(?:import|export) [^"]*from "([^"]+)";$', re.MULTILINE)


def name(script: Path) -> str:
    return str(script.relative_to(CLIENT))


def test_the_linter_finds_nothing_in_the_scripts() -> None:
    oxlint = Path(sysconfig.get_path("scripts"), "oxlint")
    done = subprocess.run(
        [oxlint, "--deny-warnings", CLIENT.parent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_linter_would_find_what_is_not_defined(tmp_path: Path) -> None:
    (tmp_path / "wrong.js").write_text("export const wrong = () => nowhereDefined;\n")
    oxlint = Path(sysconfig.get_path("scripts"), "oxlint")
    done = subprocess.run(
        [oxlint, "--config", ROOT / ".oxlintrc.json", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no-undef" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_no_model_knows_a_view(script: Path) -> None:
    imported = _IMPORT.findall(script.read_text())
    if script.parent == CLIENT and script.name != "main.js":
        assert not [module for module in imported if "views/" in module]


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_texts_only_become_text_nodes(script: Path) -> None:
    risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\("
    assert not re.search(risky, script.read_text())


def test_every_script_is_loaded() -> None:
    imported = {
        (script.parent / module).resolve()
        for script in SCRIPTS
        for module in _IMPORT.findall(script.read_text())
    }
    assert {script for script in SCRIPTS if script.name != "main.js"} == imported


def test_every_style_sheet_is_loaded() -> None:
    page = (CLIENT.parent / "chat.html").read_text()
    for sheet in CLIENT.glob("*.css"):
        assert f'<link rel="stylesheet" href="/static/chat/{sheet.name}">' in page
