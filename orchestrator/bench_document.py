"""The document of a bench, as `--json` prints it; its keys are a contract."""

from __future__ import annotations

from runtimes.json_types import Json
from runtimes.measurement import ClientHealth, Distribution, Measurement
from tracking.records import StageRecord
from tracking.report_stages import shown_flags, shown_stage, stages_of
from tracking.run_data import RunData

_RATES = {
    "requests_per_s": "request_throughput",
    "input_tokens_per_s": "input_throughput",
    "output_tokens_per_s": "output_throughput",
    "total_tokens_per_s": "total_throughput",
    "goodput_per_s": "goodput",
}


def bench_document(data: RunData) -> dict[str, Json]:
    """What is known of the bench; the figures are absent where no load was sent."""
    trials = data.last_attempts()
    if not trials:
        return {
            "run": data.run, "seed": None, "state": "cancelled", "failure": None, "gpus": None,
            "slo_rate_low": None, "slo_rate_high": None, "flags": [], "stages": [],
        }  # fmt: skip
    trial, stage, failure = trials[-1], shown_stage(data, trials[-1]), trials[-1].failure
    flags = shown_flags(data, trial)
    figures: dict[str, Json] = {}
    if stage is not None:
        figures = {
            **measurement_document(stage.measurement, trial.gpus),
            "client_limited": "client_limited" in flags,
        }
    stages: list[Json] = [
        {
            "deciding": trial.deciding_stage == one.stage,
            **_stage_document(one, trial.gpus),
        }
        for one in stages_of(data, trial)
    ]
    return {
        **figures,
        "run": data.run,
        "seed": trial.seed,
        "state": trial.state.value,
        "failure": None if failure is None else {
            "kind": failure.kind.value, "message": failure.message, "remedy": failure.remedy,
        },
        "gpus": trial.gpus,
        "slo_rate_low": trial.slo_rate_low,
        "slo_rate_high": trial.slo_rate_high,
        "flags": list(flags),
        "stages": stages,
    }  # fmt: skip


def _stage_document(stage: StageRecord, gpus: int) -> dict[str, Json]:
    return {
        "load": stage.load,
        "value": stage.load_value,
        **measurement_document(stage.measurement, gpus),
        "flags": list(stage.measurement.flags),
        "designed_hit_rate": stage.designed_hit_rate,
        "observed_hit_rate": stage.observed_hit_rate,
        "cross_check": dict(stage.cross_check) or None,
        "cross_check_note": stage.cross_check_note or None,
    }


def measurement_document(measured: Measurement, gpus: int) -> dict[str, Json]:
    """The figures of one stage, under the names that `--json` promises."""
    rates: dict[str, float | None] = {
        name: getattr(measured, figure) for name, figure in _RATES.items()
    }
    return {
        "requests": {
            "completed": measured.requests_completed,
            "failed": measured.requests_failed,
        },
        "duration_s": measured.duration_s,
        "client_limited": "client_limited" in measured.flags,
        "ttft_ms": _latency(measured.ttft_ms),
        "ttft_scheduled_ms": _latency(measured.ttft_scheduled_ms),
        "itl_ms": _latency(measured.itl_ms),
        "tpot_ms": _latency(measured.tpot_ms),
        "e2e_ms": _latency(measured.e2e_ms),
        "e2e_scheduled_ms": _latency(measured.e2e_scheduled_ms),
        "throughput": dict(rates),
        "throughput_per_gpu": {
            name: None if rate is None else rate / gpus for name, rate in rates.items()
        },
        "client": None if measured.client is None else _client(measured.client),
        "slo": [
            {"limit": str(verdict.limit), "value_ms": verdict.value_ms, "met": verdict.met}
            for verdict in measured.slo
        ],
        "slo_attainment": measured.slo_attainment,
        "intervals": {
            figure: [interval.low, interval.high] for figure, interval in measured.intervals.items()
        },
        "stopped_by": measured.stopped_by or None,
    }


def _client(health: ClientHealth) -> Json:
    return {
        "processes": health.processes,
        "cpu_s": health.cpu_s,
        "cpu_share": health.cpu_share,
        "lag_p99_ms": health.lag_p99_ms,
        "send_lateness_p99_ms": health.send_lateness_p99_ms,
        "held_ratio": health.held_ratio,
        "connections_opened": health.connections_opened,
    }


def _latency(latency: Distribution | None) -> Json:
    if latency is None:
        return None
    return {
        "mean": latency.mean,
        "p50": latency.p50,
        "p90": latency.p90,
        "p95": latency.p95,
        "p99": latency.p99,
    }
