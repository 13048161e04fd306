"""Rules that span several keys of an experiment whose keys are each right by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.spec.combination_checks import combination_problems
from orchestrator.spec.constraint_checks import condition_problems, constraint_problems
from orchestrator.spec.engine_checks import engine_problems
from orchestrator.spec.models import CPU, ExperimentSpec
from orchestrator.spec.workload_checks import workload_problems
from runtimes.engines.base import ENGINES
from runtimes.errors import Problem, UserError
from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts, find_model, is_hub_id
from search.objectives.base import OBJECTIVES

Location = tuple[str | int, ...]


def cross_checks(spec: ExperimentSpec, broken: Sequence[Location] = ()) -> list[Problem]:
    """Every rule broken between keys.

    Args:
        spec: the experiment.
        broken: places of the file that are left out of `spec`, being wrong by themselves.
    """
    problems = [
        *engine_problems(spec),
        *condition_problems(spec, broken),
        *combination_problems(spec),
        *constraint_problems(spec, broken),
        *_model_id(spec),
        *_objectives(spec),
    ]
    try:
        model = find_model(spec.model.source, spec.model.revision)
    except UserError as error:
        workload = workload_problems(spec, None, readable=False)
        return [*problems, *workload, Problem("model", str(error))]
    readable = not any(place[:1] == ("model",) for place in broken)
    workload = workload_problems(spec, model, readable=readable)
    return [*problems, *workload, *_simulation(spec, model)]


def _model_id(spec: ExperimentSpec) -> Iterator[Problem]:
    """An id that the Hub cannot have, told before `run` would ask it."""
    model = spec.model.id
    loads = any(ENGINES.get(name).loads_model for name in spec.engines)
    if model is None or not loads or is_hub_id(model) or Path(model).exists():
        return
    remedy = "write owner/name, or {path: FOLDER} for a model folder of the nodes"
    yield Problem("model", "is neither a folder here nor a Hub id", repr(model), remedy)


def _objectives(spec: ExperimentSpec) -> Iterator[Problem]:
    named = [objective.name for objective in spec.objectives]
    for index, name in enumerate(named):
        if name in named[:index]:
            yield Problem(f"objectives[{index}]", "named twice", repr(name), "keep one of them")
    priced = [name for name in named if OBJECTIVES.get(name).requires_price]
    if priced and spec.cluster.gpu_price_per_hour is None:
        yield Problem(
            "cluster.gpu_price_per_hour", f"the objective {priced[0]} needs the price of a GPU",
            remedy="add it, in your currency, as `gpu_price_per_hour: 3.5`",
        )  # fmt: skip


def _simulation(spec: ExperimentSpec, model: ModelFacts | None) -> Iterator[Problem]:
    """A simulated engine has to know what it stands for."""
    simulated = [name for name in spec.engines if "imitates" in ENGINES.get(name).options]
    if not simulated:
        return
    accelerator = spec.cluster.accelerator
    if accelerator in (None, CPU):
        yield Problem(
            "cluster.accelerator", f"the {simulated[0]} engine needs to know what it imitates",
            None if accelerator is None else repr(accelerator), "name one, as `accelerator: H100`",
        )  # fmt: skip
    elif accelerator not in ACCELERATORS:
        yield Problem(
            "cluster.accelerator", f"the {simulated[0]} engine imitates none of a file of hardware",
            repr(accelerator), f"name one of servetune's: {', '.join(ACCELERATORS)}",
        )  # fmt: skip
    if model is None:
        yield Problem(
            "model", f"the {simulated[0]} engine needs the model's shape and does not know it",
            repr(spec.model.source), "name a folder with config.json (`path:`) or a known Hub id",
        )  # fmt: skip
