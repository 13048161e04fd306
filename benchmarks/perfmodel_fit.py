"""Fits the overheads of engines to published measurements and stores them with their hash.

`python -m benchmarks.perfmodel_fit` writes `search/perfmodel/overheads.json`. The parameters are
those of `EngineOverheads`, as logarithms around prior values with prior widths: kernel tables say
what an operator takes, so that factors stay near 1 unless the rows insist. An engine's parameters
are fitted to all its rows, and again to its mixtures of experts and to other vendors' accelerators
around these. Intervals come from rows that their own fit has not seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from benchmarks.perfmodel_rows import (
    Measured,
    doubtful,
    impossible,
    measured,
    published_rows,
    same_run,
)
from benchmarks.perfmodel_scores import Ratios, spreads
from search.perfmodel.batch import Batch, Outcomes
from search.perfmodel.fit import WIDER, Fit, overhead_keys
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
    "sequence_s": 0.5, "step_s": 0.5, "prompt_s": 0.7, "queue": 0.8, "queue_power": 0.25,
    "varied": 0.4, "cohort": 0.7, "first_token_s": 0.7,
}  # fmt: skip
"""Standard deviations of the logarithms."""
_TOLERATED = 0.1
"""Relative error from which on a row counts linearly instead of squared, so that rows of which
something unknown is wrong do not pull."""
_TTFT_TOLERATED = 0.3
_TTFT_WEIGHT = 0.4
"""TTFT spreads several times as wide as TPOT between identical runs."""
_GROUP_WEIGHT = 5.0
"""Rows of one model, accelerator and format count as so many of their own, however many."""
_MOST_OF_A_GROUP = 30
_NEAR = 1.0
"""Width of what a kind of its own may differ in from its engine, in prior widths."""
FOLDS = 5
STORED = Path(__file__).parents[1] / "search" / "perfmodel" / "overheads.json"


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

    def extrapolated(self) -> Floats:
        """In how many ways each prediction extrapolates, [rows]."""
        batch, fit = self._batch, Fit(dict.fromkeys(ENGINES, PRIOR), {})
        counts = [
            len(fit.extrapolates(row.question.configuration, batch.efficiencies, int(device)))
            for row, device in zip(self.rows, batch.accelerator, strict=True)
        ]
        return np.array(counts, dtype=np.float64)

    def fit(self, use: npt.NDArray[np.bool_], *, around: Floats, width: float, start: Floats,
            rounds: int = 15) -> Floats:  # fmt: skip
        """Parameters for the rows in `use`, with a prior of `width` at `around`."""
        used = self if use.all() else self._part(use)
        weights = used._weights

        def residuals(logs: Floats) -> Floats:
            tpot, ttft, rate = used.errors(used.outcomes(logs))
            parts = [
                weights * _robust(tpot, _TOLERATED),
                weights * _TTFT_WEIGHT * _robust(ttft, _TTFT_TOLERATED),
                weights * _robust(rate, _TOLERATED),
                (logs - around) / width,
            ]
            return np.concatenate(parts)

        found = least_squares(residuals, start, diff_step=[1e-3], max_nfev=rounds)
        result: Floats = found.x
        return result

    def _part(self, use: npt.NDArray[np.bool_]) -> Fitter:
        """The rows in `use`, as heavy as they are among all."""
        part = Fitter([row for row, used in zip(self.rows, use, strict=True) if used])
        part._weights = self._weights[use]
        return part


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


def folds(
    rows: Sequence[FitRow],
    count: int = FOLDS,
    together: Callable[[FitRow], str] = lambda row: row.pair,
) -> npt.NDArray[np.int64]:
    """A fold for each row, of equal sizes; rows with one name `together` are in one fold.

    By default those of one model and accelerator.
    """
    names = [together(row) for row in rows]
    sizes = {name: names.count(name) for name in set(names)}
    filled = [0] * count
    place = {}
    for name in sorted(sizes, key=lambda each: (-sizes[each], each)):
        place[name] = filled.index(min(filled))
        filled[place[name]] += sizes[name]
    return np.array([place[name] for name in names])


def held_out(fitter: Fitter, place: npt.NDArray[np.int64]) -> Outcomes:
    """Every row as predicted by a fit to the rows of all folds in `place` but its own."""
    start = {"": np.zeros(len(NAMES))}
    folds_of_rows = sorted(set(place.tolist()))
    parts = [predicted(fitter, fit_engine(fitter, place != fold, start)) for fold in folds_of_rows]
    own = [place == fold for fold in folds_of_rows]
    return Outcomes(**{
        field.name: np.select(own, [getattr(part, field.name) for part in parts])
        for field in fields(Outcomes)
    })  # fmt: skip


def ratios(fitter: Fitter, outcomes: Outcomes) -> Ratios:
    """Measured over predicted; where a prediction extrapolates, less what widens its interval."""
    rows, power = fitter.rows, 1 / WIDER ** fitter.extrapolated()
    output_tokens = np.array([row.question.load.output_tokens for row in rows])
    rate = _column(rows, "output_tok_s") / output_tokens
    return Ratios(
        ttft=(_column(rows, "ttft_ms") / 1e3 / outcomes.ttft_s) ** power,
        tpot=(_column(rows, "tpot_ms") / 1e3 / outcomes.tpot_s) ** power,
        throughput=(rate / outcomes.request_rate) ** power,
        key=np.array([overhead_keys(row.question.configuration)[0] for row in rows]),
        group=np.array([row.group for row in rows]),
        pair=np.array([row.pair for row in rows]),
    )


def thinned(rows: Sequence[FitRow], most: int = _MOST_OF_A_GROUP) -> list[FitRow]:
    """`most` rows of each group at most, spread evenly over its rows."""
    members: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        members.setdefault(row.group, []).append(at)
    kept: set[int] = set()
    for places in members.values():
        count = min(len(places), most)
        kept.update(places[at * len(places) // count] for at in range(count))
    return [row for at, row in enumerate(rows) if at in kept]


def data_sha256(rows: Sequence[FitRow]) -> str:
    """Hash of all columns of the rows that are fitted to, in their order."""
    cells = [list(row.row.values()) for row in rows]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def shipped(rows: Sequence[FitRow]) -> dict[str, object]:
    """What `overheads.json` says: parameters by key, fitted to all `rows`, and their spreads."""
    overheads: dict[str, EngineOverheads] = {}
    unseen = []
    for engine in ENGINES:
        fitter = Fitter([row for row in rows if row.engine == engine])
        found = fit_engine(fitter, np.ones(len(fitter.rows), dtype=np.bool_))
        overheads |= {str(key): overheads_of(logs) for key, logs in found.items() if key}
        unseen.append(ratios(fitter, held_out(fitter, folds(fitter.rows))))
    return {
        "data_sha256": data_sha256(rows),
        "rows": len(rows),
        "overheads": {key: _rounded(asdict(values)) for key, values in overheads.items()},
        "spreads": {
            key: {metric: [_digits(end) for end in ends] for metric, ends in values.items()}
            for key, values in spreads(Ratios.joined(unseen), overheads).items()
        },
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: _digits(value) for name, value in values.items()}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="say only whether the stored fit is to these rows"
    )
    parser.add_argument(
        "--thin", action="store_true", help=f"{_MOST_OF_A_GROUP} rows of a group at most"
    )
    options = parser.parse_args()
    rows = fit_rows(published_rows())
    if options.check:
        stored, here = json.loads(STORED.read_text())["data_sha256"], data_sha256(rows)
        print(f"stored: {stored or 'no hash'}\nrows:   {here}")
        sys.exit(0 if stored == here else f"{STORED.name} was fitted to other rows; run this again")
    document = shipped(thinned(rows) if options.thin else rows)
    STORED.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{STORED.name}: {document['rows']} rows, {document['data_sha256']}")


def _column(rows: Sequence[FitRow], name: str) -> Floats:
    values = [getattr(row.measured, name) for row in rows]
    return np.array([np.nan if value is None else value for value in values])


def _robust(errors: Floats, tolerated: float) -> Floats:
    """Square roots of the pseudo-Huber loss, which least squares then adds up; 0 for NaN."""
    size = np.abs(errors) / tolerated
    root: Floats = np.nan_to_num(np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + size**2) - 1)))
    return root


if __name__ == "__main__":
    main()
