"""What a search needs of predictions: good choices, the right order, intervals that hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.perfmodel_fit import ENGINES, FitRow
from benchmarks.perfmodel_heldout import MODELS, Scored
from benchmarks.perfmodel_scores import (
    METRICS,
    Floats,
    Mask,
    Names,
    group_weights,
    inside,
    quantile,
    rank_correlation,
    regret,
    spreads,
)
from benchmarks.perfmodel_text import Entry

_FEWEST, _TOP = 4, 5
"""Configurations from which on a group is chosen from; how many of them are tried."""
_LARGE = 10
COVERAGE_GOAL = (0.85, 0.95)


def choices(data: Scored) -> list[Entry]:
    """What a search loses that believes each model, and how well it orders configurations.

    By output throughput per GPU among rows of equal model, accelerator, engine, format, lengths
    and source; and again among those of equal concurrency, where layouts alone differ.
    """
    names = {
        "layout and concurrency": data.named(_choice),
        "layout alone": data.named(lambda row: f"{_choice(row)} {row.row['concurrency_or_max']}"),
    }
    return [
        _choices(data, model, varied, groups)
        for varied, groups in names.items()
        for model in MODELS
    ]


def _choice(row: FitRow) -> str:
    lengths = f"{row.row['isl']} {row.row['osl']}"
    return f"{row.group} {row.question.configuration.model.name} {lengths}"


def _choices(data: Scored, model: str, varied: str, groups: Names) -> Entry:
    said = data.said[model]
    gpus = np.array([row.question.configuration.spread.gpus for row in data.rows])
    predicted, measured = said.throughput / gpus, _rate(data) / gpus
    names, sizes = np.unique(groups, return_counts=True)
    chosen = [groups == name for name, size in zip(names, sizes, strict=True) if size >= _FEWEST]
    large = [some for some in chosen if some.sum() >= _LARGE]

    def losses(among: Sequence[Mask], top: int) -> list[float]:
        return [regret(predicted[some], measured[some], top) for some in among]

    by_rate = [rank_correlation(predicted[some], measured[some]) for some in chosen]
    by_tpot = [rank_correlation(said.tpot[some], data.measured.tpot[some]) for some in chosen]
    return {
        "varied": varied,
        "model": model,
        "groups": len(chosen),
        "regret": quantile(losses(chosen, 1), 0.5),
        "regret p90": quantile(losses(chosen, 1), 0.9),
        "regret of top": quantile(losses(chosen, _TOP), 0.5),
        "large groups": len(large),
        "regret of top, large": quantile(losses(large, _TOP), 0.5),
        "regret of top, large, p90": quantile(losses(large, _TOP), 0.9),
        "rank throughput": quantile(by_rate, 0.5),
        "rank tpot": quantile(by_tpot, 0.5),
    }


def _rate(data: Scored) -> Floats:
    """Measured output tokens per second, or what the latencies of a closed loop come to."""
    loads = [row.question.load for row in data.rows]
    tokens = np.array([each.output_tokens for each in loads])
    at_once = np.array([np.nan if each.concurrency is None else each.concurrency for each in loads])
    measured = data.measured
    implied = at_once * tokens / (measured.ttft + (tokens - 1) * measured.tpot)
    return np.where(np.isfinite(measured.throughput), measured.throughput, implied)


def coverage(data: Scored) -> list[Entry]:
    """Share of held-out rows within intervals that neither they nor their pair took part in."""
    within = {metric: np.full(len(data.rows), np.nan) for metric in METRICS}
    for fold in sorted(set(data.fold.tolist())):
        own = data.fold == fold
        others = ~own & ~np.isin(data.ratios.pair, data.ratios.pair[own])
        found = spreads(data.ratios.where(others), sorted(set(data.ratios.key.tolist())))
        for metric in METRICS:
            within[metric][own] = inside(data.ratios.where(own), found, metric)
    engine = data.named(lambda row: row.engine)
    entries: list[Entry] = []
    for one in ("all", *ENGINES):
        some = (engine == one) | (one == "all")
        for metric in METRICS:
            known = some & np.isfinite(within[metric])
            if known.any():
                entries.append(_coverage(one, metric, within[metric][known],
                                         data.ratios.group[known]))  # fmt: skip
    return entries


def _coverage(engine: str, metric: str, within: Floats, groups: Names) -> Entry:
    share = float(within.mean())
    return {
        "engine": engine, "metric": metric, "n": len(within), "share": share,
        "share, groups alike": float(np.average(within, weights=group_weights(groups))),
        "met": COVERAGE_GOAL[0] <= share <= COVERAGE_GOAL[1],
    }  # fmt: skip
