"""A stub of a checkout around the real launchers, for the tests that start them.

Its package chatd only tells where it runs. Real pip installs it into a real environment, through
a build backend that needs nothing, so no network is needed either.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

BIN: Final = Path(__file__).parent.parent / "bin"

CLI: Final = """
import json, sys
print(json.dumps({"prefix": sys.prefix, "file": __file__, "arguments": sys.argv[1:]}))
"""

# Every tool that bin/test starts; those that the file `failing` names fail.
TOOL: Final = """
import json, os, pathlib, sys
name = pathlib.Path(__file__).stem
settings = {key: value for key, value in os.environ.items() if key.startswith("CHATD_")}
print(json.dumps({"tool": name, "arguments": sys.argv[1:], "settings": settings}))
failing = pathlib.Path("failing")
sys.exit(failing.exists() and name in failing.read_text())
"""

PYPROJECT: Final = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND: Final = """
import pathlib, sys, time, zipfile

SETUP = pathlib.Path("setup.py")

FILES = {
    "chatd.pth": str(pathlib.Path.cwd()),
    "chatd-0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: chatd\\nVersion: 0\\n"
    "Provides-Extra: test\\n",
    "chatd-0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "chatd-0.dist-info/RECORD": "",
}

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    pathlib.Path("building").touch()
    while "endless" in SETUP.read_text():
        time.sleep(0.01)
    if "impossible" in SETUP.read_text():
        sys.exit("error: this setup.py asks for the impossible")
    if "unreachable" in SETUP.read_text():
        FILES["chatd-0.dist-info/METADATA"] += "Requires-Dist: something-that-is-absent\\n"
    name = "chatd-0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""


class Checkout(NamedTuple):
    """A stub of a checkout, and a folder on PYTHONPATH that shapes the interpreter it starts in."""

    root: Path
    site: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def stamp(self) -> Path:
        return self.venv / "chatd.json"

    def has_installed(self, *requirements: str) -> None:
        """Let the interpreter have chatd with these requirements, whatever it has really."""
        info = self.site / "chatd-9.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        lines = ["Metadata-Version: 2.1", "Name: chatd", "Version: 9"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
        (info / "METADATA").write_text("\n".join(lines) + "\n")

    def interpreter_starts_with(self, code: str) -> None:
        (self.site / "sitecustomize.py").write_text(f"import os, sys\n{code}\n")

    def setup(self, text: str) -> None:
        (self.root / "setup.py").write_text(text)

    def brings(self, path: str) -> Path:
        """Let a wheel have left this file in `.venv`, empty."""
        (site,) = self.venv.glob("lib/python*/site-packages")
        brought = site / path
        brought.parent.mkdir(parents=True, exist_ok=True)
        brought.touch()
        return brought

    def start(
        self,
        *arguments: str,
        launcher: str = "chatd",
        python: str | Path = sys.executable,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """Start a launcher; no package index is within its reach."""
        own = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PYTHONPATH": str(self.site)}
        return subprocess.Popen(
            [str(python), str(self.root / "bin" / launcher), *arguments],
            env={**own, **variables},
            cwd=self.site,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        launcher: str = "chatd",
        python: str | Path = sys.executable,
        **variables: str,
    ) -> Ended:
        return end(self.start(*arguments, launcher=launcher, python=python, **variables))


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        """What the stub of chatd's command line told of itself: all there is on stdout."""
        assert self.status == 0, self.err
        told: dict[str, Any] = json.loads(self.out)
        return told

    @property
    def tools(self) -> list[dict[str, Any]]:
        """What the stubs of bin/test's tools told, in order."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def last_line(self) -> str:
        return self.out.splitlines()[-1]


def end(process: subprocess.Popen[str]) -> Ended:
    with process:
        out, err = process.communicate(timeout=100)
    return Ended(process.returncode, out, err)


def make_checkout(folder: Path) -> Checkout:
    root = folder / "a checkout"
    shutil.copytree(BIN, root / "bin", ignore=shutil.ignore_patterns("__pycache__"))
    files = {"backend.py": BACKEND, "pyproject.toml": PYPROJECT, "setup.py": "# first\n"}
    files |= {"chatd/__init__.py": "", "chatd/cli.py": CLI}
    tools = ("ruff.py", "mypy.py", "bandit.py", "pytest.py", "tests/mutants.py")
    files |= dict.fromkeys(tools, TOOL)
    for folder_of_code in ("chatd", "tests"):
        (root / folder_of_code).mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    made = Checkout(root, folder / "site")
    made.has_installed("something-that-is-absent")
    return made


def wait_for(path: Path) -> None:
    """Return when the file is there; the test's timeout ends a wait in vain."""
    while not path.exists():
        time.sleep(0.01)


def first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()
