"""Keys and kinds of later versions: known, and refused with what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.spec.refusal import NOT_YET
from runtimes.errors import Problem

_COLOCATED = "use {kind: colocated}"
_KEYS: Mapping[tuple[str, ...], str] = {
    ("deployment", "prefill"): _COLOCATED,
    ("deployment", "decode"): _COLOCATED,
    ("deployment", "router"): _COLOCATED,
    ("search", "finalists"): "remove it",
    ("search", "pruner"): "remove it",
}
_KINDS: Mapping[tuple[str, ...], tuple[str, Sequence[str]]] = {
    ("deployment",): ("use colocated", ("disaggregated",)),
}


def later_key(location: Sequence[str | int]) -> str | None:
    """What to write instead of the key at `location`; None when no later version has it."""
    for pattern, remedy in _KEYS.items():
        if len(pattern) == len(location) and all(
            expected in ("*", part) for expected, part in zip(pattern, location, strict=True)
        ):
            return remedy
    return None


def later_kind(section: Sequence[str | int], kind: object) -> Problem | None:
    """The problem of a `kind` that only later versions have, in the section at `section`."""
    remedy, later = _KINDS.get(tuple(map(str, section)), ("", ()))
    if kind not in later:
        return None
    return Problem(".".join(map(str, (*section, "kind"))), NOT_YET, repr(kind), remedy)
