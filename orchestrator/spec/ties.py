"""Values of the workload that arguments can be tied to: `{equals: concurrency}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.spec.refusal import RefusedValueError, suggestion
from runtimes.json_types import Json

if TYPE_CHECKING:
    from orchestrator.spec.workloads import WorkloadSpec

TIED_VALUES = ("concurrency", "rate", "requests", "input_tokens", "output_tokens")
"""What `equals` may name."""


@dataclass(frozen=True, slots=True)
class Tie:
    """An argument that has a value of the workload; `to` is one of `TIED_VALUES`."""

    to: str


def parse_tie(value: object) -> Tie | None:
    """The tie that is written as `value`; None when it is none.

    Raises:
        RefusedValueError: it names no value of a workload.
    """
    if not isinstance(value, Mapping) or set(value) != {"equals"}:
        return None
    name = value["equals"]
    if name not in TIED_VALUES:
        raise RefusedValueError(
            "`equals` names no value of the workload", suggestion(str(name), TIED_VALUES)
        )
    return Tie(str(name))


def tied_value(tie: Tie, workload: WorkloadSpec) -> Json:
    """The number that `tie` stands for.

    Raises:
        RefusedValueError: `workload` has no such value.
    """
    if tie.to in ("input_tokens", "output_tokens"):
        if tie.to not in workload.settings:
            raise RefusedValueError(
                f"the workload {workload.kind} has no {tie.to} of its own",
                "write the number itself",
            )
        tokens = workload.settings[tie.to]
        if isinstance(tokens, int) and not isinstance(tokens, bool):
            return tokens
        raise RefusedValueError(
            f"{tie.to} differs from request to request, so nothing can equal it",
            "write the number itself",
        )
    load = workload.load
    value = {"concurrency": "value", "rate": "rate", "requests": "request_count"}[tie.to]
    found: Json = getattr(load, value, None)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if found is None:
        raise RefusedValueError(
            f"the load {load.kind} has no {tie.to} of its own", "write the number itself"
        )
    return found
