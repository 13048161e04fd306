"""Why an engine did not serve: a kind, the root cause in words, a remedy, the tail of its log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """What went wrong; the value is what the record and the metrics carry.

    `retryable` kinds may succeed on another attempt without a change. `infeasible` kinds say
    that the configuration cannot work here, which the search learns as a constraint: the memory
    of a GPU does not suffice for the weights, for the KV cache, for what a start tries out
    (profiling, graph capture), or for the requests that come.
    """

    BAD_ARGUMENT = "bad_argument"
    INVALID_CONFIG = "invalid_config"
    TOO_MANY_GPUS = "too_many_gpus"
    MODEL_MISSING = "model_missing"
    MODEL_GATED = "model_gated"
    CONTEXT_TOO_LONG = "context_too_long"
    QUANTIZATION_MISMATCH = "quantization_mismatch"
    OOM_WEIGHTS = "oom_weights"
    OOM_KV_CACHE = "oom_kv_cache"
    OOM_WARMUP = "oom_warmup"
    OOM_SERVING = "oom_serving"
    HOST_OUT_OF_MEMORY = "host_out_of_memory"
    GPU_BUSY = "gpu_busy"
    PORT_IN_USE = "port_in_use"
    COLLECTIVE = "collective"
    RENDEZVOUS = "rendezvous"
    CPU_BINDING = "cpu_binding"
    MISSING_KERNEL = "missing_kernel"
    EXECUTABLE_MISSING = "executable_missing"
    ENVIRONMENT_FAILED = "environment_failed"
    START_EXIT = "start_exit"
    START_TIMEOUT = "start_timeout"
    CRASHED = "crashed"
    HUNG = "hung"
    REQUESTS_FAILED = "requests_failed"
    CLIENT_LIMITED = "client_limited"
    TRIAL_TIMEOUT = "trial_timeout"
    NODE_LOST = "node_lost"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, value: object) -> FailureKind | None:
        """A kind that records of former versions hold; they did not tell when memory ran out."""
        return cls.OOM_SERVING if value == "out_of_memory" else None

    @property
    def retryable(self) -> bool:
        return self in _RETRYABLE

    @property
    def infeasible(self) -> bool:
        return self in _INFEASIBLE


_INFEASIBLE = frozenset(
    {
        FailureKind.OOM_WEIGHTS,
        FailureKind.OOM_KV_CACHE,
        FailureKind.OOM_WARMUP,
        FailureKind.OOM_SERVING,
    }
)
_RETRYABLE = frozenset(
    {
        FailureKind.HOST_OUT_OF_MEMORY,  # what else ran on the node may have taken the memory
        FailureKind.GPU_BUSY,
        FailureKind.PORT_IN_USE,
        FailureKind.COLLECTIVE,
        FailureKind.RENDEZVOUS,
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
