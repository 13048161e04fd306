"""A load against a server that runs, on its own: an experiment of one trial, and its document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.attach import RunningServer, attached_sections
from orchestrator.naming import model_section, run_name
from orchestrator.spec.experiment import Experiment
from orchestrator.spec.yaml_file import read_mapping
from runtimes.errors import Problem, SpecError, UserError
from runtimes.json_types import Json
from runtimes.measurement import Distribution, Measurement
from tracking.run_data import RunData

_WORKLOAD_KEYS = frozenset({"workload", "name", "engines"})
"""Keys of an experiment file; none of them stands in a section of one."""
_OPTIONS: Mapping[str, str] = {
    "model": "--model",
    "engines.external": "--url",
    "workload.input_tokens": "--input-tokens",
    "workload.output_tokens": "--output-tokens",
    "workload.api": "--api",
    "workload.load.value": "--concurrency",
    "workload.load.rate": "--rate",
    "workload.load.requests": "--requests",
    "workload.load.duration": "--duration",
    "workload.load": "--load",
    "workload": "--workload",
    "slo.ttft_ms": "--ttft-p99",
    "slo.tpot_ms": "--tpot-p99",
    "search.seed": "--seed",
    "timeouts": "--timeout",
    "cluster.simulated_gpus": "--gpus",
}


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What a user asks of `servetune bench`.

    Attributes:
        model: name under which the server serves the model; a folder also tells its vocabulary.
        workload, load: sections of an experiment file.
        slo: percentile limits by metric, ms.
        timeout: seconds, or `90s`: limit of a request, of a silence, and of the first answer; None
            for the limits of an experiment.
    """

    server: RunningServer
    model: str
    workload: Mapping[str, Json]
    load: Mapping[str, Json]
    slo: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    timeout: Json = None


def bench_experiment(request: BenchRequest) -> Experiment:
    """One trial of the load on the server.

    Raises:
        SpecError: an option is wrong; each problem names the option.
    """
    data: dict[str, Json] = {
        "name": run_name(request.model, prefix="bench-"),
        "model": model_section(request.model),
        "workload": {**request.workload, "load": dict(request.load)},
        "slo": dict(request.slo),
        "objectives": [{"maximize": "goodput" if request.slo else "output_throughput"}],
        **attached_sections(request.server, seed=request.seed),
    }
    if request.timeout is not None:
        data["timeouts"] = dict.fromkeys(("request", "stall", "start"), request.timeout)
    try:
        return Experiment.from_dict(data, source="servetune bench")
    except SpecError as error:
        problems = dict.fromkeys(_in_options(problem) for problem in error.problems)
        raise SpecError(error.source, list(problems)) from None


def read_section(path: Path, *keys: str) -> dict[str, Json]:
    """The section `keys` of an experiment file, or of a file that holds nothing else.

    Raises:
        UserError: it cannot be read, or the experiment has no such section.
    """
    example = "kind: concurrency" if keys[-1] == "load" else "input_tokens: 512"
    data = read_mapping(path, example=example)
    if not _WORKLOAD_KEYS & data.keys():
        return data
    found: Json = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{path}: this experiment has no section `{'.'.join(keys)}`")
    return found


def bench_measurement(data: RunData) -> Measurement | None:
    """Of the deciding stage; of the last one where the bench was ended before any decided."""
    trial = data.last_attempts()[-1] if data.trials else None
    if trial is not None and trial.measurement is not None:
        return trial.measurement
    return data.stages[-1].measurement if data.stages else None


def bench_document(data: RunData) -> dict[str, Json]:
    """What `--json` prints; the figures are absent where nothing was measured."""
    trial = data.last_attempts()[-1] if data.trials else None
    measured = bench_measurement(data)
    failure = trial.failure if trial is not None else None
    head: dict[str, Json] = {
        "run": data.run,
        "seed": trial.seed if trial is not None else None,
        "state": trial.state.value if trial is not None else "cancelled",
        "failure": None if failure is None else {
            "kind": failure.kind.value, "message": failure.message, "remedy": failure.remedy,
        },
        "flags": list(trial.flags) if trial is not None else [],
    }  # fmt: skip
    stages: list[Json] = [
        {
            "load": stage.load,
            "value": stage.load_value,
            "deciding": trial is not None and trial.deciding_stage == stage.stage,
            **measurement_document(stage.measurement),
        }
        for stage in data.stages
    ]
    figures = measurement_document(measured) if measured is not None else {}
    return {**figures, **head, "stages": stages}


def measurement_document(measured: Measurement) -> dict[str, Json]:
    """The figures of one stage, under the names that `--json` promises."""
    health = measured.client
    return {
        "requests": {
            "completed": measured.requests_completed,
            "failed": measured.requests_failed,
        },
        "duration_s": measured.duration_s,
        "client_limited": "client_limited" in measured.flags,
        "ttft_ms": _latency(measured.ttft_ms),
        "itl_ms": _latency(measured.itl_ms),
        "tpot_ms": _latency(measured.tpot_ms),
        "e2e_ms": _latency(measured.e2e_ms),
        "throughput": {
            "requests_per_s": measured.request_throughput,
            "input_tokens_per_s": measured.input_throughput,
            "output_tokens_per_s": measured.output_throughput,
            "total_tokens_per_s": measured.total_throughput,
            "goodput_per_s": measured.goodput,
        },
        "client": None
        if health is None
        else {
            "processes": health.processes,
            "cpu_s": health.cpu_s,
            "cpu_share": health.cpu_share,
            "lag_p99_ms": health.lag_p99_ms,
            "send_lateness_p99_ms": health.send_lateness_p99_ms,
            "held_ratio": health.held_ratio,
            "connections_opened": health.connections_opened,
        },
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


def _in_options(problem: Problem) -> Problem:
    """A problem of the experiment as one of the command line that made it."""
    for path, option in _OPTIONS.items():
        if problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")):
            # The keys below `timeouts` are made of one value.
            rest = "" if option == "--timeout" else problem.path[len(path) :]
            return replace(problem, path=f"{option}: {rest.lstrip('.')}" if rest else option)
    return problem
