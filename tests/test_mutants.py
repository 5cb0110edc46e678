"""Each deliberate fault can be put in and has its test; what is said to be killed is killed."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.runner import MUTANTS, ROOT, chosen, examine_all, put_in, verdict_on

of_each = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
CHEAP = "another-text-passes-for-a-repeat"


def test_no_two_have_the_same_name() -> None:
    assert [name for name, count in Counter(one.name for one in MUTANTS).items() if count > 1] == []


def module(folder: Path, mutant: Mutant) -> Path:
    """The mutant's file, alone in a tree of its own."""
    path = folder / "chatd" / mutant.path
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / "chatd" / mutant.path).read_text())
    return path


@of_each
def test_its_line_stands_once_and_what_replaces_it_is_python(
    mutant: Mutant, tmp_path: Path
) -> None:
    path = module(tmp_path, mutant)
    put_in(mutant, tmp_path)
    assert mutant.instead != mutant.line
    if path.suffix == ".py":
        ast.parse(path.read_text())


@of_each
def test_its_test_is_there(mutant: Mutant) -> None:
    path, *names = mutant.test.partition("[")[0].split("::")
    found: ast.AST = ast.parse((ROOT / path).read_text())
    for name in names:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        (found,) = (
            one
            for one in ast.iter_child_nodes(found)
            if isinstance(one, kinds) and one.name == name
        )
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)


JUDGE = "test_checker.py"


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(ROOT)
        for folder in ("faults", "attacks")
        for path in (ROOT / "tests/e2e" / folder).glob("test_*.py")
        if path.name != JUDGE
    ],
    ids=lambda path: path.stem,
)
def test_what_shows_a_promise_has_a_fault_and_stands_in_the_docs(path: Path) -> None:
    assert any(mutant.test.startswith(f"{path}::") for mutant in MUTANTS)
    assert f"`{path.name}`" in (ROOT / "docs/guarantees.md").read_text().replace(
        "tests/e2e/faults/", ""
    )


@pytest.mark.parametrize("line", ["this stands nowhere", ""])
def test_a_line_that_does_not_stand_there_once_is_told(line: str, tmp_path: Path) -> None:
    (mutant,) = chosen([CHEAP])
    module(tmp_path, mutant)
    with pytest.raises(ValueError, match=f"{mutant.name}: chatd/{mutant.path} has its line"):
        put_in(mutant._replace(line=line), tmp_path)


def test_what_its_test_finds_is_killed_and_what_it_does_not_find_survives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (mutant,) = chosen([CHEAP])
    harmless = mutant._replace(name="harmless", instead=mutant.line)
    assert examine_all([mutant, harmless]) == 1
    assert examine_all([]) == 0
    killed, survived, *verdicts = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"1: killed in \d+ s: {CHEAP}: {re.escape(mutant.test)}", killed)
    assert re.fullmatch(
        rf"2: SURVIVED in \d+ s: harmless: {re.escape(mutant.test)} passes", survived
    )
    assert verdicts == ["SURVIVED: harmless", "every mutant was killed"]


@pytest.mark.parametrize(("status", "out"), [(1, "another failure"), (4, "as foreseen")])
def test_who_fails_in_another_way_is_not_killed(status: int, out: str) -> None:
    mutant = chosen([CHEAP])[0]._replace(says="as foreseen")
    verdict = verdict_on(mutant, CompletedProcess([], status, f"some lines\n{out}\n"))
    assert not verdict.killed
    assert f"status {status}, which is to be 1, and is to say 'as foreseen'" in verdict.told
    assert out in verdict.told


def test_a_name_that_there_is_not_is_told() -> None:
    with pytest.raises(SystemExit, match=f"no mutant is named nobody; there are: .*{CHEAP}"):
        chosen([CHEAP, "nobody"])
