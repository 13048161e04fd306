"""What is wrong with a PromQL expression, seen against what is exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import promql_parser

from tests.tracking.exported import TARGET_LABELS, Known

_ON_COUNTERS = frozenset({"rate", "increase"})
_OVER_TIME = frozenset({"last_over_time"})
"""Functions of a range that suit gauges too."""


@dataclass(slots=True)
class Reading:
    """What a walk through one expression found.

    Attributes:
        problems: in words.
        names: metrics that are asked for. `raw`: counters that are read as they are.
        unlimited: metrics that are not limited to certain runs.
    """

    known: Mapping[str, Known]
    problems: list[str] = field(default_factory=list)
    raw: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    unlimited: set[str] = field(default_factory=set)

    def labels(self, node: object, function: str = "") -> frozenset[str]:
        """Labels of what `node` gives; problems found on the way are kept."""
        match node:
            case promql_parser.VectorSelector():
                return self._selector(node, function)
            case promql_parser.MatrixSelector():
                return self._selector(node.vector_selector, function)
            case promql_parser.AggregateExpr():
                return self._aggregate(node)
            case promql_parser.BinaryExpr():
                return self._binary(node)
            case promql_parser.Call():
                return self._call(node)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
                return self.labels(node.expr)
            case promql_parser.SubqueryExpr():
                return self.labels(node.expr, "subquery")
        return frozenset()

    def _selector(self, node: promql_parser.VectorSelector, function: str) -> frozenset[str]:
        name = node.name or ""
        known = self.known.get(name)
        self.names.add(name)
        if known is None:
            self.problems.append(f"{name}: nothing exports it")
            return frozenset()
        matchers = {matcher.name for matcher in node.matchers.matchers}
        for label in sorted(matchers - known.labels):
            self.problems.append(f"{name}: its series have no label {label!r}")
        if "run" not in matchers:
            self.unlimited.add(name)
        if known.grows and function not in _ON_COUNTERS:
            self.raw.add(name)
        if not known.grows and function and function not in _OVER_TIME:
            self.problems.append(f"{name}: {function}() of what is no counter")
        return known.labels

    def _aggregate(self, node: promql_parser.AggregateExpr) -> frozenset[str]:
        below = self.labels(node.expr)
        if node.modifier is None:
            return frozenset()
        kept = frozenset(node.modifier.labels)
        self._present(kept, below, "by")
        return kept

    def _binary(self, node: promql_parser.BinaryExpr) -> frozenset[str]:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        matching = None if node.modifier is None else node.modifier.matching
        if matching is not None:
            for side in (left, right):
                self._present(frozenset(matching.labels), side, "on")
        return left or right

    def _call(self, node: promql_parser.Call) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for argument in node.args:
            found |= self.labels(argument, node.func.name)
        if node.func.name == "histogram_quantile" and "le" not in found:
            self.problems.append("histogram_quantile() of series without le")
        return found - {"le"} if node.func.name == "histogram_quantile" else found

    def _present(self, wanted: frozenset[str], there: frozenset[str], word: str) -> None:
        for label in sorted(wanted - there):
            self.problems.append(f"{word} ({label}): the series there have no such label")


def read(expr: str, known: Mapping[str, Known]) -> tuple[Reading, frozenset[str]]:
    """The expression read to its end, and the labels of its result.

    Raises:
        ValueError: it is no PromQL.
    """
    reading = Reading(known)
    labels = reading.labels(promql_parser.parse(expr))
    return reading, labels


def of_alert(expr: str, known: Mapping[str, Known]) -> Iterator[str]:
    """What is wrong with the expression of an alert, which says what run it is about."""
    reading, labels = read(expr, known)
    yield from reading.problems
    yield from (f"{name}: a counter as it is" for name in sorted(reading.raw))
    for label in sorted({"instance", "run"} - (labels & TARGET_LABELS)):
        yield f"its result does not say {label!r}"
