"""A data folder, a server for it, and the command line of who looks after it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from chatd.cli import main
from tests.e2e.server import Server
from tests.leaks import watch


class Office:
    """The server is a process of its own; so is a command, where it matters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder)

    def run(self, *arguments: str, stdin: str = "") -> Result:
        """What a command comes to, in this process, whose start takes longer than the command."""
        given = [*arguments, "--data-dir", str(self.folder)]
        with ThreadPoolExecutor(1) as aside:  # there is a loop running here already
            return aside.submit(CliRunner().invoke, main, given, input=stdin).result()

    def start(
        self, *arguments: str, program: Sequence[str] = ("-m", "chatd.cli")
    ) -> subprocess.CompletedProcess[str]:
        """The same as a process of its own."""
        command = [sys.executable, *program, *arguments, "--data-dir", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def ask(self, *arguments: str, stdin: str = "") -> Any:
        """What a command answers as JSON; it must succeed."""
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        watch.keep(answer)
        return answer

    def refused(self, *arguments: str) -> str:
        """The sentence that a command ends with, and nothing on standard output."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        return done.stderr
