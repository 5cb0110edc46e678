"""What chatd stands on: that it fits together, and where it comes from."""

from __future__ import annotations

import subprocess
import sys


def test_what_is_installed_fits_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
