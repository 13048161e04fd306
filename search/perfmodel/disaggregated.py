"""Prompts on some engines, answers on others: their rates matched, and the KV cache carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtimes.node_curves import NodeCurves
from search.perfmodel.answer import Interval, Prediction
from search.perfmodel.fit import Fit
from search.perfmodel.memory import MemoryBudgets
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question

CACHED = 1 - 1e-9
"""Share of a prompt found in the cache where prompts cost nothing: what is left is decoding."""
_BUSIEST = 0.95
"""Share of the highest rate at which engines for prompts are asked at most: the queue before them
has no end beyond."""
_CAVEAT = "prefill and decode are predicted apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Engines that compute prompts, engines that answer, and what is sent to both.

    Each pool has `Configuration.spread.replicas` engines.
    """

    prefill: Configuration
    decode: Configuration
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class DisaggregatedPrediction:
    """What two pools do together.

    Attributes:
        whole: of both. Its TTFT is that of a prompt, waiting included, and the way of the KV
            cache; TPOT, the decode step and what runs are those of the engines that decode. Memory
            is that of the pool that lacks more of it, else of the one that decodes.
        prefill, decode: each pool by itself at the rate of both.
        prefill_rate, decode_rate: requests per second that each pool sustains at most.
        transfer_bytes: KV cache of one prompt that a rank sends or receives.
        transfer_ms: how long that takes.
        balance: engines for prompts per engine that decodes with which both sustain as much.
    """

    whole: Prediction
    prefill: Prediction
    decode: Prediction
    prefill_rate: float
    decode_rate: float
    transfer_bytes: float
    transfer_ms: float
    balance: float

    @property
    def prefill_limits(self) -> bool:
        """True where engines for prompts are the first that a rising rate is too much for."""
        return self.prefill_rate < self.decode_rate


def match_rates(
    asked: Sequence[Pools], *, curves: Sequence[NodeCurves] = (), fit: Fit | None = None
) -> list[DisaggregatedPrediction]:
    """Answers in the order of `asked`, of any deployments and loads; quickest all at once.

    Both pools are predicted at one rate: what the load asks for, and no more than the slower of
    them sustains (rate matching of ai-dynamo/aiconfigurator). `curves` and `fit` are as of
    `predict`.
    """

    def answered(questions: Sequence[Question]) -> list[Prediction]:
        return predict(questions, curves=curves, fit=fit)

    prompts = answered([_prompts(pools, saturated=True) for pools in asked])
    answers = answered([_answers(pools, saturated=True) for pools in asked])
    closed = [pools for pools in asked if pools.load.concurrency is not None]
    sent = iter(answered([_answers(pools, concurrency=pools.load.concurrency) for pools in closed]))
    highest, rates = [], []
    for pools, prompt, answer in zip(asked, prompts, answers, strict=True):
        most = _Highest(_BUSIEST * prompt.request_throughput, answer.request_throughput)
        wanted = pools.load.request_rate
        if pools.load.concurrency is not None:
            wanted = next(sent).request_throughput
        highest.append(most)
        rates.append(most.of_both if wanted is None else min(wanted, most.of_both))
    rated = list(zip(asked, rates, strict=True))
    prompts = answered([_prompts(pools, request_rate=rate) for pools, rate in rated])
    answers = answered([_answers(pools, request_rate=rate) for pools, rate in rated])
    return [_together(*each) for each in zip(asked, highest, rates, prompts, answers, strict=True)]


@dataclass(frozen=True, slots=True)
class _Highest:
    """Requests per second that each pool sustains."""

    prefill: float
    decode: float

    @property
    def of_both(self) -> float:
        return min(self.prefill, self.decode)


def _prompts(
    pools: Pools, *, request_rate: float | None = None, saturated: bool = False
) -> Question:
    """Prompts alone: answers of one token."""
    load = replace(
        pools.load, output_tokens=1.0, concurrency=None, request_rate=request_rate,
        saturated=saturated,
    )  # fmt: skip
    return Question(pools.prefill, load)


def _answers(
    pools: Pools,
    *,
    concurrency: float | None = None,
    request_rate: float | None = None,
    saturated: bool = False,
) -> Question:
    """Answers alone: prompts that cost nothing."""
    load = replace(
        pools.load, prefix_hit=CACHED, concurrency=concurrency, request_rate=request_rate,
        saturated=saturated,
    )  # fmt: skip
    return Question(pools.decode, load)


def _together(
    pools: Pools, highest: _Highest, rate: float, prompts: Prediction, answers: Prediction
) -> DisaggregatedPrediction:
    sent_bytes, transfer_ms = _transfer(pools)
    load = pools.load
    answer_ms = answers.tpot_ms * max(load.output_tokens - 1, 1.0)
    ttft_ms = prompts.ttft_ms + transfer_ms
    stable = True
    if load.concurrency is not None:
        # Little's law ties the rate to the requests under way. Where the engines for prompts are
        # the slower pool, what is not being answered waits for them.
        rate = min(1e3 * load.concurrency / (ttft_ms + answer_ms), highest.prefill / _BUSIEST)
        ttft_ms = max(ttft_ms, 1e3 * load.concurrency / rate - answer_ms)
    elif load.request_rate is not None:
        stable = load.request_rate <= rate and answers.stable
        ttft_ms = ttft_ms + answers.waiting_ms if stable else float("inf")
    computed_ms = prompts.ttft_ms - prompts.waiting_ms + transfer_ms
    whole = replace(
        answers,
        ttft_ms=ttft_ms,
        e2e_ms=ttft_ms + max(load.output_tokens - 1, 0.0) * answers.tpot_ms,
        request_throughput=rate,
        output_throughput=rate * load.output_tokens,
        total_throughput=rate * (load.output_tokens + load.input_tokens),
        gpus=prompts.gpus + answers.gpus,
        waiting_ms=ttft_ms - computed_ms,
        memory=max(answers.memory, prompts.memory, key=lambda memory: memory.short_by),
        prefill=prompts.prefill,
        ttft_interval_ms=_scaled(prompts.ttft_interval_ms, prompts.ttft_ms, ttft_ms),
        throughput_interval=_scaled(
            answers.throughput_interval, answers.output_throughput, rate * load.output_tokens
        ),
        extrapolates=tuple(dict.fromkeys((*answers.extrapolates, *prompts.extrapolates, _CAVEAT))),
        stable=stable,
    )
    engines = pools.prefill.spread.replicas / pools.decode.spread.replicas
    return DisaggregatedPrediction(
        whole=whole,
        prefill=prompts,
        decode=answers,
        prefill_rate=highest.prefill,
        decode_rate=highest.decode,
        transfer_bytes=sent_bytes,
        transfer_ms=transfer_ms,
        balance=engines * highest.decode / highest.prefill,
    )


def _transfer(pools: Pools) -> tuple[float, float]:
    """Bytes of one prompt's KV cache on the rank with the most, and ms over its network.

    Each rank sends or receives what it holds, all of them at once.
    """
    both = (pools.prefill, pools.decode)
    tokens = np.full(len(both), pools.load.input_tokens)
    held = MemoryBudgets(both).kv_bytes(tokens)
    slowest = max(
        (float(size) / each.accelerator.network_bytes_per_s, float(size))
        for size, each in zip(held, both, strict=True)
    )
    return slowest[1], 1e3 * slowest[0]


def _scaled(interval: Interval, of: float, to: float) -> Interval:
    """The interval of `of`, as wide in proportion around `to`."""
    return Interval(to * interval.low / of, to * interval.high / of)
