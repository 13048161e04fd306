"""Figures of a running trial, about one a second; shown and exported, never recorded as results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What a running attempt shows at this instant.

    Attributes:
        completed, failed, planned: requests of the stage that is measured.
        stage: its index; how many follow is not known while they are chosen from what they show.
        output_tokens_per_s: output tokens per second over about the last second.
        requests_running, requests_waiting, kv_cache_usage_ratio: the engine's own gauges;
            None when it did not say.
        in_flight: requests that the load generator has sent and that have not ended.
        lag_ms: the longest that its event loop ran late over about the last second.
        ttft_mean_ms, tpot_mean_ms: of the requests that ended over about the last second; None
            when none did.
        prefix_cache_hit_ratio: tokens found in the prefix cache over those looked up, since the
            stage began; None where the engine does not count them.
        prompt_tokens, generation_tokens, preemptions: the engine's counters since it started;
            None where it has none.
        scrape_errors: scrapes of the engine that brought nothing, since the stage began; 0 for
            one that has no metrics.
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
    stage: int = 0
    in_flight: int = 0
    lag_ms: float | None = None
    ttft_mean_ms: float | None = None
    tpot_mean_ms: float | None = None
    prefix_cache_hit_ratio: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    preemptions: float | None = None
    scrape_errors: int = 0

    @property
    def progress(self) -> str:
        """`40/72`, and from the second stage on which one it is: `stage 2: 8/72`."""
        done = f"{self.completed}/{self.planned}"
        return f"stage {self.stage + 1}: {done}" if self.stage else done

    @property
    def output_tokens_per_s_per_gpu(self) -> float:
        return self.output_tokens_per_s / self.gpus
