"""The report of a run: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tracking import report_view as view
from tracking.files import write_atomically
from tracking.gain import CONFIDENCE
from tracking.report_cross_checks import SHOWN, cross_checks
from tracking.report_failures import failure_groups
from tracking.report_front import choices_view, rivals
from tracking.report_latencies import STATISTICS, latencies_view
from tracking.report_plots import plot_views
from tracking.report_predictions import SHOWN as PREDICTED
from tracking.report_predictions import predictions_view
from tracking.report_script import scripts
from tracking.report_stages import stages_view
from tracking.report_table import left_out
from tracking.report_use import engine_use, gpu_use
from tracking.run_data import RunData
from tracking.summary import Summary, summarise_run
from tracking.words import (
    count,
    duration,
    instant,
    objective_unit,
    objective_value,
    objective_words,
    trial_list,
)


def write_report(data: RunData, path: Path) -> None:
    """Write the report of `data` to `path`, complete or not at all.

    Raises:
        OSError: the disk refused.
    """
    write_atomically(path, render_report(data).encode(errors="replace"))


def render_report(data: RunData) -> str:
    """The report as HTML. Texts of a run (logs, parameters, names) are escaped, never markup."""
    summary = summarise_run(data)
    plots = plot_views(data)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            goal_names=[goal.name for goal in data.goals],
            summary=summary,
            scripts=scripts(),
            policy=scripts().policy(shaders=any(plot.shaders for plot in plots)),
            plots=plots,
            drawn=any(plot.payload for plot in plots),
            headline=view.headline(data, summary),
            tiles=view.tiles(data, summary),
            choices=choices_view(data),
            rivals=rivals(data),
            confidence=CONFIDENCE,
            failures=failure_groups(data.trials),
            run_time=view.run_time(summary),
            gpu_time=view.gpu_time(summary),
            excluded=sorted(data.excluded.items(), key=lambda item: (-item[1], item[0])),
            **_trials(data, summary),
            **_measured(data),
            **_origins(data),
        )
    )


def _trials(data: RunData, summary: Summary) -> Mapping[str, object]:
    """The table of trials, and what its filters choose from."""
    rows = view.trial_rows(data, summary)
    total = sum(summary.counts.values())
    return {
        "rows": rows,
        "total_rows": total,
        "rows_left_out": left_out(total, len(rows), "the folder trials/ of the run"),
        "states": sorted({row.state for row in rows}),
        "engines": sorted({row.engine for row in rows}),
    }


def _measured(data: RunData) -> Mapping[str, object]:
    """What was measured beside the trials' own figures."""
    ordered = view.ordered_trials(data)
    return {
        "stages": stages_view(data),
        "latencies": latencies_view(data),
        "latency_statistics": STATISTICS,
        "cross_checks": cross_checks(data.stages),
        "cross_check_metrics": SHOWN,
        "predictions": predictions_view(data),
        "predicted_figures": PREDICTED.values(),
        "engine_use": engine_use(data, ordered),
        "gpu_use": gpu_use(data, ordered),
    }


def _origins(data: RunData) -> Mapping[str, object]:
    """What the results were made with."""
    return {
        "provenance": view.provenance(data),
        "engine_config": view.engine_config(data),
        "experiment": view.experiment_yaml(data.experiment),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tracking"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Callable[..., str]] = {
        "count": count,
        "duration": duration,
        "instant": instant,
        "objective_unit": objective_unit,
        "objective_value": lambda value, name: objective_value(name, value),
        "objective_words": objective_words,
        "trial_list": trial_list,
    }
    environment.filters.update(filters)
    return environment
