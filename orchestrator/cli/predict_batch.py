"""`servetune predict --batch`: the rows of a table of measurements, each with its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.options import check_curves
from orchestrator.cli.stdout import write
from orchestrator.measurement_table import read_table, write_table
from runtimes.errors import UserError

if TYPE_CHECKING:
    from runtimes.node_curves import NodeCurves
    from search.perfmodel.row_answers import RowAnswer

REQUIRED = ("engine", "model", "quant", "gpu", "isl", "osl", "concurrency_or_max")
"""Columns without which no row says anything; the others may be missing."""

ADDED = (
    "predicted_ttft_ms", "predicted_tpot_ms", "predicted_output_tok_s", "predicted_fits",
    "uncertainty", "extrapolates", "reason",
)  # fmt: skip
"""Columns that are added, or written anew where a table already has them."""


def run_batch(rows: Path, out: Path, *, curves: Sequence[NodeCurves] = ()) -> int:
    """Predict each row of `rows` and write all of them, in their order, to `out`; 0.

    What was measured is not read. A row without an answer keeps empty figures and says why.

    Raises:
        UserError: `rows` is no table of measurements, `curves` are of no accelerator of a row, or
            `out` cannot be written.
    """
    from search.perfmodel.row_answers import answer_rows
    from search.perfmodel.row_question import Unpredictable
    from search.perfmodel.rows import read_row

    if out.is_dir():
        raise UserError(f"{out} is a folder; --out names a file")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is no folder; --out names a file in one that exists")
    table = read_table(rows, REQUIRED)
    asked = [
        Unpredictable("the row has more or fewer cells than the header")
        if at in table.uneven
        else read_row(row)
        for at, row in enumerate(table.rows)
    ]
    check_curves(
        curves,
        [
            each.question.configuration.accelerator
            for each in asked
            if not isinstance(each, Unpredictable)
        ],
    )
    answers = answer_rows(asked, curves=curves)
    added = [
        _reason(answer.reason) if isinstance(answer, Unpredictable) else _figures(answer)
        for answer in answers
    ]
    columns = [*(name for name in table.columns if name not in ADDED), *ADDED]
    write_table(
        out,
        columns,
        ({**row, **more} for row, more in zip(table.rows, added, strict=True)),
    )
    answered = sum(1 for more in added if not more["reason"])
    if out.is_file():  # and no pipe, into which the table itself went
        write(f"{answered} of {len(added)} rows predicted: {out}\n")
    return 0


def _reason(reason: str) -> Mapping[str, str]:
    return {**dict.fromkeys(ADDED, ""), "reason": reason}


def _figures(answer: RowAnswer) -> Mapping[str, str]:
    figures = (answer.ttft_ms, answer.tpot_ms, answer.output_tok_s)
    endless = any(figure is not None and not isfinite(figure) for figure in figures)
    ttft, tpot, rate = map(_number, figures) if answer.fits else ("", "", "")
    late = "requests arrive faster than they can be served" if endless else ""
    return {
        "predicted_ttft_ms": ttft,
        "predicted_tpot_ms": tpot,
        "predicted_output_tok_s": rate,
        "predicted_fits": "true" if answer.fits else "false",
        "uncertainty": _number(answer.uncertainty),
        "extrapolates": "; ".join(dict.fromkeys(answer.extrapolates)),
        "reason": answer.shortage or late,
    }


def _number(value: float | None) -> str:
    return "" if value is None or not isfinite(value) else f"{value:.6g}"
