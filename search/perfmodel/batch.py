"""Questions side by side, as arrays, priced together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from runtimes.model import ModelFacts
from runtimes.node_curves import NodeCurves
from runtimes.quantization import Quantization
from search.perfmodel.answer import Memory
from search.perfmodel.communication import Fabric
from search.perfmodel.efficiency import Efficiencies
from search.perfmodel.formats import formats_of
from search.perfmodel.layers import spread_layers
from search.perfmodel.memory import MemoryBudgets
from search.perfmodel.operators import Costs, StepModel
from search.perfmodel.overheads import EAGER_LAYER_S, Scales
from search.perfmodel.question import Configuration, Question
from search.perfmodel.serving import Balance, Serving, Traffic
from search.perfmodel.spread import Spread
from search.perfmodel.tables import Floats, Operators, operators_of

_UNSTABLE = 0.98
"""Share of the highest rate from which on an open loop counts as unstable."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What questions come to, [questions]; rates over all replicas, `running` per replica.

    Attributes:
        waiting_s: of `ttft_s`, what passes before a request is first computed.
        decoding: sequences of a group that get a token in one step.
        stable: False when requests arrive faster than they can be served.
    """

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    request_rate: Floats
    running: Floats
    waiting_s: Floats
    decoding: Floats
    stable: npt.NDArray[np.bool_]


class Batch:
    """Everything about `questions` that does not hang on an engine's overheads.

    Attributes:
        efficiencies: rates of the accelerators of the questions.
        accelerator: of each question, as an index into them.
    """

    def __init__(self, questions: Sequence[Question], curves: Sequence[NodeCurves] = ()) -> None:
        self._configurations = [each.configuration for each in questions]
        accelerators = list(dict.fromkeys(each.accelerator for each in self._configurations))
        place = {accelerator: at for at, accelerator in enumerate(accelerators)}
        self.accelerator = np.array([place[each.accelerator] for each in self._configurations])
        self.efficiencies = Efficiencies(accelerators, curves)
        self._fabric = Fabric(accelerators, curves)
        self._operators = [operators(each) for each in self._configurations]
        self._layers = np.array([float(each.model.layers) for each in self._configurations])
        eager = [not each.limits.compiled_graphs for each in self._configurations]
        self._launch_s = np.array(eager) * EAGER_LAYER_S
        self._loads = _Loads(questions)
        self._shape = _Shape(self._configurations)
        self._budgets = MemoryBudgets(self._configurations)
        self._traffic = self._made_traffic()
        self._most = self._most_running()
        self._model: StepModel | None = None

    def serving(self, scales: Scales) -> Serving:
        """The questions' steps with these overheads."""
        scales = replace(scales, layer_s=scales.layer_s + self._launch_s)
        if self._model is None:
            self._model = StepModel(
                self._operators,
                self.accelerator,
                efficiencies=self.efficiencies,
                fabric=self._fabric,
                scales=scales,
                layers=self._layers,
            )
        self._model.scales = scales
        return Serving(self._model, self._traffic)

    def outcomes(self, scales: Scales) -> Outcomes:
        """Steady states under the questions' loads."""
        serving, shape, loads = self.serving(scales), self._shape, self._loads
        state = self._closed(serving, scales)
        if np.isfinite(loads.rate).any():
            state = self._opened(serving, state)
        balance = state.balance
        waiting = state.waiting_s + balance.queued_s
        ttft = balance.prompt_s + waiting + scales.first_token_s
        per_replica = shape.groups * shape.stages
        return Outcomes(
            ttft_s=ttft,
            tpot_s=balance.tpot_s,
            e2e_s=ttft + np.maximum(loads.output_tokens - 1, 0.0) * balance.tpot_s,
            request_rate=balance.rate * per_replica * shape.replicas,
            running=state.running * per_replica,
            waiting_s=waiting,
            decoding=balance.decoding,
            stable=state.stable,
        )

    def phases(self, scales: Scales, decoding: Floats) -> tuple[Costs, Costs]:
        """One decode step of so many sequences, and one prompt by itself."""
        serving = self.serving(scales)
        return serving.decode_costs(np.maximum(decoding, 1.0)), serving.prompt_costs()

    def memories(self, running: Floats) -> list[Memory]:
        """Memory of each question while so many sequences run in each replica."""
        loads = self._loads
        return self._budgets.memories(loads.longest, running, loads.half_grown)

    def _made_traffic(self) -> Traffic:
        loads, shape = self._loads, self._shape
        return Traffic(
            input_tokens=loads.input_tokens,
            new_tokens=np.maximum(loads.input_tokens * (1 - loads.prefix_hit), 1.0),
            output_tokens=loads.output_tokens,
            budget=np.where(shape.chunked, shape.budget, np.maximum(shape.budget, loads.longest)),
            accepted=shape.accepted,
            decode_tokens=shape.decode_tokens,
            equal_lengths=loads.equal_lengths,
        )

    def _most_running(self) -> Floats:
        """Sequences that may run at once in one group of ranks and one pipeline stage."""
        loads, shape = self._loads, self._shape
        answer = np.where(shape.reserves, loads.output_tokens, loads.output_tokens / 2)
        held = self._budgets.max_sequences(loads.input_tokens + answer)
        most: Floats = np.maximum(np.minimum(held, shape.max_sequences), 1.0) / shape.stages
        return most

    def _closed(self, serving: Serving, scales: Scales) -> _State:
        loads, shape, most = self._loads, self._shape, self._most
        wanted = loads.concurrency / (shape.replicas * shape.groups * shape.stages)
        running = np.where(np.isfinite(wanted), np.minimum(wanted, most), most)
        clients = np.where(np.isfinite(wanted), np.maximum(wanted, 1.0), np.inf)
        balance = serving.closed_loop(np.maximum(running, 1.0), clients)
        share = np.minimum(running, 1.0)
        balance = replace(balance, decoding=balance.decoding * share, rate=balance.rate * share)
        beside = wanted - running - balance.rate * scales.first_token_s
        queued = np.where(np.isfinite(wanted), np.maximum(beside, 0.0), 0.0)
        return _State(balance, running, queued / balance.rate, np.ones(len(running), dtype=bool))

    def _opened(self, serving: Serving, closed: _State) -> _State:
        """Where a rate is given: the balance at it, and an M/G/1 queue before it.

        A rate that cannot be kept up with saturates the engine.
        """
        loads, shape = self._loads, self._shape
        is_open = np.isfinite(loads.rate)
        highest = closed.balance.rate
        rate = np.where(is_open, loads.rate, 0.0)
        rate = rate / (shape.replicas * shape.groups * shape.stages)
        load = rate / highest
        stable = ~is_open | (load < _UNSTABLE)
        balance = serving.open_loop(np.minimum(rate, highest), self._most)
        load = np.minimum(load, _UNSTABLE)
        waiting = np.where(stable, load * balance.prompt_s / (2 * (1 - load)), np.inf)
        running = np.minimum(balance.decoding + rate * balance.prompt_s, self._most)

        def either(at_rate: Floats, otherwise: Floats) -> Floats:
            return np.where(is_open & stable, at_rate, otherwise)

        before = closed.balance
        merged = Balance(
            either(balance.tpot_s, before.tpot_s),
            either(balance.prompt_s, before.prompt_s),
            either(np.zeros_like(rate), before.queued_s),
            either(balance.decoding, before.decoding),
            either(np.minimum(rate, highest), before.rate),
        )
        waited = np.where(is_open, waiting, closed.waiting_s)
        return _State(merged, either(running, closed.running), waited, stable)


@dataclass(frozen=True, slots=True)
class _State:
    """A steady state of one group of ranks and pipeline stage, [questions]."""

    balance: Balance
    running: Floats
    waiting_s: Floats
    stable: npt.NDArray[np.bool_]


class _Loads:
    """Loads as arrays, [questions]; NaN where a load has no such figure."""

    def __init__(self, questions: Sequence[Question]) -> None:
        loads = [each.load for each in questions]
        self.input_tokens = np.array([float(each.input_tokens) for each in loads])
        self.output_tokens = np.array([float(each.output_tokens) for each in loads])
        self.prefix_hit = np.array([each.prefix_hit for each in loads])
        self.equal_lengths = np.array([each.equal_lengths for each in loads])
        self.concurrency = np.array(
            [np.nan if each.concurrency is None else each.concurrency for each in loads]
        )
        self.rate = np.array(
            [np.nan if each.request_rate is None else each.request_rate for each in loads]
        )
        self.longest = self.input_tokens + self.output_tokens
        self.half_grown = self.input_tokens + self.output_tokens / 2
        """Mean length of sequences that run: their answers are half there."""


class _Shape:
    """Counts of the configurations as arrays, [questions]."""

    def __init__(self, configurations: Sequence[Configuration]) -> None:
        spreads = [each.spread for each in configurations]
        limits = [each.limits for each in configurations]
        self.replicas = np.array([float(each.replicas) for each in spreads])
        self.groups = np.array([float(each.groups) for each in spreads])
        self.stages = np.array([float(each.pp) for each in spreads])
        self.budget = np.array([float(each.max_num_batched_tokens) for each in limits])
        self.reserves = np.array([each.reserves_answers for each in limits])
        self.chunked = np.array([each.chunked_prefill for each in limits])
        self.max_sequences = np.array([float(each.max_num_seqs) for each in limits])
        drafts = [each.speculation for each in configurations]
        self.decode_tokens = np.array([1.0 + (each.draft_tokens if each else 0) for each in drafts])
        self.accepted = np.array([_accepted(each) for each in configurations])


def _accepted(configuration: Configuration) -> float:
    """Tokens per step: (1 − a^(g+1)) / (1 − a) for g drafts (arXiv 2211.17192)."""
    speculation = configuration.speculation
    if speculation is None:
        return 1.0
    share, drafts = speculation.acceptance, speculation.draft_tokens
    if share >= 1:
        return 1.0 + drafts
    return (1 - share ** (drafts + 1)) / (1 - share)


def operators(configuration: Configuration) -> Operators:
    """The operators of a configuration, from its own layers or those of its spread."""
    model, spread = configuration.model, configuration.spread
    if not configuration.layers:
        return _spread_operators(model, spread, configuration.quantization)
    formats = formats_of(model, configuration.quantization)
    return operators_of(model, configuration.layers, formats, spread.pp)


@lru_cache(maxsize=4096)
def _spread_operators(model: ModelFacts, spread: Spread, quantization: Quantization) -> Operators:
    formats = formats_of(model, quantization)
    return operators_of(model, spread_layers(model, spread), formats, spread.pp)
