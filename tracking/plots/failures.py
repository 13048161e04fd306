"""What failed, by kind and engine, every attempt counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from runtimes.failure import FailureKind
from search.trial import TrialState
from tracking.plots._style import Trace, axis, figure, legend, name_axis, text
from tracking.plots._trials import engine_colours
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import count, trial_list

_COLUMNS = (
    "trial", "attempt", "engine", "state", "kind", "exit_code", "gpu_seconds", "message", "remedy",
)  # fmt: skip
_LISTED = 8


@PLOTS.register("failures")
class FailuresPlot(Plot):
    """A bar a kind, in parts by engine."""

    name = "failures"
    title = "What failed"
    position = 100

    def draw(self, data: RunData) -> Drawn | None:
        failed = [trial for trial in data.trials if trial.failure is not None]
        if not failed:
            return None
        rows = tuple(
            (
                trial.number,
                trial.attempt,
                trial.engine,
                trial.state.value,
                trial.failure.kind.value,
                trial.failure.exit_code,
                trial.gpu_seconds,
                trial.failure.message,
                trial.failure.remedy,
            )
            for trial in failed
            if trial.failure is not None
        )
        return Drawn(_caption(data, failed), Table(_COLUMNS, rows), _figure(data, failed))


def _kind(trial: TrialRecord) -> FailureKind:
    assert trial.failure is not None
    return trial.failure.kind


def _words(kind: FailureKind) -> str:
    """`OOM weights`."""
    return kind.value.replace("_", " ").replace("oom", "OOM").replace("gpu", "GPU")


def _figure(data: RunData, failed: Sequence[TrialRecord]) -> dict[str, object]:
    kinds = [kind for kind, _ in Counter(_kind(trial) for trial in failed).most_common()]
    traces: list[Trace] = []
    for engine, colour in engine_colours(data, failed).items():
        mine: dict[FailureKind, list[int]] = defaultdict(list)
        for trial in failed:
            if trial.engine == engine:
                mine[_kind(trial)].append(trial.number)
        shown = [(row, kind) for row, kind in enumerate(kinds) if kind in mine]
        traces.append({
            "type": "bar",
            "orientation": "h",
            "name": text(engine),
            "x": [len(mine[kind]) for _, kind in shown],
            "y": [row for row, _ in shown],
            "marker": {"color": colour},
            "text": [f"{len(mine[kind])}" for _, kind in shown],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "textfont": {"color": "#ffffff"},
            "hovertext": [
                f"{text(engine)}, {_words(kind)}: "
                f"{trial_list(sorted(set(mine[kind])), _LISTED)}"
                for _, kind in shown
            ],
            "hoverinfo": "text",
        })  # fmt: skip
    most = max(Counter(_kind(trial) for trial in failed).values())
    return figure(
        traces,
        height=140 + 34 * len(kinds),
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        legend=legend(traceorder="normal"),
        xaxis=axis("attempts", rangemode="tozero", dtick=1 if most <= 12 else None),
        yaxis=name_axis([_words(kind) for kind in kinds]),
    )


def _caption(data: RunData, failed: Sequence[TrialRecord]) -> str:
    wasted_s = sum(trial.gpu_seconds for trial in failed)
    total_s = sum(trial.gpu_seconds for trial in data.trials)
    share = f" They took {100 * wasted_s / total_s:.0f} % of the GPU time." if total_s else ""
    kind, most = Counter(_kind(trial) for trial in failed).most_common(1)[0]
    lost = sum(trial.state is TrialState.FAILED for trial in failed)
    infeasible = sum(trial.state is TrialState.INFEASIBLE for trial in failed)
    parts = []
    if lost:
        parts.append(f"{lost} of them failed")
    if infeasible:
        parts.append(f"{infeasible} showed that a configuration cannot run here")
    words = f" ({', '.join(parts)})" if parts else ""
    return (
        f"{count(len(failed), 'attempt')} of {len(data.trials):,} ended in a failure{words}; most "
        f"often {_words(kind)}, {count(most, 'time')}.{share}"
    )
