"""An experiment from a model and a few limits, for users who have no file yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.attach import RunningServer, attached_sections
from orchestrator.detection import FoundEngine, accelerator_of, find_engine, find_free_gpus
from orchestrator.naming import model_section, run_name
from orchestrator.spec.experiment import Experiment
from runtimes.engines._search import SearchHint
from runtimes.engines.base import create_engine
from runtimes.errors import MissingToolError, Problem, SpecError, UserError
from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.json_types import Json
from runtimes.model import find_model
from runtimes.telemetry.nvml import GpuState
from search.constraints import Condition
from search.values import COMMON_NAMES, constraint_name

_CPU_SEARCH: Mapping[str, Json] = {
    "max-num-seqs": [8, 32, 128],
    "max-num-batched-tokens": [512, 2048],
    "enable-prefix-caching": [True, False],
}
_FLAGS: Mapping[str, str] = {
    "model": "MODEL",
    "workload.input_tokens": "--input-tokens",
    "workload.output_tokens": "--output-tokens",
    "workload.load.value": "--concurrency",
    "workload.load.requests": "--requests",
    "workload.load": "--requests, --input-tokens, --output-tokens",
    "workload": "--input-tokens, --output-tokens",
    "slo.ttft_ms": "--ttft-p99",
    "slo.tpot_ms": "--tpot-p99",
    "search.seed": "--seed",
    "budget.trials": "--trials",
    "cluster.accelerator": "--simulate",
    "cluster.simulated_gpus": "--simulate, --cpu-slots, --gpus",
    "engines.external": "--server-url",
    "results": "--results",
}
_SIMULATE = re.compile(r"^([A-Za-z0-9-]+):(\d+)$")


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of `servetune tune`; times in ms, None for "no limit" or "find out"."""

    model: str
    ttft_p99_ms: float | None = None
    tpot_p99_ms: float | None = None
    input_tokens: int = 1024
    output_tokens: int = 256
    concurrency: int = 32
    requests: int | None = None
    trials: int = 20
    seed: int = 0
    python: str | None = None
    simulate: str | None = None
    cpu_slots: int | None = None
    server: RunningServer | None = None
    results: Path | None = None


def experiment_for(request: Request) -> Experiment:
    """The experiment for `request` on this machine.

    Raises:
        UserError: no engine, no GPU, or a value that makes no experiment.
    """
    load: dict[str, Json] = {"kind": "concurrency", "value": request.concurrency}
    if request.requests is not None:
        load["requests"] = request.requests
    slo: dict[str, Json] = {}
    for metric, limit in (("ttft_ms", request.ttft_p99_ms), ("tpot_ms", request.tpot_p99_ms)):
        if limit is not None:
            slo[metric] = {"p99": limit}
    goal = "goodput_per_gpu" if slo else "output_throughput_per_gpu"
    data: dict[str, Json] = {
        "name": run_name(request.model),
        "model": model_section(request.model, loaded_by="MODEL"),
        **_place(request),
        "workload": {
            "kind": "synthetic",
            "input_tokens": request.input_tokens,
            "output_tokens": request.output_tokens,
            "load": load,
        },
        "slo": slo,
        "objectives": [{"maximize": goal}],
        "search": {"sampler": "auto", "seed": request.seed, "baseline": True},
        "budget": {"trials": request.trials},
    }
    if request.results is not None:
        data["results"] = str(request.results)
    if request.server is not None:
        data.update(attached_sections(request.server, seed=request.seed))
    try:
        return Experiment.from_dict(data, source="servetune tune")
    except SpecError as error:
        problems = [
            _in_flags(problem, attached=request.server is not None) for problem in error.problems
        ]
        raise SpecError(error.source, problems) from None


def _in_flags(problem: Problem, *, attached: bool) -> Problem:
    """A problem of the experiment as one of the command line that made it."""
    if attached and problem.path == "cluster.simulated_gpus":
        return replace(problem, path="--gpus")
    for path, flag in _FLAGS.items():
        if problem.path == path or problem.path.startswith(f"{path}."):
            return replace(problem, path=flag)
    return problem


def _place(request: Request) -> dict[str, Json]:
    """Engines, layouts and cluster: simulated, on the CPU, or the free GPUs of this machine."""
    if request.server is not None:
        return {}
    if request.simulate is not None:
        return _simulated(request.simulate, request.model)
    if request.cpu_slots is not None:
        return _on_cpu(find_engine(request.python), request.cpu_slots)
    engine, gpus = _engine_and_gpus(request.python)
    accelerator = accelerator_of(gpus[0])
    cluster: dict[str, Json] = {"kind": "ray", "address": "local", "max_gpus": len(gpus)}
    if accelerator is not None:
        cluster["accelerator"] = accelerator.name
    search = _search(engine.name, request.model, accelerator)
    return {
        "engines": {engine.name: {**_environment(engine), "search": search}},
        "parallel": {"tp": _powers_of_two(len(gpus))},
        "cluster": cluster,
    }


def _engine_and_gpus(python: str | None) -> tuple[FoundEngine, list[GpuState]]:
    """What there is to serve with.

    Raises:
        MissingToolError: something is missing; everything that is missing is named.
    """
    missing: list[MissingToolError] = []
    try:
        engine = find_engine(python)
    except MissingToolError as error:
        missing.append(error)
    try:
        gpus = find_free_gpus()
    except MissingToolError as error:
        missing.append(error)
    if missing:
        raise MissingToolError("\n".join(map(str, missing)))
    return engine, gpus


def _simulated(node: str, model: str) -> dict[str, Json]:
    match = _SIMULATE.match(node)
    if match is None or int(match[2]) < 1:
        raise UserError(f"--simulate {node}: write an accelerator and a number, as H200:8")
    count = int(match[2])
    search = _search("vllm", model, ACCELERATORS.get(match[1].upper()))
    return {
        "engines": {"simulated": {"imitates": "vllm", "search": search}},
        "parallel": {"tp": _powers_of_two(count)},
        "cluster": {
            "kind": "ray", "address": "local", "simulated_gpus": count, "accelerator": match[1],
        },
    }  # fmt: skip


def _on_cpu(engine: FoundEngine, slots: int) -> dict[str, Json]:
    if engine.name != "vllm":
        raise UserError(
            f"--cpu-slots: found {engine.name}, and of the engines only vLLM has a CPU build to "
            "tune; name its interpreter with --python"
        )
    # One GiB of KV cache holds the short contexts of models small enough for a CPU.
    env: dict[str, Json] = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    section = {**_environment(engine), "env": env, "search": dict(_CPU_SEARCH)}
    return {
        "engines": {engine.name: section},
        "cluster": {
            "kind": "ray", "address": "local", "simulated_gpus": slots, "accelerator": "cpu",
        },
    }  # fmt: skip


def _search(engine: str, model: str, accelerator: Accelerator | None) -> dict[str, Json]:
    """What a first study of `engine` searches.

    A hint that waits for an argument which is not searched itself says nothing here.
    """
    try:
        facts = find_model(model)
    except UserError:  # told with everything else that is wrong, when the experiment is checked
        facts = None
    hints = [
        hint for hint in create_engine(engine).search_hints(facts, accelerator) if not hint.advanced
    ]
    known = {constraint_name(hint.name) for hint in hints} | COMMON_NAMES
    return {
        hint.name: _domain(hint)
        for hint in hints
        if not hint.when or known.issuperset(Condition.parse(hint.when).names)
    }


def _domain(hint: SearchHint) -> Json:
    if not hint.when:
        return hint.values
    form = hint.values if isinstance(hint.values, dict) else {"choice": hint.values}
    return {**form, "when": hint.when}


def _environment(engine: FoundEngine) -> dict[str, Json]:
    section: dict[str, Json] = {}
    if engine.python is not None:
        section["environment"] = {"python": engine.python}
    if engine.module:
        section["entrypoint"] = "module"
    return section


def _powers_of_two(limit: int) -> list[Json]:
    degrees: list[Json] = []
    degree = 1
    while degree <= limit:
        degrees.append(degree)
        degree *= 2
    return degrees
