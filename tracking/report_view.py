"""What the report's template prints: rows of text, made of a run's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from runtimes.measurement import Distribution
from runtimes.slo import SloVerdict
from search.analysis.differences import Verdict
from search.trial import TrialState
from tracking.gain import CONFIDENCE
from tracking.records import TrialRecord
from tracking.report_params import parameter_pairs, shortened
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
    printable,
)

MAX_TRIALS = 2_000
"""Rows of the table of trials."""
MAX_EXPERIMENT_CHARACTERS = 200_000


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
        return f"{words}. It is the engine's own default configuration: {_beaten_by_none(data)}."
    gain = summary.gain
    if summary.gain_ratio is None or gain is None:
        return f"{words}."
    if gain.low is not None and gain.verdict is not Verdict.BETTER:
        return f"{words}. No gain over {gain.whose} (trial {gain.trial}) is shown."
    return f"{words}, {gain_words(goal, summary.gain_ratio, gain.whose)} (trial {gain.trial})."


def _beaten_by_none(data: RunData) -> str:
    """What can be said for a best trial that is an engine's defaults itself."""
    if len(data.last_attempts()) == 1:
        return "nothing else was measured"
    return "nothing beat it" if len(data.ranked()) > 1 else "no other trial completed"


def gain_words(goal: Goal, ratio: float, whose: str) -> str:
    """`34 % more than the engine's defaults`, `2.6 times …`, `20 % less than …`, `the same as …`.

    Args:
        goal: says whether more or less is better.
        ratio: how many times better, as in `Summary.gain_ratio`.
        whose: the defaults, as in `Gain.whose`.
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
    return f"{amount} {whose}"


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
            found.append(_gain_tile(data, summary))
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


def _gain_tile(data: RunData, summary: Summary) -> Tile:
    name, gain = "gain over defaults", summary.gain
    if summary.best is not None and summary.best.baseline:
        if len(data.ranked()) == 1:
            return Tile(name, "–", note=_beaten_by_none(data))
        return Tile(name, "1.00", "times", "the best trial has an engine's defaults")
    if gain is None:
        return Tile(name, "–", note="no baseline measured")
    if not gain.own:
        name = f"gain over {gain.whose}"
    if not gain.comparable or gain.ratio is None:
        why = "breaks the SLO" if gain.unmet else "cannot be compared"
        return Tile(name, "–", note=f"trial {gain.trial}, {gain.whose}, {why}")
    value = f"{gain.ratio:.2f}"
    if gain.low is None or gain.high is None:
        reference = objective_value(summary.goal.name, summary.baseline_value or 0.0)
        return Tile(name, value, "times", f"from {reference}; one measurement each")
    note = f"{gain.low:.2f} to {gain.high:.2f} times at {CONFIDENCE}"
    if gain.verdict is not Verdict.BETTER:
        return Tile(name, value, "times", f"{note}: no gain shown")
    return Tile(name, value, "times", note, "good")


def _limit_tile(verdict: SloVerdict) -> Tile:
    limit = verdict.limit
    name = f"{limit.metric.removesuffix('_ms').upper()} {limit.statistic}"
    word = "met" if verdict.met else "broken"
    note = f"limit {limit.limit_ms:g} ms, {word}"
    return Tile(name, figure(verdict.value_ms), "ms", note, "good" if verdict.met else "bad")


def trial_rows(data: RunData, summary: Summary) -> list[TrialRow]:
    """The latest attempt of each trial: best first as `rank` has it, then the others by number.

    At most `MAX_TRIALS`.
    """
    front = set(summary.pareto_trials)
    best = summary.best.trial if summary.best is not None else None
    return [
        _trial_row(trial, data, best=trial.number == best, pareto=trial.number in front)
        for trial in ordered_trials(data)[:MAX_TRIALS]
    ]


def ordered_trials(data: RunData) -> list[TrialRecord]:
    """The latest attempt of each trial in the order of the report's tables."""
    completed = data.completed()
    numbers = {trial.number for trial in completed}
    return completed + [trial for trial in data.last_attempts() if trial.number not in numbers]


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
        params=parameter_pairs(trial.params),
        objectives=tuple(figure(trial.objectives.get(goal.name)) for goal in data.goals),
        ttft_p99=_p99(measured.ttft_ms if measured is not None else None),
        tpot_p99=_p99(measured.tpot_ms if measured is not None else None),
        throughput=figure(rate),
        throughput_per_gpu=figure(None if rate is None else rate / trial.gpus),
        slo="" if not verdicts else "broken" if broken else "met",
        slo_words="; ".join(broken),
        flags=tuple(flag_words(printable(flag)) for flag in all_flags(trial)),
        reason=shortened(printable(reason)),
        best=best,
        baseline=trial.baseline,
        pareto=pareto,
    )


def _p99(latency: Distribution | None) -> str:
    return figure(latency.p99 if latency is not None else None)


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
        add("driver", trial.driver_version)
        add("CUDA", trial.cuda_version)
        add("node", trial.node)
        add("seed", trial.seed)
        add(f"{trial.engine} version", trial.engine_version)
        add("environment hash", trial.environment_hash)
        add("compile cache", trial.compile_cache)
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
        (shortened(printable(name)), shortened(printable(value)))
        for name, value in sorted(best.engine_config.items())
    )
    return EngineConfigView(f"Configuration that trial {best.number} resolved to", rows)


def experiment_yaml(experiment: Mapping[str, object]) -> str:
    """The experiment as its file would read; of a long one its beginning."""
    text = printable(yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True))
    if len(text) <= MAX_EXPERIMENT_CHARACTERS:
        return text
    more = len(text) - MAX_EXPERIMENT_CHARACTERS
    return f"{text[:MAX_EXPERIMENT_CHARACTERS]}\n… {more:,} characters more in experiment.yaml"


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
