"""The report of a run: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tracking import report_view as view
from tracking.files import write_atomically
from tracking.gantt import gantt
from tracking.report_cross_checks import SHOWN, cross_checks
from tracking.report_latencies import STATISTICS, latencies_view
from tracking.report_predictions import SHOWN as PREDICTED
from tracking.report_predictions import predictions_view
from tracking.report_stages import stages_view
from tracking.run_data import RunData
from tracking.scatter import engines, points, scatter
from tracking.summary import summarise_run
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
    predictions = predictions_view(data)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            summary=summary,
            headline=view.headline(data, summary),
            tiles=view.tiles(data, summary),
            rows=view.trial_rows(data, summary),
            stages=stages_view(data),
            latencies=latencies_view(data),
            latency_statistics=STATISTICS,
            cross_checks=cross_checks(data.stages),
            cross_check_metrics=SHOWN,
            predictions=predictions,
            predicted_figures=PREDICTED.values(),
            prediction_drawing=Markup(predictions.drawing if predictions else ""),
            failures=view.failure_groups(data.trials),
            provenance=view.provenance(data),
            engine_config=view.engine_config(data),
            experiment=view.experiment_yaml(data.experiment),
            gpu_time=view.gpu_time(summary),
            run_time=view.run_time(summary),
            excluded=sorted(data.excluded.items(), key=lambda item: (-item[1], item[0])),
            engines=engines(points(data)),
            scatter=Markup(scatter(data)),
            gantt=Markup(gantt(data)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tracking"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count,
        duration=duration,
        instant=instant,
        objective_unit=objective_unit,
        objective_value=lambda value, name: objective_value(name, value),
        objective_words=objective_words,
        trial_list=trial_list,
    )
    return environment
