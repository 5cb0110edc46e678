"""Puts deliberate faults into copies of the checkout, and sees their tests fail there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.attacks import ATTACKS
from tests.mutants.cluster import CLUSTER
from tests.mutants.faults import FAULTS
from tests.mutants.mutant import Mutant

MUTANTS: Final = FAULTS + CLUSTER + ATTACKS

ROOT: Final = Path(__file__).parent.parent.parent
SECONDS: Final = 600
"""More than any test takes with its everyday counts."""


class Verdict(NamedTuple):
    killed: bool
    told: str


def put_in(mutant: Mutant, root: Path) -> None:
    """Change the one line. Raises ValueError where it does not stand there once."""
    path = root / "chatd" / mutant.path
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [at for at, line in enumerate(lines) if line.strip() == mutant.line]
    if len(places) != 1:
        raise ValueError(f"{mutant.name}: chatd/{mutant.path} has its line {len(places)} times")
    (at,) = places
    indentation = lines[at][: -len(lines[at].lstrip())]
    lines[at] = textwrap.indent(mutant.instead, indentation) + "\n"
    path.write_text("".join(lines), encoding="utf-8")


def examine(mutant: Mutant) -> Verdict:
    """Run the mutant's test in a copy of the checkout that has the fault."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        _copy(root)
        put_in(mutant, root)
        return verdict_on(mutant, _run(mutant.test, root))


def _copy(root: Path) -> None:
    """What git has or would take."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


def _run(test: str, root: Path) -> subprocess.CompletedProcess[str]:
    """The copy's own chatd comes first, for the servers that the test starts too."""
    ours = ("COVERAGE_", "PYTEST_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", test],
        cwd=root,
        env={**environment, "PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )


def verdict_on(mutant: Mutant, done: subprocess.CompletedProcess[str]) -> Verdict:
    """Killed is only what fails its test in the way that is told."""
    if done.returncode == 0:
        return Verdict(False, f"{mutant.test} passes")
    says = filter(None, (mutant.says, mutant.or_says))
    if done.returncode == 1 and any(one in done.stdout for one in says):
        return Verdict(True, mutant.test)
    end = textwrap.indent("\n".join(done.stdout.splitlines()[-20:]), "    ")
    return Verdict(
        False,
        f"{mutant.test} ended with status {done.returncode}, "
        f"which is to be 1, and is to say {mutant.says!r}:\n{end}",
    )


def examine_all(mutants: Iterable[Mutant]) -> int:
    """Print a line for each; the exit status: whether any survived."""
    survived: list[str] = []
    for count, mutant in enumerate(mutants, 1):
        started = time.monotonic()
        verdict = examine(mutant)
        word = "killed" if verdict.killed else "SURVIVED"
        seconds = time.monotonic() - started
        print(f"{count}: {word} in {seconds:.0f} s: {mutant.name}: {verdict.told}", flush=True)
        if not verdict.killed:
            survived.append(mutant.name)
    print(f"SURVIVED: {', '.join(survived)}" if survived else "every mutant was killed")
    return 1 if survived else 0


def chosen(names: Sequence[str]) -> list[Mutant]:
    """Those of these names, or all."""
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        sys.exit(f"no mutant is named {' or '.join(unknown)}; there are: {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]
