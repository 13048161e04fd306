"""A trial: parameters, a state, and an outcome that is a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from runtimes.failure import Failure
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import DEGREES
from runtimes.quantization import PARTS

LAYOUT_PRESET = "parallel.preset"
"""Parameter that names a layout of `runtimes.presets`; null for the degrees beside it."""
LAYOUT_NAMES = (LAYOUT_PRESET, *DEGREES)
"""Parameters that make the layout."""
PRECISION_PRESET = "quantization.preset"
"""Parameter that names a precision of `runtimes.presets`; null for the parts beside it."""
PRECISION_PARTS = {f"quantization.{part}": part for part in PARTS}
"""Part of a precision (`kv_cache`) by parameter name (`quantization.kv_cache`)."""
PRECISION_NAMES = (PRECISION_PRESET, *PRECISION_PARTS)
"""Parameters that make the precision; all others are engine arguments or `env.NAME`."""


class TrialState(Enum):
    """Where a trial stands; the value is what record, metrics and JSON carry."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    INFEASIBLE = "infeasible"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self not in (TrialState.QUEUED, TrialState.RUNNING)


@dataclass(frozen=True, slots=True)
class Params:
    """What the search chose: an engine, and values by parameter name.

    `values` holds degrees (`tp`) or `parallel.preset`, precisions (`quantization.kv_cache`) or
    `quantization.preset`, engine arguments by their long name (`max-num-seqs`) and environment
    variables as `env.NAME`. What the search leaves to the engine is absent, and so are the
    degrees and precisions that a preset replaces.
    """

    engine: str
    values: Mapping[str, Json] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for equal parameters, whatever their order."""
        return canonical_json([self.engine, dict(self.values)])


@dataclass(frozen=True, slots=True)
class Completed:
    """Measured.

    Attributes:
        objectives: value by objective name, in its own unit and direction.
        violations: per SLO limit, its relative excess; ≤ 0 is met.
    """

    objectives: Mapping[str, float]
    violations: Mapping[str, float] = field(default_factory=dict)
    state = TrialState.COMPLETED

    @property
    def slo_met(self) -> bool:
        return all(excess <= 0 for excess in self.violations.values())


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The configuration cannot work here; `failure` is set when an engine showed it."""

    reason: str
    failure: Failure | None = None
    state = TrialState.INFEASIBLE


@dataclass(frozen=True, slots=True)
class Pruned:
    """Ended early on purpose."""

    reason: str
    state = TrialState.PRUNED


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine or its node failed; says nothing about the configuration's worth."""

    failure: Failure
    state = TrialState.FAILED


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Stopped from outside; runs again on resume."""

    reason: str
    state = TrialState.CANCELLED


Outcome: TypeAlias = Completed | Infeasible | Pruned | Failed | Cancelled
