"""Predicted against measured, trial by trial and by engine, for the report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from search.perfmodel.expected import FIGURES, Estimate, measured_figures
from search.trial import TrialState
from tracking.records import TrialRecord
from tracking.report_table import left_out
from tracking.run_data import RunData
from tracking.words import count, figure, printable

SHOWN = {
    "ttft_ms": ("TTFT mean", "ms"),
    "tpot_ms": ("TPOT mean", "ms"),
    "output_throughput": ("output", "tokens/s"),
}
"""Words and unit of each figure."""

MAX_TRIALS = 500
"""Trials listed one by one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one completed trial.

    Attributes:
        refined: the estimate once the study's other trials have corrected it.
    """

    trial: TrialRecord
    predicted: Estimate
    refined: Estimate
    measured: float

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted.value / self.measured - 1

    @property
    def refined_error(self) -> float:
        return self.refined.value / self.measured - 1

    @property
    def within(self) -> bool:
        """Whether the measured value lies within the predicted bounds."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True, slots=True)
class EngineErrors:
    """Errors of one engine's trials, as text: per figure of `SHOWN` the median as predicted, the
    median after refinement, and how many lie within their bounds.
    """

    engine: str
    trials: int
    figures: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class TrialErrors:
    """One trial, as text: per figure of `SHOWN` predicted, measured and the error."""

    trial: int
    engine: str
    figures: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class PredictionsView:
    """What the report shows of the predictions.

    Attributes:
        trials: at most `MAX_TRIALS`.
        more: how many trials are not listed one by one; empty for none.
        left_out: how many trials are not compared, and why; empty for none.
    """

    engines: tuple[EngineErrors, ...]
    trials: tuple[TrialErrors, ...]
    more: str
    left_out: str


def predictions_view(data: RunData) -> PredictionsView | None:
    """None for a study of whose measured trials nothing was predicted."""
    found = comparisons(data)
    trials = {one.trial.number: one.trial for each in found.values() for one in each}
    doubtful = _left_out(data)
    if not trials and not doubtful:
        return None
    ordered = [trials[number] for number in sorted(trials)]
    engines = sorted({trial.engine for trial in ordered})
    return PredictionsView(
        tuple(_of_engine(engine, ordered, found) for engine in engines),
        tuple(_of_trial(trial, found) for trial in ordered[:MAX_TRIALS]),
        left_out(len(ordered), MAX_TRIALS, "the folder trials/"),
        doubtful,
    )


def comparisons(data: RunData) -> dict[str, list[Comparison]]:
    """By figure the completed trials that have it both predicted and measured, in order of number.

    Doubtful measurements, and loads that were predicted to be more than can be served, are left
    out.
    """
    trials = [trial for trial in _predicted(data) if not trial.doubts]
    return {name: _compared(name, trials) for name in FIGURES}


def _predicted(data: RunData) -> list[TrialRecord]:
    """Completed trials of which something was predicted."""
    return [
        trial
        for trial in data.last_attempts()
        if trial.state is TrialState.COMPLETED and trial.predicted is not None
    ]


def _left_out(data: RunData) -> str:
    flags = [trial.doubts for trial in _predicted(data) if trial.doubts]
    if not flags:
        return ""
    reasons = Counter(flag for doubts in flags for flag in sorted(doubts))
    listed = ", ".join(f"{flag} ({number})" for flag, number in reasons.most_common())
    return (
        f"{count(len(flags), 'completed trial')} left out, whose measurement is doubtful: {listed}."
    )


def _compared(name: str, trials: Sequence[TrialRecord]) -> list[Comparison]:
    from search.perfmodel.refinement import Pair, Setting, refine

    pairs: list[tuple[TrialRecord, Pair]] = []
    for trial in trials:
        if trial.predicted is None or trial.measurement is None:
            continue
        measured = measured_figures(trial.measurement).get(name)
        estimate = trial.predicted.figures()[name]
        if measured is not None and 0 < estimate.value < math.inf:
            setting = Setting(trial.engine, trial.predicted.running, trial.layout.tp)
            pairs.append((trial, Pair(setting, estimate, measured)))
    held_out = refine([pair for _, pair in pairs]).held_out
    return [
        Comparison(trial, pair.predicted, refined, pair.measured)
        for (trial, pair), refined in zip(pairs, held_out, strict=True)
    ]


def _of_engine(
    engine: str, trials: Sequence[TrialRecord], found: Mapping[str, Sequence[Comparison]]
) -> EngineErrors:
    rows = []
    for name in SHOWN:
        own = [one for one in found[name] if one.trial.engine == engine]
        if not own:
            rows.append(("–", "–", "–"))
            continue
        within = sum(one.within for one in own)
        rows.append((
            _percent(median(abs(one.error) for one in own)),
            _percent(median(abs(one.refined_error) for one in own)),
            f"{within} of {len(own)}",
        ))  # fmt: skip
    number = sum(trial.engine == engine for trial in trials)
    return EngineErrors(printable(engine), number, tuple(rows))


def _of_trial(trial: TrialRecord, found: Mapping[str, Sequence[Comparison]]) -> TrialErrors:
    rows = []
    for name in SHOWN:
        one = next((one for one in found[name] if one.trial.number == trial.number), None)
        if one is None:
            rows.append(("–", "–", "–"))
        else:
            rows.append((estimate_words(one.predicted), figure(one.measured), _signed(one.error)))
    return TrialErrors(trial.number, printable(trial.engine), tuple(rows))


def estimate_words(estimate: Estimate) -> str:
    """`12.3 ± 15 %`: the value and half the width of its bounds; a dash for an endless one."""
    if not 0 < estimate.value < math.inf:
        return "–"
    half = (estimate.high - estimate.low) / (2 * estimate.value)
    return f"{figure(estimate.value)} ± {100 * half:.0f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.0f} %".replace("-", "−")
