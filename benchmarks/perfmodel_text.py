"""The accuracy of the performance model as text, at most 120 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

Entry = dict[str, Any]
Document = dict[str, Any]
Column = tuple[str, int, Callable[[Entry], str]]
"""Heading, width (negative for text, which stands on the left), and the cell of an entry."""

_MODELS = {
    "pairs": "held-out pairs",
    "groups": "held-out groups",
    "roofline": "ideal roofline",
    "constant": "constant shares",
}
_STATISTICS = {"median": "med", "mean": "mean", "p90": "p90"}


def text_of(document: Document) -> str:
    """All sections of `document`, as `perfmodel_accuracy.measure` makes it."""
    data, fits = document["data"], document["fits"]
    thin = " (a part of each group: --quick)" if data["quick"] else ""
    return "\n".join([
        f"{data['rows']} published rows; {data['fitted_to']} of three sources may be fitted to, "
        f"{data['scored']} are scored{thin}",
        f"sha256 of these: {data['sha256']}",
        *_titled("Absolute relative errors, %", _errors(document["errors"])),
        *_titled("Goals: median errors on held-out pairs of model and accelerator, %",
                 _table(document["goals"], _GOAL_COLUMNS)),
        *_titled("Choosing by output throughput per GPU: what is lost by trying the predicted best "
                 "one or five, %;\nrank correlations inside groups. Medians over groups; "
                 "large: groups of ten and more",
                 _table(document["choices"], _CHOICE_COLUMNS)),
        *_titled("Held-out rows within intervals of nine in ten, from other pairs, %",
                 _table(document["coverage"], _COVERAGE_COLUMNS)),
        *_titled("The same of what the shipped fit states of rows that it has seen, %",
                 _table(document["coverage_of_shipped"], _COVERAGE_COLUMNS[:4])),
        *_titled("What a search counts on",
                 _table(document["verdicts"], _VERDICT_COLUMNS)),
        *_titled("Of all rows that have a question, which all ran", [
            f"{fits['rows']} rows: {fits['misfits']} said not to fit, "
            f"{fits['infeasible']} called infeasible"]),
        *_titled("Never fitted to: median errors of the shipped fit, %",
                 _table(document["others"], _OTHER_COLUMNS)),
    ])  # fmt: skip


def _titled(title: str, lines: Iterable[str]) -> list[str]:
    return ["", title, "-" * max(map(len, title.splitlines())), *lines]


def _errors(entries: Sequence[Entry]) -> list[str]:
    """One block for each source and engine; the models side by side."""
    lines = []
    left = " " * 35
    for (source, engine), block in groupby(entries, key=lambda each: _names(each)):
        lines += ["", f"{source}, {engine}"]
        lines.append(left + "".join(f" |{name:^19}" for name in _MODELS.values()))
        short = "".join(f"{each:>6}" for each in _STATISTICS.values())
        head = f"{'accelerator':<14}{'metric':<13}{'n':>7} "
        lines.append(head + "".join(f" |{short} " for _ in _MODELS))
        for entry in block:
            cells = [
                "".join(f"{_number(entry[model][name]):>6}" for name in _STATISTICS)
                for model in _MODELS
            ]
            row = f"{entry['accelerator']:<14}{entry['metric']:<13}{entry['n']:>7} "
            lines.append(row + "".join(f" |{each} " for each in cells))
    return lines[1:]


def _names(entry: Entry) -> tuple[str, str]:
    return entry["source"], entry["engine"]


def _number(share: float | None) -> str:
    """A share in per cent, with a decimal where that says something."""
    if share is None:
        return "-"
    value = 100 * share
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}" if value < 1e5 else ">1e5"


def _table(entries: Sequence[Entry], columns: Sequence[Column]) -> list[str]:
    lines = ["  ".join(_cell(heading, width) for heading, width, _ in columns).rstrip()]
    for entry in entries:
        cells = (_cell(cell(entry), width) for _, width, cell in columns)
        lines.append("  ".join(cells).rstrip())
    return lines


def _cell(text: str, width: int) -> str:
    return f"{text:<{-width}}" if width < 0 else f"{text:>{width}}"


def _text(key: str) -> Callable[[Entry], str]:
    return lambda entry: str(entry[key])


def _percent(key: str, part: str | None = None) -> Callable[[Entry], str]:
    return lambda entry: _number(entry[key] if part is None else entry[key][part])


def _plain(key: str) -> Callable[[Entry], str]:
    return lambda entry: "-" if entry[key] is None else f"{entry[key]:.3f}"


def _met(entry: Entry) -> str:
    return "-" if entry["met"] is None else "hit" if entry["met"] else "missed"


_GOAL_COLUMNS: Sequence[Column] = (
    ("engine", -13, _text("engine")),
    ("kind", -14, _text("kind")),
    ("metric", -11, _text("metric")),
    ("rows", 6, _text("n")),
    ("pairs", 6, _text("pairs")),
    ("median", 7, _percent("median")),
    ("goal", 6, _percent("goal")),
    ("", -6, _met),
)
_CHOICE_COLUMNS: Sequence[Column] = (
    ("what varies", -23, _text("varied")),
    ("model", -15, lambda entry: _MODELS[entry["model"]]),
    ("groups", 6, _text("groups")),
    ("best", 6, _percent("regret")),
    ("p90", 6, _percent("regret p90")),
    ("five", 6, _percent("regret of top")),
    ("large", 6, _text("large groups")),
    ("five", 6, _percent("regret of top, large")),
    ("p90", 6, _percent("regret of top, large, p90")),
    ("rank tput", 9, _plain("rank throughput")),
    ("rank TPOT", 9, _plain("rank tpot")),
)
_COVERAGE_COLUMNS: Sequence[Column] = (
    ("engine", -13, _text("engine")),
    ("metric", -11, _text("metric")),
    ("rows", 6, _text("n")),
    ("within", 7, _percent("share")),
    ("groups alike", 13, _percent("share, groups alike")),
    ("", -6, _met),
)
_VERDICT_COLUMNS: Sequence[Column] = (
    ("what", -60, _text("what")),
    ("value", 8, _plain("value")),
    ("goal", -16, _text("goal")),
    ("", -6, _met),
)
_OTHER_COLUMNS: Sequence[Column] = (
    ("source", -28, _text("source")),
    ("engine", -16, _text("engine")),
    ("kind", -28, _text("kind")),
    ("rows", 5, _text("n")),
    ("TTFT", 7, _percent("ttft", "median")),
    ("TPOT", 7, _percent("tpot", "median")),
    ("tput", 7, _percent("throughput", "median")),
    ("excluded", 8, _text("impossible")),
)
