"""What the model says of rows: predictions put together as each kind of row measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import Prediction
from search.perfmodel.disaggregated import CACHED, Pools, match_rates
from search.perfmodel.fit import Fit
from search.perfmodel.predict import predict
from search.perfmodel.question import Question
from search.perfmodel.row_question import RowKind, RowQuestion, Unpredictable
from search.perfmodel.shortage import shortage_words
from search.perfmodel.spread import Spread

_LADDER = tuple(2.0**power for power in range(1, 13))
"""Requests at once per group among which limits on latency choose."""


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """A row's prediction; None for what such a row does not measure.

    Attributes:
        ttft_ms, tpot_ms: means, in milliseconds.
        output_tok_s: output tokens per second, over all replicas.
        fits: False when weights and one sequence exceed the memory of a GPU.
        uncertainty: half width of the interval that holds nine of ten, over the value.
        extrapolates: in words, what no measurement stands behind.
        shortage: what does not fit and by how much; empty where all does.
    """

    ttft_ms: float | None
    tpot_ms: float | None
    output_tok_s: float | None
    fits: bool
    uncertainty: float
    extrapolates: tuple[str, ...] = ()
    shortage: str = ""


def answer_rows(
    asked: Sequence[RowQuestion | Unpredictable],
    *,
    curves: Sequence[NodeCurves] = (),
    fit: Fit | None = None,
) -> list[RowAnswer | Unpredictable]:
    """Answers in the order of `asked`, all predicted side by side.

    Args:
        asked: what `rows.read_row` made of rows; one without a question stays as it is.
        curves: as of `predict`.
        fit: as of `predict`.
    """
    questions = [each for row in asked for each in _questions(row)]
    found = iter(predict(questions, curves=curves, fit=fit))
    matched = iter(match_rates(_disaggregated(asked), curves=curves, fit=fit))
    answers: list[RowAnswer | Unpredictable] = []
    for row in asked:
        if isinstance(row, Unpredictable):
            answers.append(row)
        elif row.prefill is not None:
            answers.append(_plain(row, next(matched).whole))
        else:
            answers.append(_answer(row, [next(found) for _ in _questions(row)]))
    return answers


def _disaggregated(rows: Sequence[RowQuestion | Unpredictable]) -> list[Pools]:
    return [
        Pools(prefill=row.prefill, decode=row.question.configuration, load=row.question.load)
        for row in rows
        if isinstance(row, RowQuestion) and row.prefill is not None
    ]


def _questions(row: RowQuestion | Unpredictable) -> list[Question]:
    """What is asked of one deployment; nothing of two."""
    if isinstance(row, Unpredictable) or row.prefill is not None:
        return []
    question = row.question
    if row.kind in (RowKind.STATIC_BATCH, RowKind.PREFILL):
        return [_decoding(question), _prompts(question)]
    if row.kind is RowKind.UNDER_LIMITS:
        copies = _groups(question.configuration.spread)
        return [_at(question, each * copies) for each in _LADDER]
    return [question]


def _groups(spread: Spread) -> int:
    return spread.groups * spread.replicas


def _at(question: Question, concurrency: float) -> Question:
    load = replace(question.load, concurrency=concurrency, request_rate=None, saturated=False)
    return replace(question, load=load)


def _decoding(question: Question) -> Question:
    """The same, with prompts that cost nothing."""
    return replace(question, load=replace(question.load, prefix_hit=CACHED))


def _prompts(question: Question) -> Question:
    """The same, with answers of one token."""
    return replace(question, load=replace(question.load, output_tokens=1.0))


def _answer(row: RowQuestion, found: Sequence[Prediction]) -> RowAnswer:
    if row.kind in (RowKind.STATIC_BATCH, RowKind.PREFILL):
        return _static(row, *found)
    if row.kind is RowKind.UNDER_LIMITS:
        return _under_limits(row, found)
    return _plain(row, found[0])


def _plain(row: RowQuestion, said: Prediction) -> RowAnswer:
    return RowAnswer(
        ttft_ms=said.ttft_ms,
        tpot_ms=said.tpot_ms,
        output_tok_s=said.output_throughput,
        fits=said.memory.fits,
        uncertainty=said.uncertainty,
        extrapolates=(*row.extrapolates, *said.extrapolates),
        shortage="" if said.memory.fits else _shortage(row, said),
    )


def _shortage(row: RowQuestion, said: Prediction) -> str:
    load = row.question.load
    longest = load.input_tokens + load.output_tokens
    return shortage_words(said.memory, row.question.configuration.engine, longest)


def _static(row: RowQuestion, decode: Prediction, prompts: Prediction) -> RowAnswer:
    """A batch that starts together: all prompts, then all answers.

    What does not fit waits: the batch then takes as many times as long.
    """
    load = row.question.load
    batch = load.concurrency or 1.0
    at_once = min(batch, decode.running * row.question.configuration.spread.replicas)
    marginal_s = 1 / prompts.request_throughput
    alone_s = max(prompts.prefill.seconds, marginal_s - prompts.tpot_ms / 1e3)
    first_s = alone_s + (at_once - 1) * marginal_s
    decode_s = decode.tpot_ms / 1e3 * (load.output_tokens - 1)
    whole_s = (first_s + decode_s) * batch / at_once
    measured = row.kind is RowKind.STATIC_BATCH
    return replace(
        _plain(row, decode),
        ttft_ms=first_s * 1e3,
        tpot_ms=decode.tpot_ms if measured else None,
        output_tok_s=batch * load.output_tokens / whole_s if measured else None,
        fits=decode.memory.fits and prompts.memory.fits,
        shortage=_plain(row, decode).shortage or _plain(row, prompts).shortage,
    )


def _under_limits(row: RowQuestion, ladder: Sequence[Prediction]) -> RowAnswer:
    """The throughput at which the time per token reaches its limit."""
    limit = row.tpot_limit_ms if row.tpot_limit_ms is not None else float("inf")
    tpots = np.maximum.accumulate([each.tpot_ms for each in ladder])
    throughput = float(np.interp(limit, tpots, [each.output_throughput for each in ladder]))
    said = _plain(row, ladder[int(np.searchsorted(tpots, limit).clip(0, len(ladder) - 1))])
    return replace(
        said,
        ttft_ms=None,
        tpot_ms=None,
        output_tok_s=throughput,
        extrapolates=(*said.extrapolates, "limits are those of mean, not of 99th percentiles"),
    )
