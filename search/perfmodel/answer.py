"""What the performance model answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Bottleneck(Enum):
    """What most of the time goes to."""

    COMPUTE = "compute"
    MEMORY = "memory"
    COMMUNICATION = "communication"
    OVERHEAD = "overhead"


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds that hold the true value nine times of ten, in the unit of the value."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Where the time of one phase goes, in seconds; operators that wait for memory count there.

    The parts add up to the whole. For decode one step, for prefill one whole prompt by itself.
    """

    compute_s: float
    memory_s: float
    communication_s: float
    overhead_s: float

    @property
    def seconds(self) -> float:
        return self.compute_s + self.memory_s + self.communication_s + self.overhead_s

    @property
    def bottleneck(self) -> Bottleneck:
        parts = {
            Bottleneck.COMPUTE: self.compute_s,
            Bottleneck.MEMORY: self.memory_s,
            Bottleneck.COMMUNICATION: self.communication_s,
            Bottleneck.OVERHEAD: self.overhead_s,
        }
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the fullest GPU, and what they allow.

    Attributes:
        weights, activations, collectives, runtime: what is not KV cache.
        kv_cache: what the load's running sequences take, their answers half there.
        kv_budget: what the engine's rule leaves for the KV cache; negative when nothing is left.
        capacity: memory of the accelerator.
        max_sequences: sequences of the load's full length that the budget holds, per replica.
        short_by: bytes by which one sequence does not fit, even with the least of activations and
            runtime; 0 when it does. Of engines that start only with room for the longest sequence
            they are told of, that one.
        one_tokens, one_kv: tokens of the sequence that `short_by` is of, and their KV cache.
    """

    weights: float
    activations: float
    collectives: float
    runtime: float
    kv_cache: float
    kv_budget: float
    capacity: float
    max_sequences: float
    short_by: float
    one_tokens: float
    one_kv: float

    @property
    def fits(self) -> bool:
        """True when the weights and at least one sequence of the load fit."""
        return self.short_by <= 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer. Times in milliseconds, rates over all replicas per second.

    Attributes:
        ttft_ms: mean time to first token, waiting included; infinite in an unstable open loop.
        tpot_ms: mean time per output token after the first.
        e2e_ms: mean time from request to last token.
        request_throughput, output_throughput, total_throughput: requests and tokens per second.
        gpus: accelerators in all.
        running: sequences that run at once per replica.
        waiting_ms: of the TTFT, what a request waits before it is first computed.
        decode: one decode step under the load.     prefill: one prompt by itself.
        intervals: of `ttft_ms`, `tpot_ms` and `output_throughput`.
        extrapolates: in words, what of it no measurement stands behind; empty when all is.
        stable: False when requests arrive faster than they can be served.
    """

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    request_throughput: float
    output_throughput: float
    total_throughput: float
    gpus: int
    running: float
    waiting_ms: float
    memory: Memory
    decode: PhaseCost
    prefill: PhaseCost
    ttft_interval_ms: Interval
    tpot_interval_ms: Interval
    throughput_interval: Interval
    extrapolates: tuple[str, ...] = ()
    stable: bool = True

    @property
    def output_throughput_per_gpu(self) -> float:
        return self.output_throughput / self.gpus

    @property
    def uncertainty(self) -> float:
        """Half width of the interval of `tpot_ms` over its value: 0.2 is ± 20 %."""
        interval = self.tpot_interval_ms
        return (interval.high - interval.low) / (2 * self.tpot_ms)
