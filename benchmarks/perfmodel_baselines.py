"""Two simpler models beside the performance model: the same operators at one share of every peak.

Counts and sizes, memory and the balance of continuous batching are the performance model's, so
that what differs is what was measured: efficiency curves, latencies and engines' overheads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from runtimes.hardware import Accelerator
from search.perfmodel import operators
from search.perfmodel.batch import Batch, Outcomes
from search.perfmodel.communication import Fabric
from search.perfmodel.efficiency import Efficiencies
from search.perfmodel.overheads import EngineOverheads, Scales
from search.perfmodel.question import Question

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Shares of peak figures, and times, that hold for all operators, engines and accelerators.

    Attributes:
        mfu, mbu, kv_mbu: of the arithmetic, of the bytes of weights and activations, and of those
            of the KV cache.
        link: of the bandwidth of links and network.
        collective_s: latency of one collective.
        layer_s, step_s, sequence_s: as in `EngineOverheads`.
    """

    mfu: float
    mbu: float
    kv_mbu: float
    link: float
    collective_s: float
    layer_s: float
    step_s: float
    sequence_s: float


IDEAL = Constants(
    mfu=1.0, mbu=1.0, kv_mbu=1.0, link=1.0,
    collective_s=0.0, layer_s=0.0, step_s=0.0, sequence_s=0.0,
)  # fmt: skip
"""The plain roofline: every peak is reached, and nothing else takes time."""
CONSTANT = Constants(
    mfu=0.6, mbu=0.75, kv_mbu=0.7, link=0.5,
    collective_s=8e-6, layer_s=5e-6, step_s=1e-3, sequence_s=5e-6,
)  # fmt: skip
"""Usual shares and overheads, fitted to nothing."""


def baseline(questions: Sequence[Question], constants: Constants) -> Outcomes:
    """What `questions` come to at constant shares of the peaks."""
    overheads = EngineOverheads(
        gemm=1.0, attention=1.0, reading=1.0, experts=1.0, expert_reading=1.0, communication=1.0,
        imbalance=1.0, routing=1.0, layer_s=constants.layer_s, moe_layer_s=0.0,
        sequence_s=constants.sequence_s, step_s=constants.step_s, prompt_s=0.0,
        queue=0.0, cohort=0.0, first_token_s=0.0,
    )  # fmt: skip
    scales = Scales.of([overheads] * len(questions))
    with ExitStack() as stack:
        for name, value in _flat(constants).items():
            stack.enter_context(patch.object(operators, name, value))
        return _ConstantBatch(questions, constants).outcomes(scales)


def _flat(constants: Constants) -> dict[str, float]:
    """The constants of `operators` that make experts and decode attention differ from the rest."""
    return {
        "_DECODE_MFU": constants.mfu,
        "_EXPERT_MBU": constants.mbu,
        "_INT4_EXPERT_MBU": constants.mbu,
        "_EXPERT_TOKENS": 1e-9,
        "_EXPERT_WIDTH": 0.0,
    }


class _ConstantBatch(Batch):
    def __init__(self, questions: Sequence[Question], constants: Constants) -> None:
        super().__init__(questions)
        accelerators = list(dict.fromkeys(each.configuration.accelerator for each in questions))
        self.efficiencies = _ConstantEfficiencies(accelerators, constants)
        self._fabric = _ConstantFabric(accelerators, constants)


class _ConstantEfficiencies(Efficiencies):
    def __init__(self, accelerators: Sequence[Accelerator], constants: Constants) -> None:
        self._constants = constants
        super().__init__(accelerators)

    def gemm_mfu(self, accelerator: Ints, fmt: Ints, tokens: Floats) -> Floats:
        return np.full(len(tokens), self._constants.mfu)

    def gemm_mbu(self, accelerator: Ints, fmt: Ints) -> Floats:
        return np.full(len(fmt), self._constants.mbu)

    def prefill_attention_mfu(self, accelerator: Ints, tokens: Floats) -> Floats:
        return np.full(len(tokens), self._constants.mfu)

    def decode_attention(self, accelerator: Ints, fmt: Ints) -> tuple[Floats, Floats]:
        return np.zeros(len(fmt)), np.full(len(fmt), self._constants.kv_mbu)

    def copy_mbu(self, accelerator: Ints) -> Floats:
        return np.full(len(accelerator), self._constants.mbu)


class _ConstantFabric(Fabric):
    """One latency for each collective, and one share of the links' bandwidth for its bytes."""

    def __init__(self, accelerators: Sequence[Accelerator], constants: Constants) -> None:
        super().__init__(accelerators)
        self._constants = constants
        self._links = np.array([one.link_bytes_per_s for one in accelerators])

    def point_to_point(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        seconds = self._constants.collective_s + bytes_ * self._hop(accelerator, ranks)
        return np.where(ranks > 1, seconds, 0.0)

    def ring(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        result: Floats = (ranks - 1) * self.point_to_point(accelerator, ranks, bytes_ / ranks)
        return result

    def _hop(self, accelerator: Ints, ranks: Ints) -> Floats:
        inside = 1 / (self._links[accelerator] * self._constants.link)
        network = 1 / (self._network[accelerator] * self._constants.link)
        return np.where(ranks > self._domain[accelerator], np.maximum(inside, network), inside)

    def _inside(self, accelerator: Ints, ranks: Ints, bytes_: Floats) -> Floats:
        ranks = np.minimum(ranks, self._domain[accelerator])
        volume = 2 * (ranks - 1) / ranks * bytes_
        seconds = self._constants.collective_s + volume / (
            self._links[accelerator] * self._constants.link
        )
        return np.where(ranks > 1, seconds, 0.0)

    def _with_network(
        self, accelerator: Ints, nodes: Ints, inside: Floats, share: Floats
    ) -> Floats:
        network = share / (self._network[accelerator] * self._constants.link)
        latency = np.where(nodes > 1, self._constants.collective_s, 0.0)
        result: Floats = latency + np.maximum(inside, network)
        return result
