"""Figures of several runs as tables that are readable in a terminal and as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

import psutil

Run = TypeVar("Run")

NONE: Final = "–"


class Figure(NamedTuple, Generic[Run]):
    """A column: its name with the unit, and what it shows of one run, None where it has nothing.

    Where ``compared``, a second column has the ratio to the baseline in the same run.
    """

    name: str
    of: Callable[[Run], float | None]
    compared: bool = False

    def headings(self, baseline: str) -> list[str]:
        return [self.name, f"× {baseline}"] if self.compared else [self.name]

    def cells(self, runs: Iterable[Run], base: Iterable[Run]) -> list[str]:
        values = [self.of(run) for run in runs]
        if not self.compared:
            return [_spread(values)]
        return [_spread(values), _ratio(values, [self.of(run) for run in base])]


def comparison(
    subjects: tuple[str, str],
    runs: Mapping[str, Mapping[str, Sequence[Run]]],
    figures: Sequence[Figure[Run]],
    baseline: str,
) -> str:
    """A table with a row for each case and contender: medians, and (least–most) behind them.

    ``subjects`` head the columns of the cases and of the contenders; ``runs`` are by case and
    contender. A ratio is the median of each run's ratio to the baseline's run beside it.
    """
    headings = [*subjects, *(name for one in figures for name in one.headings(baseline))]
    rows = [
        [case, contender, *(cell for one in figures for cell in one.cells(own, base))]
        for case, contenders in runs.items()
        for base in [contenders.get(baseline, ())]
        for contender, own in contenders.items()
    ]
    return table(headings, rows, text_columns=len(subjects))


def machine(folder: Path) -> str:
    """What a benchmark runs on, as far as its figures depend on it; ``folder`` has its files."""
    mounts = [one for one in psutil.disk_partitions(all=True) if folder.is_relative_to(one[1])]
    system = max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else "?"
    memory = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return (
        f"{os.cpu_count()} CPUs ({_processor()}), {memory:.0f} GiB, {platform.system()}, "
        f"files on {system}, load before {load}, Python {platform.python_version()}"
    )


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    return f"{short(statistics.median(known))} ({short(min(known))}–{short(max(known))})"


def _ratio(values: Sequence[float | None], base: Sequence[float | None]) -> str:
    ratios = [one / other for one, other in zip(values, base, strict=False) if one and other]
    return short(statistics.median(ratios)) if ratios else NONE


def short(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Aligned Markdown; all columns behind the first ``text_columns`` are of figures."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if nth < text_columns else cell.rjust(width)
            for nth, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width for width in widths]
    rule[text_columns:] = [f"{one[1:]}:" for one in rule[text_columns:]]
    return "\n".join([line(headings), line(rule), *map(line, rows)])
