"""Pictures of curves, drawn with matplotlib: the same figures give the same file."""

from __future__ import annotations

import statistics
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.curves import Curve, Panel, Picture

PANEL_INCHES: Final = (4.2, 3.2)
COLUMNS: Final = 2
COLOURS: Final = ("#1f5fa8", "#d1651a")
ROOM_ABOVE: Final = 1.12


def draw(folder: Path, picture: Picture) -> None:
    """Write the picture there, as SVG."""
    count = len(picture.panels)
    columns = min(count, COLUMNS) if count % COLUMNS == 0 else count
    rows = -(-count // columns)
    width, height = PANEL_INCHES
    with _style():
        figure = Figure((columns * width, rows * height), facecolor="white", layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False)
        for place, panel in zip(places.flat, picture.panels, strict=True):
            _panel(place, panel)
        # Without the date a file changes only when its curves do.
        figure.savefig(folder / f"{picture.name}.svg", metadata={"Date": None})


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.hashsalt": "chatd",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 8,
        }
    )


def _panel(axes: Axes, panel: Panel) -> None:
    curves = [one for one in panel.curves if one.points]
    for one in curves:
        _curve(axes, one)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if panel.log_x:
        _log_x(axes, panel)
    else:
        axes.set_xlim(left=0)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        most = max((max(point.runs) for one in curves for point in one.points), default=0)
        axes.set_ylim(0, most * ROOM_ABOVE or 1)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    if len(curves) > 1:
        axes.legend()


def _curve(axes: Axes, one: Curve) -> None:
    colour = COLOURS[one.hue]
    x = [point.x for point in one.points]
    low, middle, high = zip(
        *(
            (min(point.runs), statistics.median(point.runs), max(point.runs))
            for point in one.points
        ),
        strict=True,
    )
    axes.plot(
        x,
        middle,
        color=colour,
        linestyle="--" if one.dashed else "-",
        marker="o",
        markersize=3.5,
        linewidth=1.4,
        label=one.name,
    )
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _log_x(axes: Axes, panel: Panel) -> None:
    """Logarithmic, with a place for 0 where there is one, and a tick at each point."""
    ticks = sorted({point.x for one in panel.curves for point in one.points})
    positive = [tick for tick in ticks if tick > 0]
    if positive and len(positive) < len(ticks):
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    else:
        axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
