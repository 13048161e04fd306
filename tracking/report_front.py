"""Configurations to choose from, with their commands, and what sets others apart from the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtimes.json_types import Json
from search.analysis.differences import Difference, Verdict
from tracking.noise import difference
from tracking.pareto import pareto_front
from tracking.plots.pareto import Point, frontier, points
from tracking.records import TrialRecord
from tracking.report_params import parameter_pairs, value_words
from tracking.report_table import left_out
from tracking.run_data import Goal, RunData, rank
from tracking.words import figure, objective_words, printable, shell_command

MAX_CHOICES = 50
MAX_RIVALS = 20
_ABSENT = "not set"


@dataclass(frozen=True, slots=True)
class Choice:
    """One configuration; figures are text, a dash where there is none.

    Attributes:
        user_tokens: output tokens per second that one user sees, from the mean TPOT.
        gpu_tokens: output tokens per second and GPU.
    """

    trial: int
    engine: str
    gpus: int
    params: tuple[tuple[str, str], ...]
    objectives: tuple[str, ...]
    ttft_p99: str
    tpot_p99: str
    user_tokens: str
    gpu_tokens: str
    slo: str
    command: str
    best: bool
    baseline: bool


@dataclass(frozen=True, slots=True)
class ChoicesView:
    """The configurations that no other one beats.

    Attributes:
        words: in what they are not beaten.
        rows: best first by the deciding objective.
    """

    words: str
    rows: tuple[Choice, ...]
    left_out: str


@dataclass(frozen=True, slots=True)
class Rival:
    """A completed trial held against the best one.

    Attributes:
        change: of the deciding objective, `−12 %`, with its interval where that is known.
        verdict: `worse`, `no difference shown`, …; empty where there is no interval.
        tone: `bad`, `good` or empty.
        params: name, the best one's value, its own, for each that differs.
    """

    trial: int
    engine: str
    gpus: int
    objective: str
    slo: str
    change: str
    interval: str
    verdict: str
    tone: str
    params: tuple[tuple[str, str, str], ...]
    baseline: bool


def choices_view(data: RunData) -> ChoicesView | None:
    """The front of the study's objectives, or of speed and output where it has but one.

    None where nothing completed, and where the best is all there is.
    """
    if len(data.goals) > 1:
        front = pareto_front(data)
        names = ", ".join(objective_words(goal.name) for goal in data.goals)
        words = f"No other trial is as good in all of {names} and better in one."
    else:
        front = [point.trial for point in frontier(points(data))]
        words = (
            "No other trial gives a user more output tokens per second and a GPU more as well. "
            "To the top of the list the study's objective decides."
        )
    best = data.best()
    if best is None or len(front) < 2:
        return None
    ordered = sorted(front, key=lambda trial: rank(data.goals[0], trial))
    speeds = {point.trial.number: point for point in points(data)}
    rows = tuple(
        _choice(trial, data.goals, speeds.get(trial.number), best.number)
        for trial in ordered[:MAX_CHOICES]
    )
    return ChoicesView(words, rows, left_out(len(front), MAX_CHOICES, "the folder trials/"))


def _choice(trial: TrialRecord, goals: Sequence[Goal], speeds: Point | None, best: int) -> Choice:
    measured = trial.measurement
    return Choice(
        trial=trial.number,
        engine=printable(trial.engine),
        gpus=trial.gpus,
        params=parameter_pairs(trial.params),
        objectives=tuple(figure(trial.objectives.get(goal.name)) for goal in goals),
        ttft_p99=figure(measured.ttft_ms.p99 if measured and measured.ttft_ms else None),
        tpot_p99=figure(measured.tpot_ms.p99 if measured and measured.tpot_ms else None),
        user_tokens=figure(speeds.user_tokens_per_s if speeds else None),
        gpu_tokens=figure(speeds.gpu_tokens_per_s if speeds else None),
        slo=_slo(trial),
        command=printable(shell_command(trial.deploy_command, trial.env))
        if trial.deploy_command
        else "",
        best=trial.number == best,
        baseline=trial.baseline,
    )


def _slo(trial: TrialRecord) -> str:
    measured = trial.measurement
    if measured is None or not measured.slo:
        return ""
    return "met" if measured.slo_met else "broken"


def rivals(data: RunData) -> list[Rival]:
    """What sets the next best trials, and the baseline, apart from the best one; best first."""
    best = data.best()
    if best is None:
        return []
    goal = data.goals[0]
    ordered = [trial for trial in data.completed() if trial.number != best.number]
    shown = ordered[:MAX_RIVALS]
    shown += [trial for trial in ordered[MAX_RIVALS:] if trial is data.baseline()]
    return [_rival(data, goal, trial, best) for trial in shown]


def _rival(data: RunData, goal: Goal, trial: TrialRecord, best: TrialRecord) -> Rival:
    found = difference(data, trial, best)
    change, interval, verdict, tone = "–", "", "", ""
    if found is not None:
        change, interval = signed_percent(found.relative), interval_words(found)
        verdict, tone = _verdict(found)
    return Rival(
        trial=trial.number,
        engine=printable(trial.engine),
        gpus=trial.gpus,
        objective=figure(trial.objectives[goal.name]),
        slo=_slo(trial),
        change=change,
        interval=interval,
        verdict=verdict,
        tone=tone,
        params=_changed(_parameters(best), _parameters(trial)),
        baseline=trial.baseline,
    )


def _verdict(found: Difference) -> tuple[str, str]:
    if found.low is None:
        return "", ""
    return {
        Verdict.BETTER: ("better", "good"),
        Verdict.WORSE: ("worse", "bad"),
        Verdict.UNDECIDED: ("no difference shown", ""),
    }[found.verdict]


def interval_words(found: Difference) -> str:
    """`−18 to −6 %`; empty where the interval is not known."""
    if found.low is None or found.high is None:
        return ""
    low, high = signed_percent(found.low), signed_percent(found.high)
    return f"{low.removesuffix(' %')} to {high}"


def signed_percent(share: float) -> str:
    """`+8 %`, `−0.4 %`."""
    percent = 100 * share
    digits = 1 if abs(percent) < 9.95 else 0
    return f"{percent:+.{digits}f} %".replace("-", "−")


def _parameters(trial: TrialRecord) -> dict[str, Json]:
    return {"engine": trial.engine, **trial.params}


def _changed(
    best: Mapping[str, Json], other: Mapping[str, Json]
) -> tuple[tuple[str, str, str], ...]:
    names = dict.fromkeys([*best, *other])
    return tuple(
        (printable(name), _words(best, name), _words(other, name))
        for name in names
        if best.get(name) != other.get(name)
    )


def _words(params: Mapping[str, Json], name: str) -> str:
    return value_words(params[name]) if params.get(name) is not None else _ABSENT
