"""What `servetune compare` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from orchestrator.cli.console import Stdout, one_line, said
from runtimes.json_types import Json
from search.analysis.differences import Difference, Verdict
from search.objectives.base import OBJECTIVES
from tracking.comparison import Comparison, FigureDifference, Setting
from tracking.words import count, figure, objective_unit, objective_words, parameter

_COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.UNDECIDED: "dim"}
_WORDS = {
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.UNDECIDED: "no difference shown",
}
_SETTINGS = 20
"""Settings listed at most; `--json` has all."""


def print_comparison(made: Comparison) -> None:
    """Print one comparison to stdout."""
    console = Stdout()
    console.print(
        f"\n[bold]{said(one_line(made.second_run))}[/], trial {made.second.number}, against "
        f"[bold]{said(one_line(made.first_run))}[/], trial {made.first.number}"
    )
    for reason in made.refused:
        console.print(f"[red]not comparable[/]  {said(reason)}")
    if made.refused:
        return
    _print_figures(console, "objectives, each under its own load", made.objectives)
    if made.figures:
        loads = ", ".join(made.loads[:6]) + (", …" if len(made.loads) > 6 else "")
        _print_figures(console, f"under the same load ({said(loads)})", made.figures)
    if made.configurations:
        pairs = count(len(made.configuration_pairs), "configuration")
        title = f"over {pairs} that both runs measured, run against run"
        _print_figures(console, title, made.configurations)
    _print_settings(console, "the configurations differ in", made.parameters)
    _print_settings(console, "the engine's defaults changed", made.defaults)
    for note in made.notes:
        console.print(f"[yellow]note[/]     {said(note)}")


def _print_figures(console: Stdout, title: str, figures: Sequence[FigureDifference]) -> None:
    if not figures:
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("figure")
    for heading in ("first", "second", "difference", "interval (99 %)"):
        table.add_column(heading, justify="right")
    table.add_column("second is")
    for each in figures:
        verdict = each.difference.verdict
        words = _verdict(each.difference) or "not judged"
        unit = objective_unit(each.name)
        table.add_row(
            said(f"{objective_words(each.name)}{f' ({unit})' if unit else ''}"),
            figure(each.first),
            figure(each.second),
            f"{each.difference.relative:+.1%}",
            interval_words(each.difference),
            f"[{_COLOURS[verdict]}]{words}[/]",
        )
    console.print()
    console.print(table)


def _verdict(difference: Difference) -> str | None:
    """`better`, `worse` or `no difference shown`; None where no interval is known."""
    return None if difference.low is None else _WORDS[difference.verdict]


def interval_words(difference: Difference) -> str:
    """`-1.2% to +3.4%`; says where no interval is known."""
    if difference.low is None or difference.high is None:
        return "not known"
    return f"{difference.low:+.1%} to {difference.high:+.1%}"


def _print_settings(console: Stdout, title: str, settings: Sequence[Setting]) -> None:
    if not settings:
        return
    console.print(f"\n[bold]{title}[/]")
    for setting in settings[:_SETTINGS]:
        first, second = (_shown(value) for value in (setting.first, setting.second))
        console.print(f"  {said(setting.name)}: {said(first)} → {said(second)}")
    if len(settings) > _SETTINGS:
        console.print(f"  and {len(settings) - _SETTINGS} more; --json lists them")


def _shown(value: Json) -> str:
    return "not set" if value is None else parameter(value)


def comparison_document(made: Comparison) -> dict[str, Json]:
    """A comparison as JSON."""
    return {
        "first": {"run": made.first_run, "trial": made.first.number},
        "second": {"run": made.second_run, "trial": made.second.number},
        "refused": [*made.refused],
        "objectives": _figures(made.objectives),
        "loads": [*made.loads],
        "figures": _figures(made.figures),
        "configuration_pairs": [[one, other] for one, other in made.configuration_pairs],
        "configurations": _figures(made.configurations),
        "parameters": _settings(made.parameters),
        "defaults": _settings(made.defaults),
        "notes": [*made.notes],
    }


def _figures(figures: Iterable[FigureDifference]) -> Json:
    return [
        {
            "name": each.name,
            "unit": OBJECTIVES.get(each.name).unit,
            "first": each.first,
            "second": each.second,
            "pairs": each.pairs,
            "relative": each.difference.relative,
            "low": each.difference.low,
            "high": each.difference.high,
            "verdict": _verdict(each.difference),
        }
        for each in figures
    ]


def _settings(settings: Iterable[Setting]) -> Json:
    return [{"name": each.name, "first": each.first, "second": each.second} for each in settings]
