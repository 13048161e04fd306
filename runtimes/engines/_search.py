"""What is worth searching in an engine: the material of `servetune init`."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.json_types import Json


@dataclass(frozen=True, slots=True)
class SearchHint:
    """One argument of an engine that is worth searching, and why.

    Attributes:
        name: the argument as users write it, without leading dashes.
        values: its domain as it stands in an experiment file: a list, or `{"int": [low, high]}`
            with what else a dimension takes.
        why: what changes with it, in one sentence.
        when: condition under which the engine heeds it, in the constraint language; empty when
            it always does.
        advanced: True for what a first study leaves alone.
    """

    name: str
    values: Json
    why: str
    when: str = ""
    advanced: bool = False
