"""Rows of measurements beside what fits that have not seen them, and simpler models, say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from benchmarks.perfmodel_baselines import CONSTANT, IDEAL, baseline
from benchmarks.perfmodel_fit import ENGINES, FitRow, Fitter, folds, held_out, ratios
from benchmarks.perfmodel_scores import Floats, Names, Ratios
from search.perfmodel.batch import Outcomes

MODELS = ("pairs", "groups", "roofline", "constant")
"""Fits without a row's model and accelerator, without its format and layout on these, and the two
of `perfmodel_baselines`."""
_GROUP_FOLDS = 3
"""Fewer than for pairs: each costs a fit, and a third of the groups says enough."""


@dataclass(frozen=True, slots=True)
class Figures:
    """TTFT and TPOT in seconds, output tokens per second of the whole deployment; [rows]."""

    ttft: Floats
    tpot: Floats
    throughput: Floats

    def of(self, metric: str) -> Floats:
        figures: Floats = getattr(self, metric)
        return figures


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows that can be fitted to, of all engines, with what was measured and what models say.

    Attributes:
        said: by model, of `MODELS`.
        ratios: measured over what `pairs` says.
        fold: engine and fold of each row in `pairs`.
    """

    rows: tuple[FitRow, ...]
    measured: Figures
    said: dict[str, Figures]
    ratios: Ratios
    fold: Names

    def named(self, name: Callable[[FitRow], str]) -> Names:
        return np.array([name(row) for row in self.rows])


def scored(rows: Sequence[FitRow]) -> Scored:
    """Fits and predicts `rows`, each engine by itself."""
    parts = [_scored_engine([row for row in rows if row.engine == engine]) for engine in ENGINES]
    return Scored(
        tuple(row for part in parts for row in part.rows),
        _joined([part.measured for part in parts]),
        {model: _joined([part.said[model] for part in parts]) for model in MODELS},
        Ratios.joined([part.ratios for part in parts]),
        np.concatenate([part.fold for part in parts]),
    )


def _scored_engine(rows: Sequence[FitRow]) -> Scored:
    fitter, questions = Fitter(rows), [row.question for row in rows]
    place = folds(rows)
    pairs = held_out(fitter, place)
    outcomes = {
        "pairs": pairs,
        "groups": held_out(fitter, folds(rows, _GROUP_FOLDS, _layout_group)),
        "roofline": baseline(questions, IDEAL),
        "constant": baseline(questions, CONSTANT),
    }
    tokens = np.array([each.load.output_tokens for each in questions])
    measured = [(row.measured.ttft_ms, row.measured.tpot_ms, row.measured.output_tok_s)
                for row in rows]  # fmt: skip
    ttft, tpot, output = np.array(measured, dtype=np.float64).T
    return Scored(
        tuple(rows),
        Figures(ttft / 1e3, tpot / 1e3, output),
        {model: _figures(found, tokens) for model, found in outcomes.items()},
        ratios(fitter, pairs),
        np.array([f"{rows[0].engine} {fold}" for fold in place]),
    )


def _layout_group(row: FitRow) -> str:
    return f"{row.pair} {row.row['quant']} {row.question.configuration.spread}"


def _figures(outcomes: Outcomes, output_tokens: Floats) -> Figures:
    return Figures(outcomes.ttft_s, outcomes.tpot_s, outcomes.request_rate * output_tokens)


def _joined(parts: Sequence[Figures]) -> Figures:
    return Figures(*(
        np.concatenate([part.of(field.name) for part in parts]) for field in fields(Figures)
    ))  # fmt: skip


def kind_of(row: FitRow) -> str:
    """`dense`, `experts` (all MLA models here are) or `other vendors`: what goals are set for."""
    configuration = row.question.configuration
    if configuration.accelerator.vendor != "nvidia":
        return "other vendors"
    return "experts" if configuration.model.is_moe else "dense"
