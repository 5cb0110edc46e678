"""Rows for people: columns that line up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Lines of text; ``columns`` are headings by the field they show."""
    lines = [list(columns.values())]
    lines += [[_shown(row[field]) for field in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def facts(answer: Mapping[str, Any]) -> str:
    """One thing, a line for each of its fields."""
    width = max(map(len, answer))
    return "\n".join(f"{name.ljust(width)}  {_shown(value)}" for name, value in answer.items())


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
