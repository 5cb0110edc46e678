"""The running server, measured: ``python -m bench --help`` in the checkout."""

from __future__ import annotations

import argparse
import shlex
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import tornado
from pymongo.errors import PyMongoError

from bench.cluster import cluster
from bench.crowds import idle, latency, reconnect
from bench.curves import Picture
from bench.growth import growth
from bench.load import Unmeasurable, generator
from bench.measure import Goal, Outcome, Plan
from bench.overload import overload
from bench.processes import allow_sockets
from bench.report import machine, table
from bench.signing_in import sign_ins
from bench.storage import whole
from bench.throughput import fanout, paired
from chatd import __version__

LINES: Final[Mapping[str, Callable[[Plan], Outcome]]] = MappingProxyType(
    {
        "fanout": fanout,
        "pairs": paired,
        "latency": latency,
        "idle": idle,
        "reconnect": reconnect,
        "sign-ins": sign_ins,
        "growth": growth,
        "overload": overload,
        "cluster": cluster,
    }
)
FILES: Final = 4096
"""As many open files as any line needs that does not say otherwise."""

Draw = Callable[[Picture], None]

_MET: Final = MappingProxyType({True: "reached", False: "missed", None: "–"})


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the running server against its goals. The stores alone, beside each "
        "other: python -m bench.storage.",
    )
    parser.add_argument(
        "lines",
        nargs="*",
        metavar="LINE",
        help=f"some of {', '.join(LINES)} (default: all)",
    )
    parser.add_argument(
        "--runs",
        type=partial(whole, 1),
        default=5,
        help="of each figure, behind one for warm-up (default: 5)",
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="that a run is measured (default: 3)"
    )
    parser.add_argument(
        "--warm-up", type=float, default=1.0, help="seconds at the start of a run (default: 1)"
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="FOLDER",
        help="draw the curves of growth and overload there, as SVG; needs matplotlib",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="see that all works, with small groups and stores and no peer that had to be "
        "installed: no figures to compare",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.lines) - set(LINES):
        parser.error(f"{', '.join(sorted(unknown))} is none of {', '.join(LINES)}")
    return options


def heading(arguments: Sequence[str], plan: Plan) -> str:
    return (
        f"{shlex.join(['python', '-m', 'bench', *arguments])}\n"
        f"{machine(plan.folder)}, chatd {__version__}, Tornado {tornado.version}, "
        f"SQLite {sqlite3.sqlite_version}\n\n"
        f"{plan.told()}: medians (least–most). × is the ratio to the figure of the first named in "
        "the same run. The server has one core, the clients another; CPU is all of the server's "
        f"process. {generator().told}".rstrip()
    )


def goals(reached: Sequence[Goal]) -> str:
    rows = [[one.line, one.what, one.wanted, one.got, _MET[one.met]] for one in reached]
    return table(["line", "goal", "wanted", "median", ""], rows, text_columns=5)


def measure(lines: Sequence[str], plan: Plan, draw: Draw) -> None:
    reached: list[Goal] = []
    for line in lines:
        outcome = LINES[line](plan)
        print(f"\n### {outcome.title}\n{outcome.table}", flush=True)
        reached += outcome.goals
        for picture in outcome.pictures:
            draw(picture)
    print(f"\n### Goals\n{goals(reached)}", flush=True)


def drawing(folder: Path | None) -> Draw:
    """What draws pictures into the folder; without one, nothing is drawn."""
    if folder is None:
        return lambda _: None
    try:
        from bench.drawing import draw  # noqa: PLC0415 - all else works without matplotlib
    except ImportError as error:
        raise Unmeasurable(
            f"--plots needs matplotlib: pip install -e '.[bench]' ({error})"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    return partial(draw, folder)


def main(arguments: Sequence[str]) -> None:
    options = parsed(arguments)
    # Whoever ends this by SIGTERM wants no server left behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    allow_sockets(FILES)
    try:
        with tempfile.TemporaryDirectory(prefix="chatd-bench-") as folder:
            plan = Plan(Path(folder), options.runs, options.warm_up, options.seconds, options.quick)
            print(heading(arguments, plan), flush=True)
            measure(options.lines or tuple(LINES), plan, drawing(options.plots))
    except (PyMongoError, Unmeasurable) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
