"""Which parameters decide whether a trial is among the best."""

from __future__ import annotations

from search.analysis.importance import Importance, Importances, importances
from tracking.plots._style import COLOURS, GREY, axis, figure, name_axis
from tracking.plots._trials import settings, varying_names
from tracking.plots.base import PLOTS, Drawn, Plot, Table
from tracking.run_data import RunData
from tracking.words import count, objective_words

_SHOWN = 20


@PLOTS.register("importance")
class ImportancePlot(Plot):
    """A bar a parameter: its share of what tells the best trials from the rest."""

    name = "importance"
    title = "Which parameters matter"
    position = 30

    def draw(self, data: RunData) -> Drawn | None:
        own = settings(data)
        ranked = [own[trial.number] for trial in data.ranked() if trial.number in own]
        names = varying_names(own)
        found = importances([{name: one[name] for name in names if name in one} for one in ranked])
        if found is None:
            return None
        columns = ("parameter", "importance_ratio", "by_chance_ratio", "above_chance", "trials")
        rows = tuple(
            (one.name, one.share, one.by_chance, one.shown, found.trials)
            for one in found.parameters
        )
        return Drawn(
            _caption(data, found), Table(columns, rows), _figure(found.parameters[:_SHOWN])
        )


def _figure(shown: tuple[Importance, ...]) -> dict[str, object]:
    rows = list(range(len(shown)))
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "importance",
        "x": [100 * one.share for one in shown],
        "y": rows,
        "marker": {
            "color": [COLOURS[0] if one.shown else GREY for one in shown],
            "opacity": [1.0 if one.shown else 0.45 for one in shown],
        },
        "text": [f"{100 * one.share:.0f} %" for one in shown],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{x:.1f} %<extra></extra>",
    }
    chance = {
        "type": "scatter",
        "mode": "markers",
        "name": "what chance makes of it, 19 times of 20",
        "x": [100 * one.by_chance for one in shown],
        "y": rows,
        "marker": {
            "symbol": "line-ns-open", "size": 18, "color": GREY,
            "line": {"width": 2.5, "color": GREY},
        },
        "hovertemplate": "chance: up to %{x:.1f} %<extra></extra>",
    }  # fmt: skip
    return figure(
        [bars, chance],
        height=140 + 30 * len(shown),
        xaxis=axis("share of what is explained (%)", rangemode="tozero"),
        yaxis=name_axis([one.name for one in shown]),
        bargap=0.35,
    )


def _caption(data: RunData, found: Importances) -> str:
    words = objective_words(data.goals[0].name)
    shown = [one for one in found.parameters if one.shown]
    basis = (
        f"What tells the best {found.best} of {count(found.trials, 'measured trial')} from the "
        f"rest, by {words} and the limits (PED-ANOVA)."
    )
    if not shown:
        return f"{basis} So few trials single out no parameter beyond what chance would."
    names = ", ".join(one.name for one in shown[:3])
    verb = "matters" if len(shown) == 1 else "matter"
    rest = "; the pale bars are within chance." if len(shown) < len(found.parameters) else "."
    return f"{basis} Most of all {names} {verb}{rest}"
