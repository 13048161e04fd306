"""How far the performance model is from published measurements, and what a search loses by it.

    SERVETUNE_FACTS=FOLDER python -m benchmarks.perfmodel_accuracy [--quick] [--json] [--out FILE]

Rows are predicted by fits that have not seen them: neither their model on their accelerator
(`pairs`) nor, less strictly, their model, accelerator, format and layout together (`groups`).
Beside them stand the two models of `benchmarks.perfmodel_baselines`, fitted to nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.perfmodel_choices import COVERAGE_GOAL, choices, coverage
from benchmarks.perfmodel_fit import ENGINES, data_sha256, fit_rows, thinned
from benchmarks.perfmodel_heldout import MODELS, Scored, kind_of, scored
from benchmarks.perfmodel_others import other_sources, shipped_coverage, unfitting
from benchmarks.perfmodel_rows import published_rows
from benchmarks.perfmodel_scores import METRICS, Errors, Mask
from benchmarks.perfmodel_text import Document, Entry, text_of
from search.perfmodel.row_question import RowKind

_QUICK = 10
"""Rows of a group that `--quick` keeps."""
_GOALS = {"dense": 0.08, "experts": 0.15, "other vendors": 0.15}
"""Median errors of TPOT and throughput at most."""
_TTFT_GOAL = 0.25
_REGRET_GOAL, _TOP_REGRET_GOAL, _RANK_GOAL = 0.05, 0.01, 0.95


def errors(data: Scored) -> list[Entry]:
    """Errors of every model by source, engine and accelerator, and over all accelerators."""
    source = data.named(lambda row: row.row["source"])
    engine = data.named(lambda row: row.engine)
    device = data.named(lambda row: row.question.configuration.accelerator.name)
    found: list[Entry] = []
    for one, its_engine in sorted(set(zip(source.tolist(), engine.tolist(), strict=True))):
        here = (source == one) & (engine == its_engine)
        for accelerator in ("all", *sorted(set(device[here].tolist()))):
            some = here & ((device == accelerator) | (accelerator == "all"))
            for metric in METRICS:
                by_model = {model: _errors(data, model, metric, some) for model in MODELS}
                if by_model["pairs"].n:
                    found.append({
                        "source": one, "engine": its_engine, "accelerator": accelerator,
                        "metric": metric, "n": by_model["pairs"].n,
                        **{model: asdict(each) for model, each in by_model.items()},
                    })  # fmt: skip
    return found


def _errors(data: Scored, model: str, metric: str, some: Mask) -> Errors:
    return Errors.of(data.said[model].of(metric)[some], data.measured.of(metric)[some])


def goals(data: Scored) -> list[Entry]:
    """Median errors on held-out pairs beside the goals.

    Throughput is that of offline runs: what a closed loop reaches follows from its TPOT.
    """
    engine, kind = data.named(lambda row: row.engine), data.named(kind_of)
    offline = np.array([row.asked.kind is RowKind.OFFLINE for row in data.rows])
    found: list[Entry] = []
    for one in ENGINES:
        for its_kind, goal in _GOALS.items():
            some = (engine == one) & (kind == its_kind)
            for metric in METRICS:
                limit = _TTFT_GOAL if metric == "ttft" else goal
                rows = some & offline if metric == "throughput" else some
                error = _errors(data, "pairs", metric, rows)
                if error.n:
                    pairs = len(set(data.ratios.pair[rows].tolist()))
                    found.append({
                        "engine": one, "kind": its_kind, "metric": metric, "n": error.n,
                        "pairs": pairs, "median": error.median, "goal": limit,
                        "met": error.median <= limit,
                    })  # fmt: skip
    return found


def verdicts(found: Document) -> list[Entry]:
    """What a search needs, beside the goals."""
    chosen = next(entry for entry in found["choices"] if entry["model"] == "pairs")
    covered = {entry["metric"]: entry["share"] for entry in found["coverage"]
               if entry["engine"] == "all"}  # fmt: skip
    low, high = COVERAGE_GOAL
    at_most = {
        "median regret of the predicted best": (chosen["regret"], _REGRET_GOAL),
        "median regret of the best of five": (chosen["regret of top"], _TOP_REGRET_GOAL),
        "the same in groups of ten and more": (chosen["regret of top, large"], _TOP_REGRET_GOAL),
        "measured configurations called infeasible": (float(found["fits"]["infeasible"]), 0.0),
    }
    at_least = {
        "rank correlation of throughput per GPU": (chosen["rank throughput"], _RANK_GOAL),
        "rank correlation of TPOT": (chosen["rank tpot"], _RANK_GOAL),
    }
    return [
        *(_verdict(what, value, f"≤ {goal:g}", value <= goal)
          for what, (value, goal) in at_most.items()),
        *(_verdict(what, value, f"≥ {goal:g}", value >= goal)
          for what, (value, goal) in at_least.items()),
        *(_verdict(f"coverage of {metric} intervals", share, f"{low:g} to {high:g}",
                   low <= share <= high) for metric, share in covered.items()),
    ]  # fmt: skip


def _verdict(what: str, value: float, goal: str, met: bool) -> Entry:
    known = math.isfinite(value)
    return {"what": what, "value": value, "goal": goal, "met": met if known else None}


def measure(rows: Sequence[dict[str, str]], *, quick: bool = False) -> Document:
    """Everything that is reported, of all published rows."""
    fitted = fit_rows(rows)
    data = scored(thinned(fitted, _QUICK) if quick else fitted)
    found: Document = {
        "data": {
            "rows": len(rows), "fitted_to": len(fitted), "scored": len(data.rows),
            "sha256": data_sha256(fitted), "quick": quick,
        },
        "errors": errors(data),
        "goals": goals(data),
        "choices": choices(data),
        "coverage": coverage(data),
        "coverage_of_shipped": shipped_coverage(fitted),
        "fits": unfitting(rows),
        "others": other_sources(rows),
    }  # fmt: skip
    rounded: Document = _rounded({**found, "verdicts": verdicts(found)})
    return rounded


def _rounded(value: Any) -> Any:
    """The same with four digits of each number, and None where there is none."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} rows of a group at most")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    options = parser.parse_args()
    document = measure(published_rows(), quick=options.quick)
    as_json = json.dumps(document, indent=1)
    print(as_json if options.json else text_of(document))
    if options.out is not None:
        options.out.write_text(as_json + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
