"""The table of load stages, a row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from orchestrator.cli.console import said
from runtimes.measurement import Distribution, Measurement
from tracking.records import StageRecord
from tracking.report_stages import hit_rate_words, requests_words
from tracking.words import figure


def stage_table(stages: Sequence[StageRecord], mark: Callable[[StageRecord], str]) -> Table:
    """A row a stage, with its mark before it; without columns that none of them has."""
    limited = any(stage.measurement.slo for stage in stages)
    cached = any(map(hit_rate_words, stages))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "",
        "load",
        "requests",
        "requests/s",
        "output tokens/s",
        *(["good/s"] if limited else []),
        "TTFT p99 ms",
        "TPOT p99 ms",
        *(["prefix hits"] if cached else []),
        "",
    ):
        table.add_column(column, justify="left" if column in ("", "load") else "right")
    for stage in stages:
        measured = stage.measurement
        table.add_row(
            mark(stage),
            f"{said(stage.load)} {stage.load_value:.4g}",
            requests_words(measured),
            figure(measured.request_throughput),
            figure(measured.output_throughput),
            *([figure(measured.goodput)] if limited else []),
            _p99(measured.ttft_ms),
            _p99(measured.tpot_ms),
            *([hit_rate_words(stage)] if cached else []),
            _verdict(measured),
        )
    return table


def _verdict(measured: Measurement) -> str:
    words = []
    if measured.slo:
        words.append("[green]SLO met[/]" if measured.slo_met else "[red]SLO broken[/]")
    if measured.stopped_by:
        words.append(f"stopped: {said(measured.stopped_by)}")
    if measured.flags:
        words.append(f"[yellow]{said(', '.join(measured.flags))}[/]")
    return ", ".join(words)


def _p99(latency: Distribution | None) -> str:
    return figure(None if latency is None else latency.p99)
