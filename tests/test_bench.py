"""`python -m bench`, short and small: every line says what it should. Nothing is said of speed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from bench.__main__ import LINES
from bench.curves import Curve, Panel, Picture, Point
from bench.drawing import draw
from bench.load import Load, NoCompiler, compiled, generator
from bench.overload import stored_between
from bench.server import SQLITE, Person, Site, pairs, port_of

ROOT: Final = Path(__file__).parent.parent
SHORT: Final = ("--quick", "--runs", "1", "--seconds", "0.1", "--warm-up", "0.1")
SLOW: Final = "Load generator: Python"
PARTS: Final = (
    ("fanout", "pairs", "latency", "idle", "reconnect", "sign-ins"),
    ("growth", "overload"),
)
SERVERS: Final = "cluster"
"""The line that needs a mongod and a nats-server."""
IN_FLIGHT: Final = 4
PAIRS: Final = 5


@pytest.fixture
def in_c() -> None:
    """The generator's program is there."""
    try:
        compiled()
    except NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing on the PATH, and nothing compiled before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def bench(*arguments: str) -> str:
    """What the benchmark prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, *SHORT],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(text: str) -> list[Mapping[str, str]]:
    """The rows of all tables in a part of the output."""
    rows: list[Mapping[str, str]] = []
    headings: Sequence[str] = ()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headings = ()
        elif not headings:
            headings = cells
        elif not cells[0].startswith("--"):
            rows.append(dict(zip(headings, cells, strict=True)))
    return rows


def check(output: str, lines: Sequence[str]) -> None:
    """Each line has a table, and a goal; what is acked is stored."""
    heading, *parts, goals = output.split("\n### ")
    assert "NO FIGURES TO COMPARE" in heading
    assert len(parts) == len(lines)
    for part in parts:
        assert table(part), part
    assert {row["line"] for row in table(goals)} == set(lines)
    kept = [row for row in table(goals) if row["goal"].startswith("nothing acked is lost")]
    assert [row[""] for row in kept] == ["reached"] * ("overload" in lines)


@pytest.mark.usefixtures("in_c")
def test_each_line_has_its_tables_and_goals() -> None:
    assert {line for lines in PARTS for line in lines} | {SERVERS} == set(LINES)
    # Side by side: they wait more than they work.
    with ThreadPoolExecutor(len(PARTS)) as pool:
        outputs = pool.map(lambda lines: bench(*lines), PARTS)
    for lines, output in zip(PARTS, outputs, strict=True):
        assert SLOW not in output
        check(output, lines)


@pytest.mark.mongod
@pytest.mark.nats
@pytest.mark.full(SERVERS)
@pytest.mark.parametrize("line", [SERVERS])
@pytest.mark.usefixtures("in_c")
def test_several_servers_have_their_tables_and_goal(line: str) -> None:
    output = bench(line)
    check(output, [line])
    _, part, _ = output.split("\n### ")
    deliveries, shards, _, healing = part.split("\n\n")
    assert {row["servers"] for row in table(deliveries)} == {"1, no NATS", "2, all apart", "2"}
    across = [row for row in table(deliveries) if row["servers"] != "1, no NATS"]
    assert all(row["packets a message"] != "0 (0–0)" for row in across)
    assert {row["shards"] for row in table(shards)} == {"4096"}
    assert table(healing)


@pytest.mark.usefixtures("in_python")
def test_without_a_compiler_the_load_comes_from_python() -> None:
    output = bench("latency")
    assert SLOW in output
    check(output, ["latency"])


@pytest.mark.usefixtures("in_python")
def test_the_generator_in_python_says_what_it_cannot_do() -> None:
    assert not generator().speaks("nats")
    command = [*generator().command, "1", "dialect=nats"]
    done = subprocess.run(command, capture_output=True, text=True, input="/x\n\n", check=False)
    assert done.returncode == 1
    assert "does not speak nats" in done.stderr


def acked(port: int, people: Sequence[Person], until: str) -> int:
    """How many messages were in a short run, of which the load generator says what must be so."""
    with Load(
        port, pairs(people), in_flight=IN_FLIGHT, until=until, warm_up=0.1, seconds=0.2
    ) as load:
        ready = load.ready()
        load.begun()
        load.stopped()
        counted = load.counted()
    assert (ready.received, ready.gaps) == (0, 0)
    assert (counted.gaps, counted.errors, counted.unanswered) == (0, 0, 0)
    assert counted.acked > counted.sent > 0
    # All that was written has arrived and was timed.
    assert counted.timed == counted.written
    assert 0 < counted.p50_ms <= counted.p99_ms <= counted.max_ms
    # What was in flight at the beginning and at the end makes the difference.
    answered = counted.sent if until == "sent" else counted.receipted
    assert abs(counted.written - answered) <= PAIRS * IN_FLIGHT
    return counted.acked


@pytest.mark.parametrize("kind", ["in_c", "in_python"])
def test_both_generators_count_what_is_there(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    request.getfixturevalue(kind)
    assert bool(generator().told) is (kind == "in_python")

    def stored_and_told() -> tuple[int, int]:
        site = Site(tmp_path / "site", SQLITE)
        people = site.people(2 * PAIRS)
        with site.serving() as server:
            told = sum(acked(port_of(server), people, until) for until in ("sent", "receipt"))
        return stored_between(site, people), told

    # A site has loops of its own, and this thread has that of the tests.
    with ThreadPoolExecutor(1) as thread:
        stored, told = thread.submit(stored_and_told).result()
    assert stored == told


def test_curves_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    curves = [Curve("chatd", [Point(0, [1, 2, 3]), Point(10, [2]), Point(1000, [2, 4])])]
    picture = Picture("grown", [Panel("More", "messages", "CPU µs", curves, log_x=True)])
    drawn: list[bytes] = []
    for _ in range(2):
        draw(tmp_path, picture)
        drawn.append((tmp_path / "grown.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert ElementTree.fromstring(drawn[0]).tag.endswith("svg")
