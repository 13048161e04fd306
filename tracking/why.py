"""Why the runner-up lost, and why the engine's defaults did, from what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runtimes.slo import SloVerdict
from search.analysis.differences import Difference, Verdict
from tracking.evidence import evidence
from tracking.gain import CONFIDENCE, baselines
from tracking.noise import difference
from tracking.pareto import meets_slo
from tracking.reasons import Concern, Reason, reasons
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import figure, objective_words

_NOWHERE = Difference(0.0, None, None, Verdict.UNDECIDED)


class Role(StrEnum):
    """What the worse trial is to the study; the value is what documents carry."""

    RUNNER_UP = "runner_up"
    BEYOND_NOISE = "beyond_noise"
    BASELINE = "baseline"


_NAMES = {
    Role.RUNNER_UP: ", the runner-up,",
    Role.BEYOND_NOISE: ", the best that is surely worse,",
    Role.BASELINE: ", the engine's defaults,",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """Why one trial is not the best.

    Attributes:
        role, trial, best: the trial, what it is, and the best one that it is held against.
        objective: the deciding one. `minimize`: whether less of it is better.
        difference: of the trial against the best, in that objective.
        unmet: limits that it breaks while the best trial meets the SLO.
        reasons: the strongest first; empty when the figures support none, and when the difference
            is within the noise of the measurements.
        reported: whether the engine said anything of its work in both trials.
    """

    role: Role
    trial: int
    best: int
    objective: str
    minimize: bool
    difference: Difference
    unmet: tuple[SloVerdict, ...]
    reasons: tuple[Reason, ...]
    reported: bool

    @property
    def shown(self) -> bool:
        """Whether it is surely worse, or breaks what the best one meets."""
        return bool(self.unmet) or self.difference.verdict is Verdict.WORSE

    @property
    def within_noise(self) -> bool:
        """Whether intervals are known and do not tell the two apart."""
        return not self.shown and self.difference.low is not None

    @property
    def words(self) -> str:
        """`trial 7, the runner-up, lost, 18 % less goodput (15 to 21 %, 99 %): its KV cache …`."""
        name = f"trial {self.trial}{_NAMES[self.role]}"
        if self.within_noise:
            return f"{name[:-1]}: no difference shown, {self._amount()}"
        parts = [reason.words for reason in self.reasons]
        if not parts:
            said = "nothing that was reported explains it"
            parts = [said if self.reported else "the engine reported nothing that would explain it"]
        return f"{name} {self._verdict()}: {'; '.join(parts)}"

    def _verdict(self) -> str:
        if self.unmet:
            broken = ", ".join(
                f"{verdict.limit}"
                + ("" if verdict.value_ms is None else f" ({figure(verdict.value_ms)} ms)")
                for verdict in self.unmet
            )
            return f"breaks {broken}"
        return f"lost, {self._amount()}"

    def _amount(self) -> str:
        """`18 % less goodput per GPU (15 to 21 %, 99 %)`."""
        found = self.difference
        size, side = abs(found.relative), "less" if found.relative < 0 else "more"
        words = f"{_percent(size)} {side} {objective_words(self.objective)}"
        if found.low is None or found.high is None:
            return f"{words} (no interval)"
        if found.low < 0 < found.high:
            return f"{words} ({_signed(found.low)} to {_signed(found.high)}, {CONFIDENCE})"
        low, high = sorted((abs(found.low), abs(found.high)))
        return f"{words} ({low * 100:.0f} to {_percent(high)}, {CONFIDENCE})"


def losses(data: RunData, best: TrialRecord) -> tuple[Loss, ...]:
    """Of the runner-up, and of the defaults of the best trial's engine where those are another.

    Where the measurements do not tell the runner-up from the best trial, the best one that is
    surely worse, or breaks an SLO that the best one meets, stands in its place, if there is any.
    Doubtful trials are left out.
    """
    found: list[Loss] = []
    rivals = [trial for trial in data.ranked() if trial.number != best.number and not trial.doubts]
    worse = next((trial for trial in rivals if _surely_worse(data, trial, best)), None)
    explained = worse or next(iter(rivals), None)
    if explained is not None:
        role = Role.RUNNER_UP if explained is rivals[0] else Role.BEYOND_NOISE
        found.append(loss(data, explained, best, role))
    defaults = next(
        (trial for trial in baselines(data) if trial.engine == best.engine and trial in rivals),
        None,
    )
    if defaults is not None and defaults is not explained:
        found.append(loss(data, defaults, best, Role.BASELINE))
    return tuple(found)


def loss(data: RunData, trial: TrialRecord, best: TrialRecord, role: Role) -> Loss:
    """Why `trial` lost against `best`."""
    goal = data.goals[0]
    apart = difference(data, trial, best) or _NOWHERE
    unmet: tuple[SloVerdict, ...] = ()
    if trial.measurement is not None and meets_slo(best):
        unmet = tuple(verdict for verdict in trial.measurement.slo if not verdict.met)
    worse, ours = evidence(data, trial), evidence(data, best)
    within_noise = not unmet and apart.low is not None and apart.verdict is not Verdict.WORSE
    return Loss(
        role=role,
        trial=trial.number,
        best=best.number,
        objective=goal.name,
        minimize=goal.direction == "minimize",
        difference=apart,
        unmet=unmet,
        reasons=() if within_noise else tuple(reasons(worse, ours, _concern(goal.name, unmet))),
        reported=worse.engine_reports and ours.engine_reports,
    )


def _surely_worse(data: RunData, trial: TrialRecord, best: TrialRecord) -> bool:
    if meets_slo(best) and not meets_slo(trial):
        return True
    found = difference(data, trial, best)
    return found is not None and found.verdict is Verdict.WORSE


def _concern(objective: str, unmet: tuple[SloVerdict, ...]) -> Concern:
    """Which part of a request decided: that of the limits that were broken, or of the objective."""
    if unmet:
        metrics = {verdict.limit.metric.removesuffix("_ms") for verdict in unmet}
    else:
        metrics = {objective.partition("_")[0]}
    per_gpu = not unmet and (
        objective.endswith("_per_gpu") or objective.startswith(("cost", "energy"))
    )
    if metrics <= {"ttft"}:
        return Concern(later_tokens=False)
    if metrics <= {"tpot", "itl"}:
        return Concern(first_token=False)
    return Concern(per_gpu=per_gpu)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.01 else f"{share * 100:.1f} %"


def _signed(share: float) -> str:
    return f"{share * 100:+.0f} %".replace("-", "−")
