"""How fuzzers run, and values of every kind: the same again with the same seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from hypothesis.vendor.pretty import RepresentationPrinter
from schemathesis.generation.hypothesis import setup

Test = TypeVar("Test", bound=Callable[..., None])

numbers: Final[SearchStrategy[float]] = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64]),
    st.floats(),
)
texts: Final[SearchStrategy[str]] = st.one_of(
    # Of any characters, lone surrogates too.
    st.text(st.characters(codec=None, exclude_categories=())),
    st.sampled_from(["\0", "\ud800", "\u202e", "$ne", "../..", "' OR 1=1 --", "%00", "x" * 70]),
)
json_values: Final[SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def fuzz(chance: Random, examples: int, *, shrink: bool = True) -> Callable[[Test], Test]:
    """Decorates what ``@given`` has made; nothing is kept from one run for the next.

    ``shrink`` what fails to the least that does; not so where each try would wait for long.
    """
    options = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        # What explains a failure is its example alone: most of the code is in another process.
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        print_blob=False,
        report_multiple_bugs=False,
        # Each example asks a server, and large input is what some are about.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    seed = chance.getrandbits(64)

    def decorate(test: Test) -> Test:
        # Schemathesis puts one in its place that shows nothing of an example that fails.
        setup()
        vars(hypothesis.core)["RepresentationPrinter"] = RepresentationPrinter
        return options(hypothesis.seed(seed)(test))

    return decorate
