"""What a deliberate fault is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault. ``line`` stands once in chatd/``path``, but for its indentation."""

    name: str
    path: str
    line: str
    instead: str
    test: str
    """The pytest node id."""
    says: str
    """What the failing test's output has in it."""
    or_says: str = ""
    """What it has else, where chance decides which of two it is."""
