"""Whether a file is what the tool that reads it calls valid, by the schemas of check-jsonschema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def assert_valid(path: Path, schema: str, *options: str) -> None:
    """``schema``: one of those that it has built in."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run(
        [*command, *options, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
