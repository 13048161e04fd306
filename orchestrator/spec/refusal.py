"""How a validator of the experiment file says no: the rule, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

NOT_YET = "not yet supported by this version"
"""The rule that keys and values of later versions break."""


class RefusedValueError(ValueError):
    """A value that may not stand where it stands.

    Attributes:
        rule: what is wrong, without the value itself.
        remedy: what to write instead.
    """

    def __init__(self, rule: str, remedy: str = "") -> None:
        self.rule = rule
        self.remedy = remedy
        super().__init__(f"{rule}; {remedy}" if remedy else rule)


def suggestion(name: str, known: Sequence[str]) -> str:
    """`did you mean 'x'? known here: …`, for a name that is not among `known`."""
    close = closest(name, known)
    hint = f"did you mean {close!r}? " if close is not None else ""
    return f"{hint}known here: {', '.join(sorted(known))}"


def closest(name: str, known: Sequence[str]) -> str | None:
    """The one of `known` that `name` probably stands for."""
    matches = get_close_matches(name, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
