"""What `servetune bench` shows at its end: figures of the server, and how far to trust them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from orchestrator.bench import bench_measurement
from orchestrator.cli.console import Stdout
from runtimes.measurement import Distribution, Interval, Measurement
from tracking.records import StageRecord, TrialRecord
from tracking.report_cross_checks import CrossCheckView, cross_checks
from tracking.report_stages import slo_rate_words
from tracking.run_data import RunData
from tracking.words import duration, figure, flag_words

_LATENCIES = ("ttft", "tpot", "itl", "e2e")
_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


def print_bench(data: RunData, folder: Path) -> None:
    """Print the result of a bench to stdout."""
    console = Stdout()
    trials = data.last_attempts()
    trial = trials[-1] if trials else None
    measured = bench_measurement(data)
    if len(data.stages) > 1:
        deciding = None if trial is None else trial.deciding_stage
        console.print(_stages(data.stages, lambda one: "→" if one.stage == deciding else ""))
    if trial is not None and measured is not None:
        _print_figures(console, measured, trial.gpus)
        _print_slo_rate(console, data, trial)
        for check in cross_checks(data.stages):
            _print_cross_check(console, check)
        _print_trust(console, trial, measured)
    if trial is None or trial.measurement is None:
        _print_failure(console, trial, "Nothing was measured" if measured is None else "Incomplete")
    console.print(f"record   {escape(str(folder))}")


def print_stages(data: RunData, folder: Path) -> None:
    """Print a row a stage of every trial, and where the record is."""
    console = Stdout()
    tools = {trial.number: str(trial.params.get("tool", "")) for trial in data.trials}
    console.print(_stages(data.stages, lambda stage: escape(tools[stage.number])))
    console.print(f"\nrecord   {escape(str(folder))}")


def _print_failure(console: Stdout, trial: TrialRecord | None, words: str) -> None:
    failure = trial.failure if trial is not None else None
    if failure is None:
        reason = trial.reason if trial is not None else "it was stopped before it began"
        console.print(f"[red]{words}:[/] {escape(reason)}")
        return
    console.print(f"[red]{words}:[/] {failure.kind.value}: {escape(failure.message)}")
    if failure.remedy:
        console.print(f"remedy: {escape(failure.remedy)}")


def _stages(stages: Sequence[StageRecord], mark: Callable[[StageRecord], str]) -> Table:
    """A row a stage, with its mark before it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "",
        "load",
        "requests/s",
        "output tokens/s",
        "good/s",
        "TTFT p99 ms",
        "TPOT p99 ms",
    ):
        table.add_column(column, justify="left" if column in ("", "load") else "right")
    table.add_column("")
    for stage in stages:
        measured = stage.measurement
        table.add_row(
            mark(stage),
            f"{stage.load} {stage.load_value:.4g}",
            figure(measured.request_throughput),
            figure(measured.output_throughput),
            figure(measured.goodput),
            _ms(measured.ttft_ms, "p99"),
            _ms(measured.tpot_ms, "p99"),
            _verdict(measured),
        )
    return table


def _verdict(measured: Measurement) -> str:
    words = []
    if measured.slo:
        words.append("[green]SLO met[/]" if measured.slo_met else "[red]SLO broken[/]")
    if measured.stopped_by:
        words.append(f"stopped: {escape(measured.stopped_by)}")
    if measured.flags:
        words.append(f"[yellow]{escape(', '.join(measured.flags))}[/]")
    return ", ".join(words)


def _print_figures(console: Stdout, measured: Measurement, gpus: int) -> None:
    failed = f", [red]{measured.requests_failed} failed[/]" if measured.requests_failed else ""
    console.print(
        f"\n{measured.requests_completed} requests completed{failed} "
        f"in {duration(measured.duration_s)}{_window(measured)}\n"
    )
    rates = Table(box=None, pad_edge=False, show_header=False)
    rates.add_column()
    rates.add_column(justify="right")
    rates.add_column()
    rates.add_column(style="dim")
    for words, name, unit in (
        ("requests", "request_throughput", "requests/s"),
        ("input tokens", "input_throughput", "tokens/s"),
        ("output tokens", "output_throughput", "tokens/s"),
        ("all tokens", "total_throughput", "tokens/s"),
        ("good requests", "goodput", "requests/s"),
    ):
        value: float = getattr(measured, name)
        per_gpu = f"{figure(value / gpus)} per GPU" if gpus > 1 else ""
        interval = _between(measured.intervals.get(name))
        rates.add_row(words, figure(value), unit, f"{interval}  {per_gpu}".strip())
    console.print(rates)
    latencies = Table(box=None, pad_edge=False, header_style="bold")
    latencies.add_column("ms")
    for statistic in _STATISTICS:
        latencies.add_column(statistic, justify="right")
    for latency in _LATENCIES:
        values: Distribution | None = getattr(measured, f"{latency}_ms")
        latencies.add_row(latency.upper(), *(_ms(values, name) for name in _STATISTICS))
    console.print()
    console.print(latencies)
    for verdict in measured.slo:
        mark = "[green]met[/]" if verdict.met else "[red]broken[/]"
        console.print(f"{verdict.limit!s}: {figure(verdict.value_ms)} ms {mark}")


def _print_slo_rate(console: Stdout, data: RunData, trial: TrialRecord) -> None:
    words = slo_rate_words(data, trial)
    if words:
        console.print(f"[bold]highest rate under the SLO: {escape(words)}[/]")


def _print_cross_check(console: Stdout, check: CrossCheckView) -> None:
    console.print(f"\n[bold]cross-check[/] by {escape(check.note)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in ("own client", "the other"):
        table.add_column(column, justify="right")
    for row in check.rows:
        table.add_row(*row)
    if check.rows:
        console.print(table)


def _print_trust(console: Stdout, trial: TrialRecord, measured: Measurement) -> None:
    health = measured.client
    console.print()
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
    for flag in trial.flags:
        reasons = measured.client_limits if flag == "client_limited" else ()
        why = f": {'; '.join(reasons)}" if reasons else ""
        console.print(f"[yellow]flagged[/]  {flag}: {escape(flag_words(flag) + why)}")


def _window(measured: Measurement) -> str:
    window = measured.window
    if window is None or window.rule == "whole":
        return ""
    return f"; rates are of seconds {window.start_s:.1f} to {window.end_s:.1f}"


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{figure(interval.low)} to {figure(interval.high)}"


def _ms(latency: Distribution | None, statistic: str) -> str:
    return figure(None if latency is None else getattr(latency, statistic))
