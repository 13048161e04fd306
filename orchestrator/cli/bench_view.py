"""What `servetune bench` shows at its end: figures of the server, and how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from orchestrator.cli.console import Stdout, said
from orchestrator.cli.stage_table import stage_table
from runtimes.measurement import Interval, Measurement
from tracking.records import StageRecord, TrialRecord
from tracking.report_cross_checks import CrossCheckView, cross_checks
from tracking.report_latencies import STATISTICS, latency_rows
from tracking.report_stages import (
    hit_rate_words,
    shown_flags,
    shown_stage,
    slo_rate_words,
    stages_of,
)
from tracking.run_data import RunData
from tracking.words import duration, figure, flag_words

_RATES = (
    ("requests", "request_throughput", "requests/s"),
    ("input tokens", "input_throughput", "tokens/s"),
    ("output tokens", "output_throughput", "tokens/s"),
    ("all tokens", "total_throughput", "tokens/s"),
    ("good requests", "goodput", "requests/s"),
)


def print_bench(data: RunData, folder: Path) -> None:
    """Print the result of a bench to stdout."""
    console = Stdout()
    trials = data.last_attempts()
    trial = trials[-1] if trials else None
    stages = stages_of(data, trial) if trial is not None else []
    stage = shown_stage(data, trial) if trial is not None else None
    if len(stages) > 1:
        deciding = None if trial is None else trial.deciding_stage
        console.print(stage_table(stages, lambda one: "→" if one.stage == deciding else ""))
    measured = any(one.measurement.requests_completed for one in stages)
    if trial is not None and stage is not None and measured:
        if stage.measurement.requests_completed:
            _print_figures(console, stage, trial.gpus)
        _print_slo_rate(console, data, trial)
        for check in cross_checks(stages):
            _print_cross_check(console, check)
        _print_trust(console, stage, shown_flags(data, trial))
    if trial is None or trial.measurement is None:
        _print_failure(console, trial, "Incomplete" if measured else "Nothing was measured")
    console.print(f"record   {said(str(folder))}")


def print_stages(data: RunData, folder: Path) -> None:
    """Print a row a stage of every trial, and where the record is."""
    console = Stdout()
    tools = {trial.number: str(trial.params.get("tool", "")) for trial in data.trials}
    console.print(stage_table(data.stages, lambda stage: said(tools[stage.number])))
    console.print(f"\nrecord   {said(str(folder))}")


def _print_failure(console: Stdout, trial: TrialRecord | None, words: str) -> None:
    failure = trial.failure if trial is not None else None
    if failure is None:
        reason = (trial.reason if trial is not None else "") or "it was stopped before it began"
        console.print(f"[red]{words}:[/] {said(reason)}")
        return
    console.print(f"[red]{words}:[/] {failure.kind.value}: {said(failure.message)}")
    if failure.remedy:
        console.print(f"remedy: {said(failure.remedy)}")


def _print_figures(console: Stdout, stage: StageRecord, gpus: int) -> None:
    measured = stage.measurement
    failed = f", [red]{measured.requests_failed} failed[/]" if measured.requests_failed else ""
    console.print(
        f"\n{measured.requests_completed} requests completed{failed} "
        f"in {duration(measured.duration_s)}{_window(measured)}\n"
    )
    console.print(_rates(measured, gpus))
    console.print()
    console.print(_latencies(stage))
    for verdict in measured.slo:
        mark = "[green]met[/]" if verdict.met else "[red]broken[/]"
        console.print(f"{verdict.limit!s}: {figure(verdict.value_ms)} ms {mark}")


def _rates(measured: Measurement, gpus: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    for words, name, unit in _RATES:
        if name == "goodput" and not measured.slo:
            continue  # without limits every request is good
        value: float | None = getattr(measured, name)
        per_gpu = f"{figure(value / gpus)} per GPU" if gpus > 1 and value is not None else ""
        interval = _between(measured.intervals.get(name))
        table.add_row(words, figure(value), unit, f"{interval}  {per_gpu}".strip())
    return table


def _latencies(stage: StageRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms")
    for statistic in STATISTICS:
        table.add_column(statistic, justify="right")
    for row in latency_rows(stage):
        table.add_row(*row)
    return table


def _print_slo_rate(console: Stdout, data: RunData, trial: TrialRecord) -> None:
    words = slo_rate_words(data, trial)
    if words:
        console.print(f"[bold]highest rate under the SLO: {said(words)}[/]")


def _print_cross_check(console: Stdout, check: CrossCheckView) -> None:
    console.print(f"\n[bold]cross-check[/] by {said(check.note)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in ("own client", "the other"):
        table.add_column(column, justify="right")
    for row in check.rows:
        table.add_row(*row)
    if check.rows:
        console.print(table)


def _print_trust(console: Stdout, stage: StageRecord, flags: Sequence[str]) -> None:
    measured, health = stage.measurement, stage.measurement.client
    console.print()
    if hits := hit_rate_words(stage):
        console.print(f"prefix   share of prompt tokens found in the cache: {hits}")
    if health is not None:
        held = "" if health.held_ratio is None else f", {health.held_ratio:.1%} of the load held"
        console.print(
            f"client   {health.cpu_s:.1f} CPU-seconds, loop lag p99 {health.lag_p99_ms:.1f} ms, "
            f"sent late p99 {health.send_lateness_p99_ms:.1f} ms{held}"
        )
    if measured.stopped_by == "prompts":
        console.print(
            "[yellow]note[/]     it ended before its time: every prompt that was made ready had "
            "been sent; --requests N makes N"
        )
    for flag in flags:
        reasons = measured.client_limits if flag == "client_limited" else ()
        why = f": {'; '.join(reasons)}" if reasons else ""
        console.print(f"[yellow]flagged[/]  {said(f'{flag}: {flag_words(flag)}{why}')}")


def _window(measured: Measurement) -> str:
    window = measured.window
    if window is None or window.rule == "whole":
        return ""
    return f"; rates are of seconds {window.start_s:.1f} to {window.end_s:.1f}"


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{figure(interval.low)} to {figure(interval.high)}"
