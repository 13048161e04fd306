"""A broken experiment without what is broken in it, so that the rest can be checked as well."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from orchestrator.spec.problems import Location, dotted, value_at
from runtimes.errors import Problem
from runtimes.json_types import Json
from search.objectives.base import OBJECTIVES

_REQUIRED: Mapping[str, Json] = {"name": "unnamed", "model": "unnamed", "engines": {"vllm": None}}


def repaired(data: Mapping[str, Json], broken: Sequence[Location]) -> dict[str, Json]:
    """A copy of `data` without what stands at the places `broken`.

    Stand-ins, about which nothing may be said, hold the places of required keys and of elements
    of lists, so that the elements behind them keep their index.
    """
    rest = copy.deepcopy(dict(data))
    elements: Mapping[str, Json] = {
        "combinations": {},
        "constraints": "gpus > 0",
        "objectives": {"maximize": _objective_not_in(data)},
    }
    for location in sorted(broken, key=len, reverse=True):
        if len(location) > 1 and isinstance(location[1], int) and location[0] in elements:
            listed = rest.get(str(location[0]))
            if isinstance(listed, list):
                listed[location[1]] = elements[str(location[0])]
            continue
        while location:  # of another list, the whole of it
            holder = value_at(rest, location[:-1])
            if isinstance(holder, dict):
                holder.pop(location[-1], None)
                break
            location = location[:-1]
    for key, stand_in in _REQUIRED.items():
        if not rest.get(key):
            rest[key] = stand_in
    return rest


def speaks_of(problem: Problem, broken: Sequence[Location]) -> bool:
    """Whether `problem` is about a place in `broken`, or about what lies in or around one."""
    places = [dotted(location) for location in broken]
    return any(_within(problem.path, place) or _within(place, problem.path) for place in places)


def _within(path: str, other: str) -> bool:
    return path == other or path.startswith((f"{other}.", f"{other}["))


def _objective_not_in(data: Mapping[str, Json]) -> str:
    written = str(data.get("objectives"))
    names = (name for name in OBJECTIVES.names() if not OBJECTIVES.get(name).requires_price)
    return next((name for name in names if name not in written), "goodput")
