"""Fits the overheads of engines to published measurements and stores them with their hash.

`python -m benchmarks.perfmodel_fit` writes `search/perfmodel/overheads.json`. The parameters are
those of `EngineOverheads`, as logarithms around prior values with prior widths: kernel tables say
what an operator takes, so that factors stay near 1 unless the rows insist. An engine's parameters
are fitted to all its rows, and again to its mixtures of experts and to other vendors' accelerators
around these. Intervals come from rows that their own fit has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from benchmarks.perfmodel_rows import Measured, doubtful, impossible, measured, same_run
from search.perfmodel.batch import Batch, Outcomes
from search.perfmodel.fit import overhead_keys
from search.perfmodel.overheads import NAMES, EngineOverheads, Scales
from search.perfmodel.question import Question
from search.perfmodel.row_question import RowKind, RowQuestion
from search.perfmodel.rows import read_row

Floats = npt.NDArray[np.float64]

ENGINES = ("vllm", "sglang", "tensorrt_llm")
SOURCES = ("aic-silicon-sample", "inferencemax-raw", "trtllm-perf-overview")
"""Tables of whole runs of engines of 2025 and later; the others are scored, never fitted to."""
PRIOR = EngineOverheads()
WIDTHS = {
    "gemm": 0.15, "reading": 0.15, "attention": 0.2, "experts": 0.3, "expert_reading": 0.25,
    "communication": 0.3, "imbalance": 0.15, "routing": 0.08, "layer_s": 0.5, "moe_layer_s": 0.5,
    "sequence_s": 0.5, "step_s": 0.5, "prompt_s": 0.7, "queue": 0.7, "cohort": 0.7,
    "first_token_s": 0.7,
}  # fmt: skip
"""Standard deviations of the logarithms."""
_TOLERATED = 0.1
"""Relative error from which on a row counts linearly instead of squared, so that rows of which
something unknown is wrong do not pull."""
_TTFT_TOLERATED = 0.3
_TTFT_WEIGHT = 0.3
"""TTFT spreads several times as wide as TPOT between identical runs."""
_GROUP_WEIGHT = 5.0
"""Rows of one model, accelerator and format count as so many of their own, however many."""
_MOST_OF_A_GROUP = 30
_NEAR = 1.0
"""Width of what a kind of its own may differ in from its engine, in prior widths."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class FitRow:
    """One row that can be fitted to."""

    row: dict[str, str]
    asked: RowQuestion
    measured: Measured

    @property
    def question(self) -> Question:
        return self.asked.question

    @property
    def engine(self) -> str:
        return self.question.configuration.engine

    @property
    def pair(self) -> str:
        """Model and accelerator, whichever finetune or date the row names."""
        configuration = self.question.configuration
        return f"{shape_name(configuration.model.name)} {configuration.accelerator.name}"

    @property
    def group(self) -> str:
        return f"{self.pair} {self.row['quant']} {self.row['source']} {self.engine}"


def shape_name(model: str) -> str:
    """One name for models of one shape: `DeepSeek-R1-0528` is a `deepseek-v3`."""
    name = model.lower().rpartition("/")[2]
    for alias, shape in (
        ("deepseek", "deepseek-v3"),
        ("llama-3.1-8b", "llama-8b"),
        ("llama-3.1-70b", "llama-70b"),
        ("llama-3.3-70b", "llama-70b"),
    ):
        if alias in name:
            return shape
    return name.removesuffix("-fp8").removesuffix("-nvfp4").removesuffix("-instruct")


def fit_rows(rows: Iterable[dict[str, str]]) -> list[FitRow]:
    """Those of `rows` that are fitted to: closed loops and offline runs, each run once."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for row in rows:
        if row["source"] not in SOURCES:
            continue
        asked = read_row(row)
        if not isinstance(asked, RowQuestion) or asked.kind not in (
            RowKind.CLOSED_LOOP, RowKind.OFFLINE,
        ):  # fmt: skip
            continue
        if same_run(row) in seen or impossible(row, asked) or doubtful(row):
            continue
        seen.add(same_run(row))
        if asked.question.configuration.speculation is None:
            found.append(FitRow(row, asked, measured(row, asked)))
    return found


class Fitter:
    """The rows of one engine, and how far predictions are from them."""

    def __init__(self, rows: Sequence[FitRow]) -> None:
        self.rows = rows
        self._batch = Batch([row.question for row in rows])
        self._ttft = _column(rows, "ttft_ms") / 1e3
        self._tpot = _column(rows, "tpot_ms") / 1e3
        output = _column(rows, "output_tok_s")
        self._rate = output / np.array([row.question.load.output_tokens for row in rows])
        groups = [row.group for row in rows]
        sizes = {group: groups.count(group) for group in set(groups)}
        self._weights = np.sqrt(_GROUP_WEIGHT / np.array([sizes[group] for group in groups]))

    def outcomes(self, logs: Floats) -> Outcomes:
        """What all rows come to with the parameters `logs`."""
        return self._batch.outcomes(Scales.of([overheads_of(logs)] * len(self.rows)))

    def errors(self, outcomes: Outcomes) -> tuple[Floats, Floats, Floats]:
        """Logarithms of predicted over measured TPOT, TTFT and throughput; NaN without one.

        Throughput counts where no TPOT was measured: with both it says the same again.
        """
        tpot = np.log(outcomes.tpot_s / self._tpot)
        rate = np.log(outcomes.request_rate / self._rate)
        return tpot, np.log(outcomes.ttft_s / self._ttft), np.where(np.isnan(tpot), rate, np.nan)

    def fit(self, use: npt.NDArray[np.bool_], *, around: Floats, width: float, start: Floats,
            rounds: int = 15) -> Floats:  # fmt: skip
        """Parameters for the rows in `use`, with a prior of `width` at `around`."""

        def residuals(logs: Floats) -> Floats:
            tpot, ttft, rate = self.errors(self.outcomes(logs))
            weights = self._weights * use
            parts = [
                weights * _robust(tpot, _TOLERATED),
                weights * _TTFT_WEIGHT * _robust(ttft, _TTFT_TOLERATED),
                weights * _robust(rate, _TOLERATED),
                (logs - around) / width,
            ]
            return np.concatenate(parts)

        found = least_squares(residuals, start, diff_step=1e-3, max_nfev=rounds)
        result: Floats = found.x
        return result


def overheads_of(logs: Floats) -> EngineOverheads:
    """Parameters from their logarithms around the prior, in its widths."""
    return EngineOverheads(**{
        name: float(getattr(PRIOR, name) * np.exp(logs[at] * WIDTHS[name]))
        for at, name in enumerate(NAMES)
    })  # fmt: skip


def fit_engine(
    fitter: Fitter, use: npt.NDArray[np.bool_], start: dict[str, Floats] | None = None
) -> dict[str, Floats]:
    """Parameters by key (`overhead_keys`) of one engine, from the rows in `use`."""
    start = start or {}
    zero = np.zeros(len(NAMES))
    engine = fitter.rows[0].engine
    keys = np.array([overhead_keys(row.question.configuration)[0] for row in fitter.rows])
    nvidia = np.array([row.question.configuration.accelerator.vendor == "nvidia"
                       for row in fitter.rows])  # fmt: skip
    joint = fitter.fit(use & nvidia, around=zero, width=1.0, start=start.get("", zero),
                       rounds=8 if start else 15)  # fmt: skip
    found = {"": joint}
    for key in sorted({*keys, engine}):
        some = use & (keys == key)
        found[key] = joint
        if some.sum() >= 10:
            begin = start.get(key, joint)
            found[key] = fitter.fit(some, around=joint, width=_NEAR, start=begin, rounds=8)
    return found


def predicted(fitter: Fitter, found: dict[str, Floats]) -> Outcomes:
    """Every row with the parameters of its own key."""
    keys = [overhead_keys(row.question.configuration)[0] for row in fitter.rows]
    known = [overheads_of(found[key]) for key in keys]
    return fitter._batch.outcomes(Scales.of(known))


def folds(rows: Sequence[FitRow], count: int = FOLDS) -> npt.NDArray[np.int64]:
    """A fold for each row: those of one model and accelerator are in one, of equal sizes."""
    pairs = [row.pair for row in rows]
    sizes = {pair: pairs.count(pair) for pair in set(pairs)}
    filled = [0] * count
    place = {}
    for pair in sorted(sizes, key=lambda each: (-sizes[each], each)):
        place[pair] = filled.index(min(filled))
        filled[place[pair]] += sizes[pair]
    return np.array([place[pair] for pair in pairs])


def _column(rows: Sequence[FitRow], name: str) -> Floats:
    values = [getattr(row.measured, name) for row in rows]
    return np.array([np.nan if value is None else value for value in values])


def _robust(errors: Floats, tolerated: float) -> Floats:
    """Square roots of the pseudo-Huber loss, which least squares then adds up; 0 for NaN."""
    size = np.abs(errors) / tolerated
    return np.nan_to_num(np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + size**2) - 1)))
