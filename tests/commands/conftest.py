"""What the commands' tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A data folder, with nothing running on it yet."""
    office = Office(tmp_path / "data")
    yield office
    office.server.close()
