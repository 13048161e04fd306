"""What an engine adds to the physics of its operators: fitted factors and fixed times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from search.perfmodel.tables import Floats

EAGER_LAYER_S = 12 * 5e-6
"""Per decoder layer and step besides, where kernels are launched one by one and not as a captured
graph: a dozen kernels, 5 µs of the host each. Assumed, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOverheads:
    """Of one engine.

    Attributes:
        gemm, experts: factors on the time that matrices take to multiply.
        reading, expert_reading: factors on the time that their weights take to read.
        attention, communication: factors on the times of such operators.
        imbalance: tokens of the busiest expert rank over the mean.
        routing: `n` tokens choose as many experts as `n ** routing` that choose on their own.
        layer_s: per decoder layer and step: launches, small operators.
        moe_layer_s: per layer with experts and step, besides: gathering tokens by expert.
        sequence_s: per sequence and step: scheduling, sampling, detokenisation.
        step_s: per step.
        prompt_s: per prompt: tokenisation, admission; the steps of others wait for it.
        queue, queue_power: of `n` further sequences a new prompt waits for the prompts of
            `queue * n ** queue_power`: sequences that start together also end together.
        varied: share of that wait, and of `cohort`, where lengths vary.
        cohort: of the prompts that a step has room for, the share that comes together: sequences
            that start in one step end in one, where all answers are as long.
        first_token_s: until a request is first scheduled, and from its first token to the client.
    """

    gemm: float = 1.0
    attention: float = 1.0
    reading: float = 1.0
    experts: float = 1.2
    expert_reading: float = 1.1
    communication: float = 1.0
    imbalance: float = 1.2
    routing: float = 0.85
    layer_s: float = 20e-6
    moe_layer_s: float = 20e-6
    sequence_s: float = 15e-6
    step_s: float = 1e-3
    prompt_s: float = 2e-3
    queue: float = 1.0
    queue_power: float = 0.55
    varied: float = 0.25
    cohort: float = 0.3
    first_token_s: float = 0.05


NAMES = tuple(field.name for field in fields(EngineOverheads))


@dataclass(frozen=True, slots=True)
class Scales:
    """The overheads of many configurations, [configurations]; fields as in `EngineOverheads`."""

    gemm: Floats
    attention: Floats
    reading: Floats
    experts: Floats
    expert_reading: Floats
    communication: Floats
    imbalance: Floats
    routing: Floats
    layer_s: Floats
    moe_layer_s: Floats
    sequence_s: Floats
    step_s: Floats
    prompt_s: Floats
    queue: Floats
    queue_power: Floats
    varied: Floats
    cohort: Floats
    first_token_s: Floats

    @classmethod
    def of(cls, overheads: Sequence[EngineOverheads]) -> Scales:
        return cls(**{
            name: np.array([getattr(each, name) for each in overheads]) for name in NAMES
        })  # fmt: skip
