"""What a PromQL expression reads: metrics, and which of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Expr, VectorSelector

SCRAPED = frozenset({"instance", "job"})
"""Labels that Prometheus adds to whatever it reads."""


class Read(NamedTuple):
    """One selector, with the values that its matchers name by label."""

    metric: str
    matchers: dict[str, str]
    grouped: frozenset[str]
    """The labels that an aggregation around it keeps."""


def reads(expression: str) -> list[Read]:
    """Every selector of an expression; ValueError where it is none."""
    return list(_reads(promql_parser.parse(expression), frozenset()))


def _reads(expression: Expr, grouped: frozenset[str]) -> Iterator[Read]:
    if isinstance(expression, VectorSelector):
        matchers = {one.name: one.value for one in expression.matchers.matchers}
        assert expression.name is not None
        yield Read(expression.name, matchers, grouped)
    if isinstance(expression, AggregateExpr) and expression.modifier is not None:
        grouped = frozenset(expression.modifier.labels)
    for child in _children(expression):
        yield from _reads(child, grouped)


def _children(expression: Expr) -> list[Expr]:
    if isinstance(expression, BinaryExpr):
        return [expression.lhs, expression.rhs]
    named = (getattr(expression, name, None) for name in ("expr", "vector_selector"))
    return [*getattr(expression, "args", ()), *(one for one in named if isinstance(one, Expr))]
