"""What an engine said of its own work while a stage was measured, summed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tracking.records import EngineUse, Sample


def use_of(
    samples: Sequence[Sample], before: Mapping[str, float], after: Mapping[str, float]
) -> EngineUse | None:
    """Gauges of `samples`, and what the canonical counters grew by; None where nothing was said."""
    gauges: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        gauges[sample.metric].append(sample.value)

    def mean(gauge: str) -> float | None:
        values = gauges.get(gauge)
        return sum(values) / len(values) if values else None

    def grown(counter: str) -> float | None:
        if not before or counter not in after:
            return None
        return after[counter] - before.get(counter, 0.0)  # some show from their first event on

    def per_request(phase: str) -> float | None:
        requests, seconds = grown(f"{phase}_requests_total"), grown(f"{phase}_seconds_total")
        return seconds / requests if requests and seconds is not None else None

    use = EngineUse(
        kv_cache_usage_mean=mean("kv_cache_usage_ratio"),
        kv_cache_usage_max=max(gauges.get("kv_cache_usage_ratio", ()), default=None),
        requests_running_mean=mean("requests_running"),
        requests_waiting_mean=mean("requests_waiting"),
        requests_waiting_max=max(gauges.get("requests_waiting", ()), default=None),
        preemptions=grown("preemptions_total"),
        queue_mean_s=per_request("queue"),
        prefill_mean_s=per_request("prefill"),
        decode_mean_s=per_request("decode"),
    )
    return None if use == EngineUse() else use
