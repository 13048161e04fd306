"""Figures of a running trial, about one a second; shown and exported, never recorded as results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What a running attempt shows at this instant.

    Attributes:
        completed, failed, planned: requests of the measured stage.
        output_tokens_per_s: output tokens per second over about the last second.
        requests_running, requests_waiting, kv_cache_usage_ratio: the engine's own gauges;
            None when it did not say.
    """

    number: int
    attempt: int
    gpus: int
    completed: int
    failed: int
    planned: int
    output_tokens_per_s: float
    requests_running: float | None = None
    requests_waiting: float | None = None
    kv_cache_usage_ratio: float | None = None

    @property
    def output_tokens_per_s_per_gpu(self) -> float:
        return self.output_tokens_per_s / self.gpus
