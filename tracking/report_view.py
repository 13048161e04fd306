"""What the report's template prints: rows of text, made of a run's values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml

from runtimes.measurement import Distribution
from runtimes.slo import SloVerdict
from search.trial import LAYOUT_PRESET, PRECISION_PRESET, TrialState
from tracking.pareto import meets_slo
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData
from tracking.summary import Summary, all_flags
from tracking.words import (
    count,
    duration,
    figure,
    flag_words,
    objective_unit,
    objective_value,
    objective_words,
    parameter,
    printable,
)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One line of the table of trials; figures are text, a dash where there is none."""

    number: int
    state: str
    engine: str
    gpus: int
    params: tuple[tuple[str, str], ...]
    objectives: tuple[str, ...]
    ttft_p99: str
    tpot_p99: str
    throughput: str
    throughput_per_gpu: str
    slo: str
    slo_words: str
    flags: tuple[str, ...]
    reason: str
    best: bool
    baseline: bool
    pareto: bool


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the head of the report; `tone` is `good`, `bad` or empty."""

    name: str
    value: str
    unit: str = ""
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One failed attempt."""

    trial: int
    attempt: int
    engine: str
    params: tuple[tuple[str, str], ...]
    message: str
    remedy: str
    exit_words: str
    log_tail: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one kind."""

    kind: str
    rows: tuple[FailureRow, ...]


@dataclass(frozen=True, slots=True)
class EngineConfigView:
    """What the best trial's engine said it resolved its configuration to."""

    title: str
    rows: tuple[tuple[str, str], ...]


def headline(data: RunData, summary: Summary) -> str:
    """The verdict in a sentence or two."""
    best, goal = summary.best, summary.goal
    if best is None:
        measured = any(stage.measurement.requests_completed for stage in data.stages)
        found = "No trial completed" if measured else "Nothing was measured"
        return f"{found}, so there is no configuration to recommend."
    metric = objective_words(goal.name).removesuffix(" per GPU")
    value = objective_value(goal.name, best.value)
    words = f"Trial {best.trial}, {best.engine} on {count(best.gpus, 'GPU')}: {metric} of {value}"
    if not best.slo_met:
        words += ", but it breaks the service-level objective"
    elif best.slo:
        words += " within the service-level objective"
    if best.baseline:
        return f"{words}. It is the engine's own default configuration: nothing beat it."
    if summary.gain_ratio is None:
        return f"{words}."
    return f"{words}, {gain_words(goal, summary.gain_ratio)} (trial {summary.baseline_trial})."


def gain_words(goal: Goal, ratio: float) -> str:
    """`34 % more than the engine's defaults`, `2.6 times …`, `20 % less than …`, `the same as …`.

    Args:
        goal: says whether more or less is better.
        ratio: how many times better, as in `Summary.gain_ratio`.
    """
    relation = ratio if goal.direction == "maximize" else 1.0 / ratio
    if abs(relation - 1.0) < 0.005:
        amount = "the same as"
    elif relation >= 2.0:
        amount = f"{relation:.1f} times that of"
    else:
        amount = f"{abs(relation - 1.0):.0%} {'more' if relation > 1.0 else 'less'} than".replace(
            "%", " %"
        )
    return f"{amount} the engine's defaults"


def tiles(data: RunData, summary: Summary) -> list[Tile]:
    """The figures a reader looks for first."""
    found = []
    best = summary.best
    if best is not None:
        limited = {f"{v.limit.metric.removesuffix('_ms')}_{v.limit.statistic}_ms" for v in best.slo}
        for goal in data.goals:
            if goal.name in best.objectives and goal.name not in limited:
                value = figure(best.objectives[goal.name])
                unit = objective_unit(goal.name).removesuffix("/GPU")  # the name says it
                found.append(Tile(objective_words(goal.name), value, unit, f"{goal.direction}d"))
        if not data.attached:
            found.append(_gain_tile(summary))
        found.extend(_limit_tile(verdict) for verdict in best.slo)
    states = [state.value for state in TrialState if state.value in summary.counts]
    words = ", ".join(f"{summary.counts[state]} {state}" for state in states)
    found.append(Tile("trials", f"{sum(summary.counts.values()):,}", note=words or "none"))
    if not data.attached:
        found.append(_gpu_tile(summary))
    return found


def _gpu_tile(summary: Summary) -> Tile:
    held_s = summary.busy_gpu_seconds + summary.idle_gpu_seconds
    share = f"{summary.busy_gpu_seconds / held_s:.0%}" if held_s else "–"
    gpus = f"of {count(summary.capacity_gpus, 'GPU')}" if summary.capacity_gpus else ""
    over = f" over {run_time(summary)}" if run_time(summary) else ""
    return Tile("GPU time busy", share, note=f"{gpus}{over}")


def _gain_tile(summary: Summary) -> Tile:
    goal = summary.goal.name
    if summary.gain_ratio is None or summary.baseline_value is None:
        return Tile("gain over defaults", "–", note="no baseline measured")
    tone = "good" if summary.gain_ratio >= 1.005 else ""
    note = f"from {objective_value(goal, summary.baseline_value)}; one measurement each"
    return Tile("gain over defaults", f"{summary.gain_ratio:.2f}", "times", note, tone)


def _limit_tile(verdict: SloVerdict) -> Tile:
    limit = verdict.limit
    name = f"{limit.metric.removesuffix('_ms').upper()} {limit.statistic}"
    word = "met" if verdict.met else "broken"
    note = f"limit {limit.limit_ms:g} ms, {word}"
    return Tile(name, figure(verdict.value_ms), "ms", note, "good" if verdict.met else "bad")


def trial_rows(data: RunData, summary: Summary) -> list[TrialRow]:
    """The latest attempt of each trial: best first, unmeasured ones last, then by number."""
    front = set(summary.pareto_trials)
    best = summary.best.trial if summary.best is not None else None
    return [
        _trial_row(trial, data, best=trial.number == best, pareto=trial.number in front)
        for trial in sorted(data.last_attempts(), key=lambda trial: _order(trial, data))
    ]


def _order(trial: TrialRecord, data: RunData) -> tuple[bool, bool, float, int]:
    goal = data.goals[0]
    value = trial.objectives.get(goal.name)
    unmeasured = trial.state is not TrialState.COMPLETED or value is None
    signed = 0.0 if value is None else value if goal.direction == "minimize" else -value
    return (unmeasured, not meets_slo(trial), 0.0 if unmeasured else signed, trial.number)


def _trial_row(trial: TrialRecord, data: RunData, *, best: bool, pareto: bool) -> TrialRow:
    measured = trial.measurement
    rate = measured.output_throughput if measured is not None else None
    verdicts = measured.slo if measured is not None else ()
    broken = [str(verdict.limit) for verdict in verdicts if not verdict.met]
    reason = trial.failure.message if trial.failure is not None else trial.reason
    return TrialRow(
        number=trial.number,
        state=trial.state.value,
        engine=printable(trial.engine),
        gpus=trial.gpus,
        params=_params(trial),
        objectives=tuple(figure(trial.objectives.get(goal.name)) for goal in data.goals),
        ttft_p99=_p99(measured.ttft_ms if measured is not None else None),
        tpot_p99=_p99(measured.tpot_ms if measured is not None else None),
        throughput=figure(rate),
        throughput_per_gpu=figure(None if rate is None else rate / trial.gpus),
        slo="" if not verdicts else "broken" if broken else "met",
        slo_words="; ".join(broken),
        flags=tuple(flag_words(printable(flag)) for flag in all_flags(trial)),
        reason=printable(reason),
        best=best,
        baseline=trial.baseline,
        pareto=pareto,
    )


def _params(trial: TrialRecord) -> tuple[tuple[str, str], ...]:
    """Parameters as text; a preset that is not taken says nothing."""
    presets = (LAYOUT_PRESET, PRECISION_PRESET)
    return tuple(
        (printable(name), printable(parameter(value)))
        for name, value in trial.params.items()
        if not (name in presets and value is None)
    )


def _p99(latency: Distribution | None) -> str:
    return figure(latency.p99 if latency is not None else None)


def failure_groups(trials: Iterable[TrialRecord]) -> list[FailureGroup]:
    """Failed attempts by kind, the most frequent kind first."""
    rows: dict[str, list[FailureRow]] = {}
    for trial in trials:
        failure = trial.failure
        if failure is None:
            continue
        rows.setdefault(failure.kind.value.replace("_", " "), []).append(
            FailureRow(
                trial=trial.number,
                attempt=trial.attempt,
                engine=printable(trial.engine),
                params=_params(trial),
                message=printable(failure.message),
                remedy=printable(failure.remedy),
                exit_words=_exit_words(failure.exit_code),
                log_tail=printable(failure.log_tail),
            )
        )
    groups = [FailureGroup(kind, tuple(found)) for kind, found in rows.items()]
    return sorted(groups, key=lambda group: (-len(group.rows), group.kind))


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return ""
    return f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def provenance(data: RunData) -> list[tuple[str, str]]:
    """What the results were made with; several values of one name stand side by side."""
    values: dict[str, set[str]] = {}

    def add(name: str, value: object) -> None:
        if value not in (None, ""):
            values.setdefault(name, set()).add(printable(str(value)))

    for trial in data.trials:
        add("model", trial.model)
        add("model revision", trial.model_revision)
        add("GPU", trial.gpu_model)
        add("node", trial.node)
        add("seed", trial.seed)
        add(f"{trial.engine} version", trial.engine_version)
        for name, version in trial.versions.items():
            add(name.replace("_", " "), version)
    return [(printable(name), _side_by_side(sorted(found))) for name, found in values.items()]


def _side_by_side(values: list[str], shown: int = 8) -> str:
    more = f" and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(values[:shown]) + more


def engine_config(data: RunData) -> EngineConfigView | None:
    """The resolved configuration of the best trial; None when its engine said nothing."""
    best = data.best()
    if best is None or not best.engine_config:
        return None
    rows = tuple(
        (printable(name), printable(value)) for name, value in sorted(best.engine_config.items())
    )
    return EngineConfigView(f"Configuration that trial {best.number} resolved to", rows)


def experiment_yaml(experiment: Mapping[str, object]) -> str:
    """The experiment as its file would read."""
    return printable(yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True))


def gpu_time(summary: Summary) -> str:
    """Busy and idle GPU-seconds in a sentence."""
    words = f"{summary.busy_gpu_seconds:,.0f} GPU-seconds busy"
    held_s = summary.busy_gpu_seconds + summary.idle_gpu_seconds
    if not summary.capacity_gpus or not held_s:
        return f"{words}."
    share = summary.idle_gpu_seconds / held_s
    return f"{words}, {summary.idle_gpu_seconds:,.0f} GPU-seconds idle ({share:.0%})."


def run_time(summary: Summary) -> str:
    """How long the trials took from the first start to the last end; empty without any."""
    if summary.started_unix_s is None or summary.ended_unix_s is None:
        return ""
    return duration(summary.ended_unix_s - summary.started_unix_s)
