"""The shipped fit on published rows: its intervals, its verdicts on memory, and foreign tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.perfmodel_fit import ENGINES, SOURCES, FitRow
from benchmarks.perfmodel_rows import Measured, doubtful, impossible, measured
from benchmarks.perfmodel_scores import METRICS, Errors
from benchmarks.perfmodel_text import Entry
from runtimes.plan import EngineConfig
from search.perfmodel.answer import Interval
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration
from search.perfmodel.row_answers import RowAnswer, answer_rows
from search.perfmodel.row_question import RowQuestion
from search.perfmodel.rows import read_row
from search.perfmodel.shortage import shortage_of

Row = Mapping[str, str]
_COLUMNS = dict(zip(METRICS, ("ttft_ms", "tpot_ms", "output_tok_s"), strict=True))
"""Attributes of `Measured` and of `RowAnswer` by metric."""


def shipped_coverage(rows: Sequence[FitRow]) -> list[Entry]:
    """Share of rows within the intervals that `predict` states; its fit has seen them."""
    answers = predict([row.question for row in rows])
    found: dict[tuple[str, str], list[bool]] = {}
    for row, said in zip(rows, answers, strict=True):
        stated = (said.ttft_interval_ms, said.tpot_interval_ms, said.throughput_interval)
        for metric, interval in zip(METRICS, stated, strict=True):
            value = getattr(row.measured, _COLUMNS[metric])
            if value is not None:
                for engine in ("all", row.engine):
                    found.setdefault((engine, metric), []).append(_holds(interval, value))
    return [
        {"engine": engine, "metric": metric, "n": len(held), "share": sum(held) / len(held)}
        for engine in ("all", *ENGINES)
        for metric in METRICS
        if (held := found.get((engine, metric)))
    ]


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def unfitting(rows: Iterable[Row]) -> Entry:
    """Rows that ran although the model says that they cannot, by either of its rules.

    `misfits` are what predictions say; `infeasible` is what keeps a search from a configuration.
    """
    asked = [found for found in map(read_row, rows) if isinstance(found, RowQuestion)]
    answers = answer_rows(asked)
    misfits = sum(isinstance(each, RowAnswer) and not each.fits for each in answers)
    infeasible = sum(
        _infeasible(configuration, row)
        for row in asked
        for configuration in (row.question.configuration, row.prefill)
        if configuration is not None
    )
    return {"rows": len(asked), "misfits": misfits, "infeasible": infeasible}


def _infeasible(configuration: Configuration, row: RowQuestion) -> bool:
    load = row.question.load
    longest = int(load.input_tokens + load.output_tokens)
    config = EngineConfig(configuration.engine, configuration.model.name)
    return shortage_of(config, configuration, longest) is not None


def other_sources(rows: Iterable[Row]) -> list[Entry]:
    """Errors of the shipped fit on rows that nothing was ever fitted to.

    Those of other sources, and of the same ones the runs that draft tokens or mean something else
    than they say. Rows that no machine can have measured are counted only.
    """
    by_table: dict[tuple[str, str, str], list[tuple[Measured, RowAnswer]]] = {}
    left_out: dict[tuple[str, str, str], int] = {}
    kept = [(row, found) for row in rows if isinstance(found := read_row(row), RowQuestion)]
    answers = answer_rows([found for _, found in kept])
    for (row, asked), answer in zip(kept, answers, strict=True):
        words = _unfitted(row, asked)
        if words is None or not isinstance(answer, RowAnswer):
            continue
        engine = _first_word(row["engine"]) or asked.question.configuration.engine
        table = (row["source"], engine, words)
        if impossible(row, asked):
            left_out[table] = left_out.get(table, 0) + 1
        else:
            by_table.setdefault(table, []).append((measured(row, asked), answer))
    return [
        _of_table(table, by_table.get(table, []), left_out.get(table, 0))
        for table in sorted({*by_table, *left_out})
    ]


def _unfitted(row: Row, asked: RowQuestion) -> str | None:
    """What kind of row it is; None for those that may be fitted to."""
    if row["source"] not in SOURCES:
        return asked.kind.value
    if asked.question.configuration.speculation is not None:
        return f"{asked.kind.value}, drafting"
    return "doubtful" if doubtful(row) else None


def _first_word(engine: str) -> str:
    """The name alone, where versions or a front end stand beside it."""
    return re.split(r"[\s;+]", engine)[0]


def _of_table(
    table: tuple[str, str, str], pairs: Sequence[tuple[Measured, RowAnswer]], left_out: int
) -> Entry:
    entry: Entry = dict(zip(("source", "engine", "kind"), table, strict=True))
    for metric, name in _COLUMNS.items():
        figures = [(getattr(answer, name), getattr(figure, name)) for figure, answer in pairs]
        array = np.array(figures, dtype=np.float64).reshape(-1, 2)
        entry[metric] = asdict(Errors.of(array[:, 0], array[:, 1]))
    return {**entry, "n": len(pairs), "impossible": left_out}
