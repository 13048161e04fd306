"""What may stand nowhere in an experiment, whatever the key: nothing could take it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from orchestrator.spec.problems import Location, dotted
from runtimes.errors import Problem
from runtimes.json_types import Json

MOST_VALUES = 1_000_000
"""Values in one experiment; a few aliases of aliases are more than any memory holds."""
_WHOLE = 10**300
"""Whole numbers lie below it, in size, so that a float can stand for each."""

_HALF = re.compile("[\ud800-\udfff]")


def out_of_bounds(data: Mapping[str, Json]) -> list[Problem]:
    """Every number and text of `data` that nothing can take, or that it holds too many of them."""
    problems: list[Problem] = []
    for count, (location, value) in enumerate(_values(data)):
        if count == MOST_VALUES:
            rule = f"holds more than {MOST_VALUES:,} values, those of aliases included"
            return [Problem("", rule, remedy="write ranges in place of lists, and fewer aliases")]
        problems += _problems(location, value)
    return problems


def _problems(location: Location, value: object) -> Iterator[Problem]:
    if isinstance(value, int) and abs(value) >= _WHOLE:
        yield Problem(
            dotted(location), "is a whole number of more than 300 digits",
            remedy="write a smaller one",
        )  # fmt: skip
    elif isinstance(value, float) and not math.isfinite(value) and "args" in location:
        yield Problem(
            dotted(location), "is no finite number", repr(value), "write one, or text in quotes"
        )
    elif isinstance(value, str) and "\0" in value:
        yield Problem(
            dotted(location),
            "holds the character of number 0, which no command and no variable can hold",
            remedy="remove it",
        )
    elif isinstance(value, str) and _HALF.search(value):
        yield Problem(
            dotted(location), "holds half of a character, as \\ud83d without what belongs to it",
            remedy="write the character itself",
        )  # fmt: skip


def _values(data: Mapping[str, Json]) -> Iterator[tuple[Location, object]]:
    """Every value below `data` with its place, in the order of the file; without recursion, since
    nothing says how deep it goes.
    """
    waiting: list[tuple[Location, object]] = [((), data)]
    while waiting:
        location, value = waiting.pop()
        yield location, value
        inside: list[tuple[Location, object]] = []
        if isinstance(value, Mapping):
            inside = [((*location, str(key)), item) for key, item in value.items()]
        elif isinstance(value, list):
            inside = [((*location, index), item) for index, item in enumerate(value)]
        waiting += reversed(inside)
