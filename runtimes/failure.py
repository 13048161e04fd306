"""Why an engine did not serve: a kind, the root cause in words, a remedy, the tail of its log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """What went wrong; the value is what the record and the metrics carry.

    `retryable` kinds may succeed on another attempt without a change. `infeasible` kinds say
    that the configuration cannot work here, which the search learns as a constraint.
    """

    BAD_ARGUMENT = "bad_argument"
    INVALID_CONFIG = "invalid_config"
    TOO_MANY_GPUS = "too_many_gpus"
    MODEL_MISSING = "model_missing"
    CONTEXT_TOO_LONG = "context_too_long"
    QUANTIZATION_MISMATCH = "quantization_mismatch"
    OUT_OF_MEMORY = "out_of_memory"
    GPU_BUSY = "gpu_busy"
    PORT_IN_USE = "port_in_use"
    COLLECTIVE = "collective"
    MISSING_KERNEL = "missing_kernel"
    EXECUTABLE_MISSING = "executable_missing"
    ENVIRONMENT_FAILED = "environment_failed"
    START_EXIT = "start_exit"
    START_TIMEOUT = "start_timeout"
    CRASHED = "crashed"
    HUNG = "hung"
    REQUESTS_FAILED = "requests_failed"
    TRIAL_TIMEOUT = "trial_timeout"
    NODE_LOST = "node_lost"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        return self in _RETRYABLE

    @property
    def infeasible(self) -> bool:
        return self is FailureKind.OUT_OF_MEMORY


_RETRYABLE = frozenset(
    {
        FailureKind.GPU_BUSY,
        FailureKind.PORT_IN_USE,
        FailureKind.COLLECTIVE,
        FailureKind.NODE_LOST,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure as it is recorded.

    Attributes:
        kind: the class of the failure.
        message: the root cause, one line, from the engine's log where it has one.
        remedy: what the user can do, one sentence.
        exit_code: the engine's exit status; negative for a signal; None while it lives.
        log_tail: the last lines of the engine's log, secrets masked.
    """

    kind: FailureKind
    message: str
    remedy: str = ""
    exit_code: int | None = None
    log_tail: str = ""
