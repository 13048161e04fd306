"""What a human sees of a run that may still be going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.table import Table

from orchestrator.cli import words
from orchestrator.cli.console import Stdout, one_line, said
from orchestrator.cli.summary_view import print_standing
from runtimes.json_types import Json
from search.goals import Goal
from tracking.layout import RunLayout
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.words import figure, objective_unit, objective_words

_TRIALS = 40
"""Finished trials shown at most, the latest; the report has all."""
_REASON = 120
"""Characters of why a trial has no figures."""
_LATENCIES = {"ttft_p99_ms": "ttft_ms", "tpot_p99_ms": "tpot_ms"}
"""Figures shown beside the objectives, and the measured distribution each is taken from."""


def print_status(
    data: RunData, layout: RunLayout, live: Mapping[str, Json], *, driven: bool
) -> None:
    """Print where the run stands; `live` is what its driver says of itself, if one is at work."""
    console = Stdout()
    standing = "running" if driven else data.ended or "not running; its driver was killed"
    trials = data.last_attempts()
    states = Counter(trial.state.value for trial in trials)
    counts = words.states(states, data.unread_trials)
    console.print(f"[bold]{said(one_line(data.run))}[/]: {said(standing)}")
    console.print(counts or "no trial has finished")
    if len(trials) > _TRIALS:
        console.print(f"the latest {_TRIALS} of {len(trials)} trials:")
    table = _table(data.goals)
    for trial in trials[-_TRIALS:]:
        table.add_row(*_finished(data.goals, trial))
    for number, facts in _running(live).items():
        table.add_row(said(one_line(number)), *_in_progress(data.goals, facts))
    if table.row_count:
        console.print()
        console.print(table)
    for gpu in _withheld(live):
        about = f"{gpu.get('node', '')} {gpu.get('words', '')}"
        console.print(f"[yellow]{words.withheld(gpu.get('why', ''))}[/]: {said(one_line(about))}")
    print_standing(console, data, layout)


def _table(goals: tuple[Goal, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("GPUs", justify="right", no_wrap=True)
    for name in _figures(goals):
        heading = f"{objective_words(name)}\n{objective_unit(name)}".strip()
        table.add_column(said(heading), justify="right", no_wrap=True)
    table.add_column("parameters")
    return table


def _figures(goals: tuple[Goal, ...]) -> list[str]:
    """What the columns of figures show: objectives, and latencies that are none of them."""
    named = [goal.name for goal in goals]
    return [*named, *(name for name in _LATENCIES if name not in named)]


def _finished(goals: tuple[Goal, ...], trial: TrialRecord) -> list[str]:
    measured = trial.measurement
    values: dict[str, float | None] = dict(trial.objectives)
    for name, metric in _LATENCIES.items():
        distribution = getattr(measured, metric, None)
        values.setdefault(name, distribution.p99 if distribution is not None else None)
    reason = trial.failure.message if trial.failure is not None else trial.reason
    about = f"{trial.engine} {words.parameters(trial.params)}"
    return [
        str(trial.number),
        trial.state.value,
        str(trial.gpus),
        *(figure(values.get(name)) for name in _figures(goals)),
        said(one_line(f"{about}: {reason[:_REASON]}" if reason else about)),
    ]


def _withheld(live: Mapping[str, Json]) -> list[dict[str, str]]:
    found = live.get("withheld")
    gpus = found if isinstance(found, list) else []
    return [
        {name: str(value) for name, value in gpu.items()} for gpu in gpus if isinstance(gpu, dict)
    ]


def _running(live: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    running = live.get("running")
    facts = running.items() if isinstance(running, dict) else ()
    return {number: fact for number, fact in facts if isinstance(fact, dict)}


def _in_progress(goals: tuple[Goal, ...], facts: Mapping[str, Json]) -> list[str]:
    progress = f"{facts.get('completed', 0)} of {facts.get('planned', '?')} requests"
    if isinstance(stage := facts.get("stage"), int) and stage:
        progress = f"stage {stage + 1}: {progress}"
    doing = progress if "planned" in facts else str(facts.get("step", ""))
    return [
        said(one_line(str(facts.get("phase", "")))),
        said(one_line(str(facts.get("gpus", "")))),
        *("" for _ in _figures(goals)),
        said(one_line(f"{facts.get('engine', '')}: {doing}")) if doing else "",
    ]
