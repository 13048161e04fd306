"""The last screen: the best command so far, what it gains, what is flagged, how to go on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console

from orchestrator.cli import words
from orchestrator.cli.console import Stdout, one_line, said
from orchestrator.cli.next_steps import next_steps
from orchestrator.cli.stage_table import stage_table
from search.trial import TrialState
from tracking.layout import RunLayout
from tracking.records import ACCURACY_UNVERIFIED
from tracking.report_failures import failure_causes
from tracking.report_stages import shown_trial, slo_rate_words, stages_of
from tracking.run_data import RunData
from tracking.summary import BestTrial, Summary, summarise_run
from tracking.words import count, figure, objective_value, objective_words, trial_list

_REASONS = 5
"""Reasons shown at most where nothing was measured; the report has all."""
_CAUSES = 5
"""Causes of failures shown at most: what stands above them must not scroll away."""


def print_summary(data: RunData, layout: RunLayout, *, report: Path | None = None) -> None:
    """Print the summary of a run to stdout."""
    console = Stdout()
    summary = summarise_run(data)
    counts = words.states(summary.counts, data.unread_trials)
    console.print(f"\n[bold]{said(one_line(summary.run))}[/]: {counts or 'no trial yet'}")
    if data.ended:
        console.print(f"ended: {said(data.ended)}")
    if summary.best is None:
        _print_nothing(console, data, summary)
    else:
        _print_best(console, data, summary, summary.best)
    if summary.lossless is not None:
        _print_lossless(console, summary.lossless)
    _print_why(console, summary)
    _print_notes(console, summary)
    _print_failures(console, data)
    _print_use(console, summary)
    console.print(f"record   {said(str(layout.root))}")
    if report is not None:
        console.print(f"report   {said(str(report))}")
    _print_next(console, data, layout)


def print_standing(console: Console, data: RunData, layout: RunLayout) -> None:
    """The best so far with its command, what it gains, why others lost, how to go on."""
    if not data.trials and not data.unread_trials:
        _print_next(console, data, layout)
        return
    summary = summarise_run(data)
    best = summary.best
    if best is not None:
        simulated = " on a simulated engine" if best.simulated else ""
        gained = summary.gain is not None and summary.gain.comparable
        gain = f", {summary.gain.words}" if summary.gain is not None and gained else ""
        console.print(f"\nbest so far{simulated}: trial {best.trial}{said(gain)}")
        if best.command:
            console.print(said(best.command))
        console.print()
    _print_why(console, summary)
    _print_notes(console, summary)
    _print_next(console, data, layout)


def _print_nothing(console: Console, data: RunData, summary: Summary) -> None:
    """Why there is no best trial: failures are listed anyway, so other reasons stand here."""
    why = " The failures below say why." if summary.failures else ""
    trial = shown_trial(data)
    stages = stages_of(data, trial) if trial is not None else []
    measured = any(stage.measurement.requests_completed for stage in stages)
    found = "No trial completed." if measured else "Nothing was measured."
    if data.unread_trials:
        found = "No trial that can be read completed."
    console.print(f"[red]{found}[/]{why}")
    reasons = Counter({("excluded", reason): times for reason, times in data.excluded.items()})
    reasons.update(
        ("excluded" if trial.state is TrialState.INFEASIBLE else trial.state.value, trial.reason)
        for trial in data.last_attempts()
        if trial.reason and trial.failure is None
    )
    for (state, reason), times in reasons.most_common(_REASONS):
        console.print(f"[red]{state}[/] {times} ×  {said(reason)}")
    if trial is not None and measured:
        console.print(f"\nmeasured of trial {trial.number}, stage by stage:")
        console.print(stage_table(stages, lambda stage: str(stage.stage)))
        console.print()


def _print_best(console: Console, data: RunData, summary: Summary, best: BestTrial) -> None:
    gain = ""
    if summary.gain is not None and summary.gain.comparable:
        gain = f", {said(summary.gain.words)}"
    elif best.baseline:
        gain = ", which are the engine's own defaults"
    simulated = " [yellow]on a simulated engine[/]" if best.simulated else ""
    doubtful = ACCURACY_UNVERIFIED in best.flags
    accuracy = ", [yellow]accuracy unverified[/]" if doubtful else ""
    console.print(
        f"\nbest{simulated}: trial {best.trial}, {count(best.gpus, 'GPU')}{gain}{accuracy}"
    )
    for name, value in best.objectives.items():
        console.print(f"  {said(objective_words(name)):<32} {objective_value(name, value)}")
    for verdict in best.slo:
        shown = "unmeasured" if verdict.value_ms is None else f"{figure(verdict.value_ms)} ms"
        mark = "[green]met[/]" if verdict.met else "[red]broken[/]"
        console.print(f"  {verdict.limit!s:<32} {shown} {mark}")
    trial = data.best()
    if trial is not None and (highest := slo_rate_words(data, trial)):
        console.print(f"  {'highest rate under the SLO':<32} {said(highest)}")
    if best.command:
        console.print(f"\n[bold]{said(best.command)}[/]\n")
    else:
        console.print("\nIt was measured as it runs, so there is no command to deploy.\n")


def _print_lossless(console: Console, lossless: BestTrial) -> None:
    """The best trial whose precision costs no accuracy, beside a best one that may."""
    gpus = count(lossless.gpus, "GPU")
    console.print(f"best without loss of accuracy: trial {lossless.trial}, {gpus}")
    for name, value in lossless.objectives.items():
        console.print(f"  {said(objective_words(name)):<32} {objective_value(name, value)}")
    console.print(f"\n[bold]{said(lossless.command)}[/]\n")


def _print_why(console: Console, summary: Summary) -> None:
    for lost in summary.why:
        console.print(f"why      {said(lost.words)}")


def _print_next(console: Console, data: RunData, layout: RunLayout) -> None:
    for index, (why, step) in enumerate(next_steps(data, layout)):
        comment = f"  [dim]# {said(why)}[/]" if why else ""
        console.print(f"{'' if index else 'go on':<9}{said(step)}{comment}")


def _print_notes(console: Console, summary: Summary) -> None:
    for caveat in summary.caveats:
        console.print(f"[yellow]note[/]     {said(caveat)}")
    for flagged in summary.flagged:
        console.print(
            f"[yellow]flagged[/]  {said(f'{flagged.flag}: {flagged.words}')} "
            f"({trial_list(flagged.trials)})",
        )


def _print_failures(console: Console, data: RunData) -> None:
    causes = failure_causes(data.trials)
    for cause in causes[:_CAUSES]:
        console.print(
            f"[red]failed[/]   {trial_list(cause.trials)}: {cause.kind.value}: "
            f"{said(cause.message)}",
        )
        if cause.remedy:
            console.print(f"         remedy: {said(cause.remedy)}")
    if more := causes[_CAUSES:]:
        trials = len({number for cause in more for number in cause.trials})
        console.print(
            f"         and {count(len(more), 'other cause')}, of {count(trials, 'trial')}: "
            "the report lists every failure"
        )


def _print_use(console: Console, summary: Summary) -> None:
    if not summary.capacity_gpus and not summary.busy_gpu_seconds:
        return
    busy, idle = summary.busy_gpu_seconds, summary.idle_gpu_seconds
    share = busy / (busy + idle) if busy + idle else 0.0
    console.print(
        f"GPUs     {summary.capacity_gpus} held; {figure(busy)} GPU-seconds busy, "
        f"{figure(idle)} idle ({share:.0%} busy)"
    )
