"""Two measured trials, of one run or of two, held against each other figure by figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtimes.engines.base import ENGINES, create_engine
from runtimes.json_types import Json, canonical_json
from search.analysis.differences import Difference, Sample, paired
from search.objectives.base import OBJECTIVES
from search.trial import TrialState
from tracking.comparable import notes, refusals, same_loads, same_slo
from tracking.records import StageRecord, TrialRecord
from tracking.run_data import RunData
from tracking.samples import Samples, sample_of

_FIGURES = (
    *("request_throughput", "input_throughput", "output_throughput", "goodput"),
    *("output_throughput_per_gpu", "goodput_per_gpu", "slo_attainment"),
    *("ttft_mean_ms", "ttft_p50_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms"),
    *("itl_p99_ms", "e2e_p50_ms", "e2e_p99_ms"),
    *("cost_per_million_tokens", "energy_per_token_j"),
)
_OF_SLO = ("goodput", "goodput_per_gpu", "slo_attainment")
_UNFINISHED = ("interrupted", "hopeless", "error_rate")
"""What ends a stage before it has measured its load."""
_OWN_SETTINGS = "servetune."


@dataclass(frozen=True, slots=True)
class FigureDifference:
    """One figure of both trials.

    Attributes:
        first, second: means over the pairs.
        pairs: measurements that were held against each other.
    """

    name: str
    first: float
    second: float
    difference: Difference
    pairs: int


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with its value on both sides; None where it is not there."""

    name: str
    first: Json
    second: Json


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second trial against the first.

    Attributes:
        refused: why they cannot be compared; then there are no figures.
        objectives: the goals of the first run, by each trial's deciding stage.
        figures: by pairs of stages under the same load.
        loads: those loads, in words.
        configurations: figures by pairs of equal configurations of both runs, one run against
            the other; empty where fewer than two are found, or both trials are of one run.
        configuration_pairs: numbers of those trials, first and second.
        parameters: in what the trials' configurations differ.
        defaults: what the engine resolves otherwise although nobody asked for it.
        notes: what else differs.
    """

    first_run: str
    first: TrialRecord
    second_run: str
    second: TrialRecord
    refused: tuple[str, ...] = ()
    objectives: tuple[FigureDifference, ...] = ()
    figures: tuple[FigureDifference, ...] = ()
    loads: tuple[str, ...] = ()
    configurations: tuple[FigureDifference, ...] = ()
    configuration_pairs: tuple[tuple[int, int], ...] = ()
    parameters: tuple[Setting, ...] = ()
    defaults: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()


Side = tuple[RunData, TrialRecord]


def compare_trials(first: Side, second: Side) -> Comparison:
    """Hold trial against trial; what cannot be compared is refused with the reasons."""
    (run, trial), (other_run, other) = first, second
    refused = list(refusals(run, trial, other_run, other))
    pairs = [] if refused else list(_stage_pairs(first, second))
    goals_too = same_loads(run, other_run)
    if not refused and not pairs and not goals_too:
        refused.append("no stage of one has the load of a stage of the other")
    if refused:
        return Comparison(run.run, trial, other_run.run, other, refused=tuple(refused))
    equal = [] if run.run == other_run.run else _equal_configurations(run, other_run)
    return Comparison(
        first_run=run.run,
        first=trial,
        second_run=other_run.run,
        second=other,
        objectives=tuple(_objectives(first, second)) if goals_too else (),
        figures=tuple(_figures(first, second, pairs)),
        loads=tuple(f"{stage.load} {stage.load_value:g}" for stage, _ in pairs),
        configurations=tuple(_of_configurations(run, other_run, equal)) if equal else (),
        configuration_pairs=tuple((one.number, two.number) for one, two in equal),
        parameters=tuple(_parameters(trial, other)),
        defaults=tuple(_defaults(first, second)),
        notes=tuple(notes(run, trial, other_run, other)),
    )


def _objectives(first: Side, second: Side) -> Iterator[FigureDifference]:
    for goal in first[0].goals:
        if goal.name in _left_out(first[0], second[0]):
            continue
        one, other = sample_of(*first, goal.name), sample_of(*second, goal.name)
        if one is not None and other is not None:
            yield _difference(goal.name, [(one, other)])


def _figures(
    first: Side, second: Side, pairs: Sequence[tuple[StageRecord, StageRecord]]
) -> Iterator[FigureDifference]:
    ours, theirs = Samples(first[0]), Samples(second[0])
    for name in _compared(first[0], second[0]):
        samples = [
            (ours.of_stage(first[1], one, name), theirs.of_stage(second[1], other, name))
            for one, other in pairs
        ]
        if known := _known(samples):
            yield _difference(name, known)


def _of_configurations(
    first: RunData, second: RunData, equal: Sequence[tuple[TrialRecord, TrialRecord]]
) -> Iterator[FigureDifference]:
    """Stages of the same load, over all pairs of trials."""
    ours, theirs = Samples(first), Samples(second)
    pairs = [
        (one, stage, other, its)
        for one, other in equal
        for stage, its in _stage_pairs((first, one), (second, other))
    ]
    for name in _compared(first, second):
        samples = [
            (ours.of_stage(one, stage, name), theirs.of_stage(other, its, name))
            for one, stage, other, its in pairs
        ]
        if known := _known(samples):
            yield _difference(name, known)


def _known(pairs: Sequence[tuple[Sample | None, Sample | None]]) -> list[tuple[Sample, Sample]]:
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def _difference(name: str, pairs: Sequence[tuple[Sample, Sample]]) -> FigureDifference:
    return FigureDifference(
        name=name,
        first=sum(one.value for one, _ in pairs) / len(pairs),
        second=sum(other.value for _, other in pairs) / len(pairs),
        difference=paired(pairs, OBJECTIVES.get(name).direction),
        pairs=len(pairs),
    )


def _compared(first: RunData, second: RunData) -> list[str]:
    left_out = _left_out(first, second)
    return [name for name in _FIGURES if name not in left_out]


def _left_out(first: RunData, second: RunData) -> set[str]:
    """Figures that mean something else in each run."""
    left_out = set() if same_slo(first, second) else set(_OF_SLO)
    if first.gpu_price_per_hour != second.gpu_price_per_hour:
        left_out.add("cost_per_million_tokens")
    return left_out


def _stage_pairs(first: Side, second: Side) -> Iterator[tuple[StageRecord, StageRecord]]:
    """Stages of both trials under the same load; of a load that came twice, the last stage."""
    ours, theirs = _by_load(first), _by_load(second)
    for load, stage in ours.items():
        if load in theirs:
            yield stage, theirs[load]


def _by_load(side: Side) -> dict[tuple[str, float], StageRecord]:
    run, trial = side
    stages = [
        stage
        for stage in run.stages
        if (stage.number, stage.attempt) == (trial.number, trial.attempt)
    ]
    return {
        (stage.load, stage.load_value): stage
        for stage in sorted(stages, key=lambda stage: stage.stage)
        if stage.measurement.requests_completed and stage.measurement.stopped_by not in _UNFINISHED
    }


def _equal_configurations(first: RunData, second: RunData) -> list[tuple[TrialRecord, TrialRecord]]:
    """Trials of both runs that are comparable and whose configurations are equal."""
    ours, theirs = _by_configuration(first), _by_configuration(second)
    pairs = [(ours[key], theirs[key]) for key in ours if key in theirs]
    found = [(one, other) for one, other in pairs if not any(refusals(first, one, second, other))]
    return found if len(found) > 1 else []


def _by_configuration(run: RunData) -> dict[str, TrialRecord]:
    return {
        canonical_json(
            [trial.engine, dict(trial.params), str(trial.layout), str(trial.quantization)]
        ): trial
        for trial in run.last_attempts()
        if trial.state is TrialState.COMPLETED and not trial.reference
    }


def _parameters(one: TrialRecord, other: TrialRecord) -> Iterator[Setting]:
    if one.engine != other.engine:
        yield Setting("engine", one.engine, other.engine)
    if one.gpus != other.gpus:
        yield Setting("gpus", one.gpus, other.gpus)
    for name in dict.fromkeys([*one.params, *other.params]):
        if one.params.get(name) != other.params.get(name):
            yield Setting(name, one.params.get(name), other.params.get(name))


def _defaults(first: Side, second: Side) -> Iterator[Setting]:
    """Settings that differ between two versions of one engine and that neither command names.

    By the engine's own argument tables where both versions have one, and by what the two engines
    say they resolved to, of the trials of their defaults where both runs have one.
    """
    one, other = _resolved(first), _resolved(second)
    if one.engine != other.engine or one.engine_version == other.engine_version:
        return
    changed = {setting.name: setting for setting in _table_changes(one, other)}
    keys = [*one.engine_config, *other.engine_config]
    for name in dict.fromkeys(keys):
        values = one.engine_config.get(name), other.engine_config.get(name)
        if values[0] != values[1] and not name.startswith(_OWN_SETTINGS):
            changed.setdefault(name, Setting(name, *values))
    named = _arguments(one) | _arguments(other)
    for name in sorted(changed):
        if name.replace("_", "-") not in named:
            yield changed[name]


def _table_changes(one: TrialRecord, other: TrialRecord) -> Iterator[Setting]:
    if one.engine not in ENGINES:
        return
    engine = create_engine(one.engine)
    tables = engine.flags(one.engine_version), engine.flags(other.engine_version)
    if tables[0] is None or tables[1] is None:
        return
    versions = {one.engine_version, other.engine_version}
    if {tables[0].version, tables[1].version} != versions:
        return
    for name, flag in tables[0].flags.items():
        theirs = tables[1].flags.get(name)
        if theirs is not None and theirs.default != flag.default:
            yield Setting(name, flag.default, theirs.default)


def _resolved(side: Side) -> TrialRecord:
    run, trial = side
    defaults = [
        each
        for each in run.last_attempts()
        if each.baseline and each.engine == trial.engine and each.engine_config
    ]
    return defaults[0] if defaults else trial


def _arguments(trial: TrialRecord) -> set[str]:
    return {
        part.lstrip("-").partition("=")[0].replace("_", "-")
        for part in trial.command
        if part.startswith("--")
    }
