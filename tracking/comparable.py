"""What has to be equal before two measurements may be compared, and what is worth knowing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtimes.json_types import Json, canonical_json
from tracking.nodes import node_checks
from tracking.records import IMPORTED, TrialRecord
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import flag_words

_SIMULATED = "attached_simulator"
_BESIDE_WORKLOAD = frozenset({"load", "seed"})
"""Parts of a workload that are compared by themselves: loads pair stages, seeds draw prompts."""


def refusals(
    first: RunData, one: TrialRecord, second: RunData, other: TrialRecord
) -> Iterator[str]:
    """Why the two trials cannot be compared at all, each with the values at hand."""
    if model_of(first) != model_of(second):
        yield f"the models differ: {model_of(first)} and {model_of(second)}"
    for key in _differing(_workload(first), _workload(second)):
        values = (_shown(_workload(run).get(key)) for run in (first, second))
        yield f"the workloads differ: {key} is {' and '.join(values)}"
    if (_simulated(one), _simulated(other)) in {(True, False), (False, True)}:
        which = first if _simulated(one) else second
        yield f"{which.run} measured a simulated engine, the other a real one"
    if (IMPORTED in one.flags) != (IMPORTED in other.flags):
        which = first if IMPORTED in one.flags else second
        yield f"another load generator measured {which.run}; it defines figures otherwise"
    for run, trial in ((first, one), (second, other)):
        if trial.doubts:
            words = "; ".join(flag_words(flag) for flag in sorted(trial.doubts))
            yield (
                f"trial {trial.number} of {run.run} is doubtful: {words}; name another with "
                f"{run.run}:N"
            )


def same_loads(first: RunData, second: RunData) -> bool:
    """Whether both runs ask for the same program of loads."""
    loads = [_section(run, "workload").get("load") for run in (first, second)]
    return canonical_json(loads[0]) == canonical_json(loads[1])


def same_slo(first: RunData, second: RunData) -> bool:
    """Whether both runs count the same requests as good."""
    return canonical_json(_section(first, "slo")) == canonical_json(_section(second, "slo"))


def notes(first: RunData, one: TrialRecord, second: RunData, other: TrialRecord) -> Iterator[str]:
    """What else differs between the two trials; it may be what the comparison is about."""
    named: tuple[tuple[str, str, str], ...] = (
        ("GPUs are", one.gpu_model, other.gpu_model),
        ("drivers are", one.driver_version, other.driver_version),
        ("engines are", one.engine, other.engine),
        ("engine versions are", one.engine_version, other.engine_version),
        ("environments are", one.environment_hash, other.environment_hash),
        ("precisions are", str(one.quantization), str(other.quantization)),
        ("revisions are", one.model_revision or "", other.model_revision or ""),
        ("seeds are", str(one.seed), str(other.seed)),
    )
    for what, value, theirs in named:
        if value != theirs and (value or theirs):
            yield f"the {what} {value or 'unknown'} and {theirs or 'unknown'}"
    if not same_loads(first, second):
        yield "the loads differ: stages of the same load are compared, objectives are not"
    if not same_slo(first, second):
        yield "the service-level objectives differ: goodput is not compared"
    if first.gpu_price_per_hour != second.gpu_price_per_hour:
        yield "the price of a GPU hour differs: cost is not compared"
    yield from _nodes(first, one)
    if second.run != first.run or other.node != one.node:
        yield from _nodes(second, other)
    if one.node != other.node or one.gpu_uuids != other.gpu_uuids:
        yield "they ran on different nodes or GPUs, which may differ by some percent themselves"


def _nodes(run: RunData, trial: TrialRecord) -> Iterator[str]:
    for check in node_checks(run):
        if check.off and check.node == trial.node:
            yield f"trial {trial.number} of {run.run} ran on node {check.node}: {check.words}"


def model_of(run: RunData) -> str:
    """The model that a run's file names: its id, or its folder."""
    model = _section(run, "model")
    return str(model.get("id") or model.get("path") or "")


def _workload(run: RunData) -> Mapping[str, Json]:
    found = _section(run, "workload")
    return {key: value for key, value in found.items() if key not in _BESIDE_WORKLOAD}


def _section(run: RunData, name: str) -> Mapping[str, Json]:
    found = run.experiment.get(name)
    return found if isinstance(found, Mapping) else {}


def _differing(one: Mapping[str, Json], other: Mapping[str, Json]) -> list[str]:
    keys = sorted({*one, *other})
    return [key for key in keys if canonical_json(one.get(key)) != canonical_json(other.get(key))]


def _shown(value: Json) -> str:
    return "not set" if value is None else canonical_json(value)


def _simulated(trial: TrialRecord) -> bool:
    return trial.simulated or _SIMULATED in all_flags(trial)
