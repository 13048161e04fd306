"""What a run comes to, as values: the last screen and the report say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtimes.failure import FailureKind
from runtimes.slo import SloVerdict
from tracking.gain import Gain, baselines, gains
from tracking.nodes import node_caveats
from tracking.noise import not_surely_worse
from tracking.pareto import meets_slo, pareto_front
from tracking.prompt_counts import prompt_count_note
from tracking.records import TrialRecord
from tracking.run_data import Goal, RunData, attaches
from tracking.why import Loss, losses
from tracking.words import count, flag_words, objective_words, shell_command, trial_list


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The trial to deploy.

    Attributes:
        command: what a user pastes to serve it.
        value: of the deciding objective.
        unmet: limits of the SLO that it breaks.
        simulated: True when nothing real was served.
    """

    trial: int
    engine: str
    gpus: int
    command: str
    value: float
    objectives: Mapping[str, float]
    slo: tuple[SloVerdict, ...]
    simulated: bool
    baseline: bool
    flags: tuple[str, ...]

    @property
    def slo_met(self) -> bool:
        return not self.unmet

    @property
    def unmet(self) -> tuple[SloVerdict, ...]:
        return tuple(verdict for verdict in self.slo if not verdict.met)


@dataclass(frozen=True, slots=True)
class Flagged:
    """What makes the results of some trials doubtful, in words."""

    flag: str
    words: str
    trials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FailureNote:
    """Why one attempt failed and what to do about it."""

    trial: int
    attempt: int
    kind: FailureKind
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a few figures.

    Attributes:
        best: None while nothing was measured.
        simulated: True when the best trial served nothing real; without a best one, when any trial.
        lossless: the best trial whose precision costs no accuracy, where `best` is another.
        baseline_trial, baseline_value: the defaults of the best trial's engine, or of another one
            where that has none that completed, and their deciding objective.
        gains: what the best trial gains over those defaults, first, and over those of other engines
            that are better; empty when it is an engine's defaults itself, and without defaults.
        gain_ratio: how many times better than the baseline: best over baseline where more is
            better, baseline over best where less is. None where that would mislead, as over a
            baseline that breaks the SLO; `gains` says what can be compared then.
        why: why the runner-up lost, and why the defaults did where they are another trial.
        counts: trials by state, each by its latest attempt; states without trials are absent.
        attempts: attempts of all trials, retries included.
        pareto_trials: numbers of the trials on the Pareto front; empty with a single goal.
        capacity_gpus: GPUs that the study held; 0 where it held none, as for a server that runs
            already.
        busy_gpu_seconds: GPU-seconds held by attempts, killed ones included.
        idle_gpu_seconds: those of the study's GPUs that no attempt held, while a driver held
            them; 0 when the capacity is not known.
        caveats: what a reader must know before using the result, one sentence each.
    """

    run: str
    name: str
    goal: Goal
    best: BestTrial | None
    simulated: bool
    lossless: BestTrial | None
    baseline_trial: int | None
    baseline_value: float | None
    gain_ratio: float | None
    gains: tuple[Gain, ...]
    why: tuple[Loss, ...]
    counts: Mapping[str, int]
    attempts: int
    pareto_trials: tuple[int, ...]
    flagged: tuple[Flagged, ...]
    failures: tuple[FailureNote, ...]
    started_unix_s: float | None
    ended_unix_s: float | None
    capacity_gpus: int
    busy_gpu_seconds: float
    idle_gpu_seconds: float
    caveats: tuple[str, ...]

    @property
    def gain(self) -> Gain | None:
        """Over the defaults of the best trial's own engine; over another's where it has none."""
        return next(iter(self.gains), None)

    @property
    def slo_met(self) -> bool | None:
        """Whether the best trial meets the SLO; None while nothing was measured."""
        return None if self.best is None else self.best.slo_met


def summarise_run(data: RunData) -> Summary:
    """Sum a run up; nothing is read from disk."""
    goal = data.goals[0]
    best = data.best()
    found = gains(data, best) if best is not None else ()
    baseline = _baseline(data, best, found)
    lossless = data.best_lossless() if best is not None and not best.lossless else None
    started, ended = _span(data.trials)
    busy_s = _busy_gpu_seconds(data)
    span_s = ended - started if started is not None and ended is not None else 0.0
    counts = Counter(trial.state.value for trial in data.last_attempts())
    return Summary(
        run=data.run,
        name=data.name,
        goal=goal,
        best=_best(best, goal) if best is not None else None,
        simulated=any(trial.simulated for trial in ([best] if best is not None else data.trials)),
        lossless=_best(lossless, goal) if lossless is not None else None,
        baseline_trial=baseline.number if baseline is not None else None,
        baseline_value=baseline.objectives[goal.name] if baseline is not None else None,
        gain_ratio=_gain_ratio(best, found),
        gains=found,
        why=losses(data, best) if best is not None else (),
        counts=dict(counts),
        attempts=len(data.trials),
        pareto_trials=tuple(trial.number for trial in pareto_front(data))
        if len(data.goals) > 1
        else (),
        flagged=_flagged(data.last_attempts()),
        failures=_failures(data.trials),
        started_unix_s=started,
        ended_unix_s=ended,
        capacity_gpus=0 if data.attached else data.capacity_gpus,
        busy_gpu_seconds=busy_s,
        idle_gpu_seconds=max(0.0, _held_gpu_seconds(data, span_s) - busy_s),
        caveats=tuple(_caveats(data, best, baseline, found)),
    )


def _baseline(data: RunData, best: TrialRecord | None, found: Sequence[Gain]) -> TrialRecord | None:
    """The completed defaults that the best trial is held against first."""
    if best is None or best.baseline:
        return best
    numbers = {gain.trial for gain in found[:1]}
    return next((trial for trial in baselines(data) if trial.number in numbers), None)


def _gain_ratio(best: TrialRecord | None, found: Sequence[Gain]) -> float | None:
    if best is not None and best.baseline:
        return 1.0
    return next((gain.ratio for gain in found[:1] if gain.comparable), None)


def _best(trial: TrialRecord, goal: Goal) -> BestTrial:
    return BestTrial(
        trial=trial.number,
        engine=trial.engine,
        gpus=trial.gpus,
        command=shell_command(trial.deploy_command, trial.env),
        value=trial.objectives[goal.name],
        objectives=dict(trial.objectives),
        slo=trial.measurement.slo if trial.measurement is not None else (),
        simulated=trial.simulated,
        baseline=trial.baseline,
        flags=all_flags(trial),
    )


def all_flags(trial: TrialRecord) -> tuple[str, ...]:
    """Flags of the trial and of its deciding measurement, each once."""
    measured = trial.measurement.flags if trial.measurement is not None else ()
    return tuple(dict.fromkeys([*trial.flags, *measured]))


def _busy_gpu_seconds(data: RunData) -> float:
    if data.attached:
        return 0.0
    rows_s = sum(trial.gpu_seconds for trial in data.trials if not attaches(trial.engine))
    return rows_s + data.rowless_gpu_seconds


def _held_gpu_seconds(data: RunData, span_s: float) -> float:
    if data.attached:
        return 0.0
    if data.capacity_gpu_seconds is not None:
        return data.capacity_gpu_seconds
    return data.capacity_gpus * span_s


def _span(trials: Sequence[TrialRecord]) -> tuple[float | None, float | None]:
    started = [trial.started_unix_s for trial in trials if trial.started_unix_s is not None]
    ended = [trial.ended_unix_s for trial in trials if trial.ended_unix_s is not None]
    return min(started, default=None), max(ended, default=None)


def _flagged(trials: Sequence[TrialRecord]) -> tuple[Flagged, ...]:
    numbers: dict[str, list[int]] = {}
    for trial in trials:
        for flag in all_flags(trial):
            numbers.setdefault(flag, []).append(trial.number)
    return tuple(
        Flagged(flag, flag_words(flag), tuple(found)) for flag, found in sorted(numbers.items())
    )


def _failures(trials: Sequence[TrialRecord]) -> tuple[FailureNote, ...]:
    return tuple(
        FailureNote(
            trial.number,
            trial.attempt,
            trial.failure.kind,
            trial.failure.message,
            trial.failure.remedy,
        )
        for trial in trials
        if trial.failure is not None
    )


def _caveats(
    data: RunData,
    best: TrialRecord | None,
    baseline: TrialRecord | None,
    found: Sequence[Gain],
) -> list[str]:
    caveats = []
    if not data.ended:
        how = "measure again with another seed" if data.attached else _resume_words(data)
        caveats.append(f"The run has not ended in good order; {how}.")
    if data.unread_trials:
        caveats.append(_unread_caveat(data))
    if best is None:
        trial = "trial that can be read" if data.unread_trials else "trial"
        return [*caveats, f"No {trial} completed, so there is no configuration to recommend."]
    if not meets_slo(best):
        caveats.append(_slo_caveat(best))
    if best.simulated:
        caveats.append(
            "Found on a simulated engine: the figures are a model's, no GPU served anything. "
            "Measure the command on real hardware before you rely on it."
        )
    if data.experiment.get("weights") == "dummy" and best.deploy_command:
        caveats.append(
            "Measured with random weights (`weights: dummy`), which the command loads as well: "
            "take that out of it before you serve anybody."
        )
    caveats += _gain_caveats(data, best, baseline, found)
    if not best.lossless and data.best_lossless() is None:
        caveats.append("No lossless trial was measured that the best one could be held against.")
    if alike := not_surely_worse(data, best):
        caveats.append(_noise_caveat(data, alike, found))
    caveats += node_caveats(data)
    if note := prompt_count_note(data.trials):
        caveats.append(note)
    if flags := all_flags(best):
        words = "; ".join(flag_words(flag) for flag in flags)
        caveats.append(f"The best trial is flagged: {words}.")
    return caveats


def _gain_caveats(
    data: RunData, best: TrialRecord, baseline: TrialRecord | None, found: Sequence[Gain]
) -> list[str]:
    """What stands between the result and a gain over the defaults, and who has better ones."""
    caveats = []
    if baseline is None and best.deploy_command:
        caveats.append(_no_baseline(data, best))
    caveats += [_sentence(gain.words) for gain in found[:1] if not gain.comparable]
    caveats += [
        f"The defaults of {gain.engine} (trial {gain.trial}) are better than those of "
        f"{best.engine}: {gain.words}."
        for gain in found
        if not gain.own and any(other.own for other in found)
    ]
    return caveats


def _no_baseline(data: RunData, best: TrialRecord) -> str:
    for trial in baselines(data):
        if trial.engine == best.engine:
            why = trial.failure.message if trial.failure is not None else trial.reason
            because = f": {why}" if why else ""
            return (
                f"The engine's defaults (trial {trial.number}) ended {trial.state.value}{because}; "
                "no gain can be stated."
            )
    return "No trial of the engine's defaults was measured, so no gain can be stated."


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _resume_words(data: RunData) -> str:
    return f"`servetune resume {data.argument}` goes on with it"


def _unread_caveat(data: RunData) -> str:
    remedy = "restore them from a copy"
    if not data.attached and "imported" not in data.experiment:
        remedy += f", or let `servetune resume {data.argument}` measure the trials again"
    return (
        f"{count(data.unread_trials, 'finished trial')} cannot be read: files below trials/ are "
        f"damaged or gone, or may not be read; {remedy}."
    )


def _noise_caveat(data: RunData, alike: Sequence[int], found: Sequence[Gain]) -> str:
    defaults = ""
    for gain in found[:1]:
        if gain.trial in alike:
            who = "it is" if len(alike) == 1 else f"trial {gain.trial} is"
            defaults = f"; {who} {gain.whose}, so that no gain over them is shown"
    return (
        f"Its lead in {objective_words(data.goals[0].name)} over {trial_list(alike)} "
        f"is within the noise of the measurements{defaults}."
    )


def _slo_caveat(best: TrialRecord) -> str:
    verdicts = best.measurement.slo if best.measurement is not None else ()
    broken = "; ".join(
        f"{verdict.limit}, measured "
        + ("nothing" if verdict.value_ms is None else f"{verdict.value_ms:.0f} ms")
        for verdict in verdicts
        if not verdict.met
    )
    return (
        "No trial meets the service-level objective; "
        f"trial {best.number} breaks it least ({broken or 'not measured'})."
    )
