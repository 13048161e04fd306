"""Keys and kinds of later versions: known, and refused with what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.spec.refusal import NOT_YET
from runtimes.errors import Problem

_PYTHON = "name an interpreter: {python: PATH}"
_COLOCATED = "use {kind: colocated}"
_DEGREES = (
    "ep", "dcp", "pcp", "cp", "attention_dp", "moe_tp", "moe_ep", "moe_dense_tp", "moe_cluster",
)  # fmt: skip
_KEYS: Mapping[tuple[str, ...], str] = {
    ("quantization",): "write the engine's own arguments (`kv-cache-dtype`, `quantization`)",
    ("combinations",): "list the values under `parallel` and `search`",
    ("offline",): "set HF_HUB_OFFLINE under the engine's `env`",
    ("weights",): "set `load-format: dummy` under the engine's `args`",
    ("deployment", "prefill"): _COLOCATED,
    ("deployment", "decode"): _COLOCATED,
    ("deployment", "router"): _COLOCATED,
    ("search", "finalists"): "remove it",
    ("search", "pruner"): "remove it",
    ("metrics", "linger"): "remove it",
    ("parallel", "presets"): "list the degrees: {tp: [1, 2, 4]}",
    **{("parallel", degree): "tp, pp and dp are supported" for degree in _DEGREES},
    ("engines", "*", "environment", "requirements"): _PYTHON,
    ("engines", "*", "environment", "image"): _PYTHON,
    ("engines", "*", "environment", "label"): _PYTHON,
}
_KINDS: Mapping[tuple[str, ...], tuple[str, Sequence[str]]] = {
    ("workload", "load"): (
        "use concurrency or poisson",
        ("constant", "gamma", "ramp", "stages", "sweep", "replay", "max_under_slo"),
    ),
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
