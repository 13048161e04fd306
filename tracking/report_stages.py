"""The stages of a trial: which one is shown for it, and what they found, in words."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.json_types import Json
from runtimes.measurement import Measurement
from search.trial import TrialState
from tracking.records import StageRecord, TrialRecord
from tracking.run_data import RunData
from tracking.words import count, figure, printable

_SEARCH = "max_under_slo"
"""Kind of the load that looks for the highest rate."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage; figures are text, a dash where there is none.

    Attributes:
        slo: `met`, `broken`, or empty without limits.
        deciding: True for the stage whose measurement is the trial's.
    """

    stage: int
    load: str
    requests: str
    rate: str
    throughput: str
    goodput: str
    ttft_p99: str
    tpot_p99: str
    slo: str
    stopped_by: str
    flags: tuple[str, ...]
    deciding: bool


@dataclass(frozen=True, slots=True)
class StagesView:
    """The stages of one trial.

    Attributes:
        completed: False where nothing but the stages is known of it.
    """

    trial: int
    completed: bool
    rows: tuple[StageRow, ...]
    slo_rate: str


def stages_view(data: RunData) -> StagesView | None:
    """Those of the best trial where it has several; where none completed, of the last with any."""
    trial = shown_trial(data)
    if trial is None:
        return None
    stages = stages_of(data, trial)
    completed = trial.state is TrialState.COMPLETED
    if len(stages) < (2 if completed else 1):
        return None
    rows = tuple(_row(stage, trial) for stage in stages)
    return StagesView(trial.number, completed, rows, slo_rate_words(data, trial))


def shown_trial(data: RunData) -> TrialRecord | None:
    """The best trial; where none completed, the last one of which anything was measured."""
    measured = (trial for trial in reversed(data.last_attempts()) if stages_of(data, trial))
    return data.best() or next(measured, None)


def shown_stage(data: RunData, trial: TrialRecord) -> StageRecord | None:
    """The stage whose figures stand for the trial's: the deciding one, else its last one."""
    stages = stages_of(data, trial)
    deciding = (stage for stage in stages if stage.stage == trial.deciding_stage)
    return next(deciding, stages[-1] if stages else None)


def shown_flags(data: RunData, trial: TrialRecord) -> tuple[str, ...]:
    """Flags of the trial and of the figures that stand for it, each once."""
    stage = shown_stage(data, trial)
    measured = trial.measurement if stage is None else stage.measurement
    return tuple(dict.fromkeys([*trial.flags, *(measured.flags if measured is not None else ())]))


def stages_of(data: RunData, trial: TrialRecord) -> list[StageRecord]:
    """Stages of this attempt, in order."""
    key = (trial.number, trial.attempt)
    mine = [stage for stage in data.stages if (stage.number, stage.attempt) == key]
    return sorted(mine, key=lambda stage: stage.stage)


def _row(stage: StageRecord, trial: TrialRecord) -> StageRow:
    measured = stage.measurement
    return StageRow(
        stage=stage.stage,
        load=f"{printable(stage.load)} {stage.load_value:.4g}",
        requests=requests_words(measured),
        rate=figure(measured.request_throughput),
        throughput=figure(measured.output_throughput),
        goodput=figure(measured.goodput if measured.slo else None),
        ttft_p99=figure(measured.ttft_ms.p99 if measured.ttft_ms is not None else None),
        tpot_p99=figure(measured.tpot_ms.p99 if measured.tpot_ms is not None else None),
        slo="" if not measured.slo else "met" if measured.slo_met else "broken",
        stopped_by=printable(measured.stopped_by),
        flags=tuple(printable(flag) for flag in measured.flags),
        deciding=trial.measurement is not None and trial.deciding_stage == stage.stage,
    )


def requests_words(measured: Measurement) -> str:
    """`30`, or `30, 2 failed`."""
    failed = f", {measured.requests_failed:,} failed" if measured.requests_failed else ""
    return f"{measured.requests_completed:,}{failed}"


def hit_rate_words(stage: StageRecord) -> str:
    """`60.0% designed, 59.4% observed`: prompt tokens in the prefix cache; empty without any."""
    designed, observed = stage.designed_hit_rate, stage.observed_hit_rate
    if not designed and not observed:
        return ""
    meant = "not known by design" if designed is None else f"{designed:.1%} designed"
    found = "not told by the server" if observed is None else f"{observed:.1%} observed"
    return f"{meant}, {found}"


def slo_rate_words(data: RunData, trial: TrialRecord) -> str:
    """`45.4 to 49.8 requests/s`: the highest rate under the SLO; empty where nobody looked for it.

    Says as well why a bound is missing, and that a search broke off.
    """
    low, high = trial.slo_rate_low, trial.slo_rate_high
    if low is None and high is None and not _searched(data):
        return ""
    stages = stages_of(data, trial)
    if trial.measurement is None:
        return f"not known, since the search broke off after {count(len(stages), 'stage')}"
    if low is not None and high is not None:
        return f"{figure(low)} to {figure(high)} requests/s"
    if low is not None:
        return f"at least {figure(low)} requests/s{_unbounded(stages, low)}"
    limited = ", where the load generator was the limit" if _limited(stages, 0.0) else ""
    if high is not None:
        return f"below {figure(high)} requests/s: it held at no rate that was tried{limited}"
    return f"not known: it held in no stage{limited}"


def _unbounded(stages: list[StageRecord], low: float) -> str:
    if _limited(stages, low):
        return "; above that the load generator was the limit"
    return ", the highest that was tried"


def _limited(stages: list[StageRecord], above: float) -> bool:
    """Whether the client was the limit of a stage at a rate above `above`."""
    return any(
        "client_limited" in stage.measurement.flags and stage.load_value > above
        for stage in stages
        if not stage.measurement.slo_met
    )


def _searched(data: RunData) -> bool:
    found: Json = dict(data.experiment)
    for key in ("workload", "load", "kind"):
        found = found.get(key) if isinstance(found, dict) else None
    return found == _SEARCH
