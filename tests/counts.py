"""How much the fault tests do, by which chance, and what they have counted.

The everyday run has short counts, ``--full`` the whole ones. What a test leaves to chance follows
from ``--seed`` and the test's own name, so that it does the same again, alone too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random, SystemRandom
from typing import Any, Final, NamedTuple, TypeVar

import pytest

T = TypeVar("T")
Report = Callable[[str], None]

PATIENCE: Final = 10
"""How many times as long a test may take in the full run."""

SEED: Final = "seed"
COUNTED: Final = "counted"


class Scale(NamedTuple):
    """``scale(short, full)`` is what fits the run."""

    is_full: bool

    def __call__(self, short: T, full: T) -> T:
        return full if self.is_full else short


# -- options ---------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chatd")
    group.addoption(
        "--full", action="store_true", help="the full counts of the fault tests; takes an hour"
    )
    group.addoption(
        "--seed", type=int, metavar="N", help="do again what a run with this seed left to chance"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        handed: dict[str, Any] = getattr(config, "workerinput", {})
        config.option.seed = handed.get(SEED, SystemRandom().randrange(1_000_000))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand a worker of pytest-xdist the seed of all."""
    node.workerinput[SEED] = node.config.option.seed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.full:
        seldom = [item for item in items if _is_seldom(item)]
        config.hook.pytest_deselected(items=seldom)
        items[:] = [item for item in items if item not in seldom]
        return
    for item in items:
        own = item.get_closest_marker("timeout")
        seconds = float(own.args[0] if own else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(PATIENCE * seconds), append=False)


def _is_seldom(item: pytest.Item) -> bool:
    """Whether ``full("mongo", …)`` names a parameter of this case."""
    mark = item.get_closest_marker("full")
    case = item.name.partition("[")[2].rstrip("]")
    return mark is not None and not set(mark.args).isdisjoint(case.split("-"))


# -- fixtures --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether this is the full run."""
    return bool(pytestconfig.option.full)


@pytest.fixture(scope="session")
def scale(full: bool) -> Scale:
    """Chooses between the count of the everyday run and that of the full one."""
    return Scale(full)


@pytest.fixture
def chance(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Random:
    """What the test leaves to chance; the end of the output says how to have it again."""
    seed = request.config.option.seed
    record_property(SEED, seed)
    return Random(f"{seed} {request.node.nodeid}")


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Says at the end of the output what the test has counted."""
    return lambda text: record_property(COUNTED, text)


# -- the end of the output -------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    recorded = list(_recorded(terminalreporter))
    counted = [f"{nodeid}: {value}" for nodeid, name, value in recorded if name == COUNTED]
    seeds = {
        f"seed {value}: run again with --seed {value}"
        for _, name, value in recorded
        if name == SEED
    }
    if counted or seeds:
        terminalreporter.section("counted")
        for line in (*counted, *seeds):
            terminalreporter.line(line)


def _recorded(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, str, object]]:
    """Node id, name and value of all that tests have recorded, in their order."""
    for reports in reporter.stats.values():
        for one in reports:
            # The last of a test's three reports, of which each has all that was recorded before.
            if isinstance(one, pytest.TestReport) and one.when == "teardown":
                for name, value in one.user_properties:
                    yield one.nodeid, name, value
