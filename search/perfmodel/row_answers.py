"""What the model says of rows: predictions put together as each kind of row measured them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import Prediction
from search.perfmodel.fit import Fit
from search.perfmodel.predict import predict
from search.perfmodel.question import Load, Question
from search.perfmodel.row_question import RowKind, RowQuestion, Unpredictable
from search.perfmodel.spread import Spread

_CACHED = 1 - 1e-9
"""Share of a prompt found in the cache where prompts cost nothing: what is left is decoding."""
_BUSIEST = 0.95
"""Share of their highest rate at which engines that only compute prompts are asked at most."""
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
    """

    ttft_ms: float | None
    tpot_ms: float | None
    output_tok_s: float | None
    fits: bool
    uncertainty: float
    extrapolates: tuple[str, ...] = ()


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
    questions = [each for row in asked for each in _first_questions(row)]
    first = iter(predict(questions, curves=curves, fit=fit))
    firsts = [_take(first, len(_first_questions(row))) for row in asked]
    rated = [
        each
        for row, answers in zip(asked, firsts, strict=True)
        for each in _rated_questions(row, answers)
    ]
    second = iter(predict(rated, curves=curves, fit=fit))
    answers: list[RowAnswer | Unpredictable] = []
    for row, found in zip(asked, firsts, strict=True):
        if isinstance(row, Unpredictable):
            answers.append(row)
            continue
        more = _take(second, len(_rated_questions(row, found)))
        answers.append(_answer(row, found, more))
    return answers


def _take(answers: Iterator[Prediction], count: int) -> list[Prediction]:
    return [next(answers) for _ in range(count)]


def _first_questions(row: RowQuestion | Unpredictable) -> list[Question]:
    if isinstance(row, Unpredictable):
        return []
    question = row.question
    if row.kind in (RowKind.STATIC_BATCH, RowKind.PREFILL):
        return [_decoding(question), _prompts(question)]
    if row.kind is RowKind.DISAGGREGATED:
        return [_decoding(question), _prompt_engines(row, saturated=True)]
    if row.kind is RowKind.UNDER_LIMITS:
        copies = _groups(question.configuration.spread)
        return [_at(question, concurrency=each * copies) for each in _LADDER]
    return [question]


def _groups(spread: Spread) -> int:
    return spread.groups * spread.replicas


def _at(
    question: Question,
    *,
    concurrency: float | None = None,
    request_rate: float | None = None,
    saturated: bool = False,
) -> Question:
    load = replace(
        question.load, concurrency=concurrency, request_rate=request_rate, saturated=saturated
    )
    return replace(question, load=load)


def _decoding(question: Question) -> Question:
    """The same, with prompts that cost nothing."""
    return replace(question, load=replace(question.load, prefix_hit=_CACHED))


def _prompts(question: Question) -> Question:
    """The same, with answers of one token."""
    return replace(question, load=replace(question.load, output_tokens=1.0))


def _prompt_engines(
    row: RowQuestion, *, request_rate: float | None = None, saturated: bool = False
) -> Question:
    if row.prefill is None:
        raise ValueError("only a disaggregated row has engines for prompts")
    load = Load(
        input_tokens=row.question.load.input_tokens,
        output_tokens=1.0,
        request_rate=request_rate,
        saturated=saturated,
    )
    return Question(row.prefill, load)


def _rated_questions(
    row: RowQuestion | Unpredictable, first: Sequence[Prediction]
) -> list[Question]:
    """Both roles of a disaggregated row at the rate that the slower one sustains."""
    if isinstance(row, Unpredictable) or row.kind is not RowKind.DISAGGREGATED:
        return []
    decode, prompts = first
    rate = min(decode.request_throughput, _BUSIEST * prompts.request_throughput)
    return [
        _at(_decoding(row.question), request_rate=rate),
        _prompt_engines(row, request_rate=rate),
    ]


def _answer(
    row: RowQuestion, first: Sequence[Prediction], second: Sequence[Prediction]
) -> RowAnswer:
    if row.kind in (RowKind.STATIC_BATCH, RowKind.PREFILL):
        return _static(row, *first)
    if row.kind is RowKind.DISAGGREGATED:
        return _two_roles(row, first[1], *second)
    if row.kind is RowKind.UNDER_LIMITS:
        return _under_limits(row, first)
    return _plain(row, first[0])


def _plain(row: RowQuestion, said: Prediction) -> RowAnswer:
    return RowAnswer(
        ttft_ms=said.ttft_ms,
        tpot_ms=said.tpot_ms,
        output_tok_s=said.output_throughput,
        fits=said.memory.fits,
        uncertainty=said.uncertainty,
        extrapolates=(*row.extrapolates, *said.extrapolates),
    )


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
    )


def _two_roles(
    row: RowQuestion, most: Prediction, decode: Prediction, prompts: Prediction
) -> RowAnswer:
    """Prompts at the rate of both roles, then a transfer, then answers.

    Little's law ties the rate to the requests under way; where engines for prompts are the
    slower role, what is not being answered waits for them.
    """
    load = row.question.load
    under_way = load.concurrency or 1.0
    answer_s = decode.tpot_ms / 1e3 * max(load.output_tokens - 1, 1.0)
    first_s = prompts.ttft_ms / 1e3 + _transfer_s(row)
    rate = min(under_way / (first_s + answer_s), most.request_throughput)
    first_s = max(first_s, under_way / rate - answer_s)
    said = _plain(row, decode)
    return replace(
        said,
        ttft_ms=first_s * 1e3,
        output_tok_s=rate * load.output_tokens,
        fits=decode.memory.fits and prompts.memory.fits,
        extrapolates=(*said.extrapolates, "prefill and decode are predicted apart"),
    )


def _transfer_s(row: RowQuestion) -> float:
    """The KV cache of one prompt over the network, from each rank that has a part of it."""
    configuration = row.prefill if row.prefill is not None else row.question.configuration
    element = 1.0 if configuration.quantization.kv_cache == "fp8" else 2.0
    whole = configuration.model.kv_bytes_per_token(element) * row.question.load.input_tokens
    parts = 1 if configuration.model.mla is not None else configuration.spread.tp
    return whole / parts / configuration.accelerator.network_bytes_per_s


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
