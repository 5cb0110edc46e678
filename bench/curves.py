"""Curves of figures: what is drawn of them, without the drawing (``bench.drawing``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

Run = TypeVar("Run")


class Point(NamedTuple):
    """Where it lies, and what each run gave there."""

    x: float
    runs: Sequence[float]


class Curve(NamedTuple):
    """A line through the medians of its points, whose spread is shown.

    ``hue`` numbers the colours: those of one have the same; a panel tells two such by dashes.
    """

    name: str
    points: Sequence[Point]
    hue: int = 0
    dashed: bool = False


class Panel(NamedTuple):
    """Curves over the same axes, whose labels have their units."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False


class Picture(NamedTuple):
    """Panels in a file of their own: ``name`` without its ending."""

    name: str
    panels: Sequence[Panel]


def curve(
    name: str,
    sizes: Iterable[float],
    runs: Iterable[Sequence[Run]],
    of: Callable[[Run], float | None],
    *,
    hue: int = 0,
    dashed: bool = False,
) -> Curve:
    """What ``of`` tells of the runs at each size; a point of which it tells nothing is left out."""
    points = [
        Point(size, [value for value in map(of, some) if value is not None])
        for size, some in zip(sizes, runs, strict=True)
    ]
    return Curve(name, [one for one in points if one.runs], hue, dashed)
