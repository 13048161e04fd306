"""What is left for the KV cache by each engine's own rule, and how many sequences that holds.

An estimate for engines that start, and a verdict that errs to fitting: what is said not to fit
exceeds the memory even with the least that an engine needs beside weights and KV cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtimes.fit import GIB
from runtimes.model import ModelFacts
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits
from search.perfmodel._memory_shares import Shares, shares_of
from search.perfmodel.answer import Memory
from search.perfmodel.layers import LayerGroup, spread_layers
from search.perfmodel.question import Configuration
from search.perfmodel.spread import Spread

Floats = npt.NDArray[np.float64]

_MIB = float(1 << 20)
_RUNTIME = 3.0 * GIB
"""CUDA context, captured graphs, workspaces and fragments; aiconfigurator reserves 3.5 GiB."""
_BARE_RUNTIME = 0.55 * GIB
"""The context and loaded kernels alone (aiconfigurator, its safety margin left out)."""
_DEGREES = (1, 2, 4, 8)
_COLLECTIVES = (0.0, 342 * _MIB, 392 * _MIB, 392 * _MIB)
"""NCCL's buffers by GPUs of a stage (aiconfigurator, `nccl_mem` of its systems)."""
_DENSE = (11.0, 6.5, 5.0, 5.0)
_EXPERTS = (22.0, 13.0, 10.0, 10.0)
"""Live activations per token, in vectors as wide as all heads, by tensor-parallel ranks: of dense
models and of mixtures of experts (aiconfigurator, `c_dict` of its backends)."""
_SGLANG = 1.5
"""What SGLang keeps alive over the others (aiconfigurator, `sglang_backend.py`)."""
_ACTIVATION_BYTES = 2.0
_LOGIT_BYTES = 4.0
_LEAST_ACTIVATIONS = 70 * _MIB
_LEAST_TOKENS = 2048.0
"""Tokens of a step that any engine can be told to be content with."""


class _Row(NamedTuple):
    """One configuration in numbers; see `MemoryBudgets` and `ServingLimits`."""

    groups: float
    capacity: float
    weights: float
    kv_per_token: float
    window_per_token: float
    state: float
    window: float
    window_pool: float
    block: float
    step_tokens: float
    longest: float
    collectives: float
    token_activations: float
    logits: float
    fraction: float
    kv_bytes: float
    kv_outright: bool
    static: bool
    free: bool


class MemoryBudgets:
    """Memory of deployments side by side: arrays [configurations] of bytes on the fullest GPU.

    Attributes:
        weights, activations, collectives, runtime: what is not KV cache.
        capacity: memory of the accelerator.
        kv_budget: what the engine's rule leaves for the KV cache; negative when nothing is left.
        kv_per_token: one token in the layers that attend to all of a sequence.
        groups: attention groups of a replica; each runs sequences of its own (a count).
    """

    def __init__(self, configurations: Sequence[Configuration]) -> None:
        rows = [_row(each) for each in configurations]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(_Row._fields))
        self._given = given = dict(zip(_Row._fields, table.T, strict=True))
        self.groups = given["groups"]
        self.capacity = given["capacity"]
        self.weights = given["weights"]
        self.collectives = given["collectives"]
        self.kv_per_token = given["kv_per_token"]
        self.activations = self._activations(given["step_tokens"])
        self.runtime = np.full(len(rows), _RUNTIME)
        self.kv_budget = self._budget(self.activations, _RUNTIME)
        least = self._activations(np.minimum(given["step_tokens"], _LEAST_TOKENS))
        self._most = np.maximum(self.kv_budget, self._budget(least, _BARE_RUNTIME))

    def kv_bytes(self, sequence_tokens: Floats) -> Floats:
        """Bytes that one running sequence of so many tokens takes on one rank.

        Whole blocks; of layers with a window no more than the engine keeps; of linear attention
        its state, however long the sequence.
        """
        given, tokens = self._given, self._rounded(sequence_tokens)
        windowed = self._windowed(tokens)
        result: Floats = (
            given["kv_per_token"] * tokens + given["window_per_token"] * windowed + given["state"]
        )
        return result

    def max_sequences(self, sequence_tokens: Floats) -> Floats:
        """Sequences of so many tokens that the KV cache of one attention group holds, whole ones.

        At least one wherever it fits at all.
        """
        free = self._budget_for(sequence_tokens) - self._passing(sequence_tokens)
        one = self.kv_bytes(sequence_tokens)
        held = np.floor(free / np.where(one > 0, one, 1.0) + 1e-9)
        return np.where(self.short_by(sequence_tokens) > 0, 0.0, np.maximum(held, 1.0))

    def short_by(self, sequence_tokens: Floats) -> Floats:
        """Bytes by which one sequence of `needed_tokens` does not fit, 0 where it does."""
        needed = self._alone(self.needed_tokens(sequence_tokens))
        result: Floats = np.maximum(needed - self._most, 0.0)
        return result

    def needed_tokens(self, sequence_tokens: Floats) -> Floats:
        """Length that must have room: so many tokens, or the longest that an engine reserves."""
        result: Floats = np.maximum(sequence_tokens, self._given["longest"])
        return result

    def memories(
        self, sequence_tokens: Floats, sequences: Floats, grown_tokens: Floats | None = None
    ) -> list[Memory]:
        """The parts while so many sequences of so many tokens run in each replica.

        Where one sequence fits only just, `runtime` and `activations` are what that leaves.

        Args:
            sequence_tokens: full length; one such sequence has to have room.
            sequences: how many run at once in each replica.
            grown_tokens: mean length of those that run; the full one by default.
        """
        budget = self._budget_for(sequence_tokens)
        spared = budget - self.kv_budget
        runtime = np.maximum(self.runtime - spared, _BARE_RUNTIME)
        fewer = np.maximum(spared - (self.runtime - runtime), 0.0)
        activations = np.maximum(self.activations - fewer, _LEAST_ACTIVATIONS)
        grown = sequence_tokens if grown_tokens is None else grown_tokens
        kv_cache = self.kv_bytes(grown) * sequences / self.groups
        held = self.max_sequences(sequence_tokens) * self.groups
        one = self.needed_tokens(sequence_tokens)
        columns = (
            self.weights, activations, self.collectives, runtime, kv_cache, budget,
            self.capacity, held, self.short_by(sequence_tokens), one, self.kv_bytes(one),
        )  # fmt: skip
        return [Memory(*map(float, each)) for each in np.stack(columns).T]

    def _budget(self, activations: Floats, runtime: float) -> Floats:
        """Bytes for the KV cache: see `ServingLimits.fraction_of`; never more than there is."""
        given = self._given
        fraction, beside = given["fraction"], self.collectives + runtime
        left = self.capacity - self.weights - activations - beside
        total = fraction * self.capacity - self.weights - activations - beside
        loaded = self.capacity - self.collectives - _BARE_RUNTIME
        static = np.minimum(fraction * loaded - self.weights, left + activations)
        free = np.where(left > 0, fraction, 1.0) * left
        budget = np.where(given["static"] > 0, static, np.where(given["free"] > 0, free, total))
        explicit = given["kv_bytes"]
        outright = np.where(given["kv_outright"] > 0, np.minimum(explicit, left), budget)
        result: Floats = np.minimum(outright, np.where(explicit > 0, explicit, np.inf))
        return result

    def _activations(self, step_tokens: Floats) -> Floats:
        given = self._given
        live = given["token_activations"] * step_tokens
        result: Floats = np.maximum(live, _LEAST_ACTIVATIONS) + given["logits"]
        return result

    def _budget_for(self, sequence_tokens: Floats) -> Floats:
        """The budget, and where that is short of one sequence, what can be had for it."""
        result: Floats = np.maximum(
            self.kv_budget, np.minimum(self._alone(sequence_tokens), self._most)
        )
        return result

    def _alone(self, sequence_tokens: Floats) -> Floats:
        """Bytes of one sequence while its prompt is computed."""
        return self.kv_bytes(sequence_tokens) + self._passing(sequence_tokens)

    def _passing(self, sequence_tokens: Floats) -> Floats:
        """Bytes of a step's tokens in layers with a window, held until the step is over."""
        given, tokens = self._given, self._rounded(sequence_tokens)
        beyond = np.minimum(given["step_tokens"], tokens - self._windowed(tokens))
        result: Floats = given["window_per_token"] * beyond
        return result

    def _windowed(self, tokens: Floats) -> Floats:
        """Of so many tokens, those that a layer with a window keeps."""
        given = self._given
        kept = np.maximum(given["window"], given["window_pool"] * tokens)
        result: Floats = np.minimum(tokens, kept)
        return result

    def _rounded(self, tokens: Floats) -> Floats:
        block = self._given["block"]
        result: Floats = np.ceil(tokens / block) * block
        return result


def least_runtime_bytes(gpus: int) -> float:
    """The least that an engine needs on each of `gpus` beside weights, activations and KV cache:
    the context, loaded kernels, and buffers of collectives.
    """
    return _BARE_RUNTIME + _interpolated(_COLLECTIVES, gpus)


def memory_of(configuration: Configuration, *, sequence_tokens: float, sequences: float) -> Memory:
    """Memory of one deployment.

    Args:
        configuration: the deployment.
        sequence_tokens: length of each sequence, prompt and answer.
        sequences: how many run at once in each replica.
    """
    budgets = MemoryBudgets([configuration])
    return budgets.memories(np.array([sequence_tokens]), np.array([sequences]))[0]


def explain(memory: Memory, accelerator_name: str) -> str:
    """Whether it fits, in words: what is too large and by how much, or the largest batch."""
    parts = {
        "weights": memory.weights,
        "activations": memory.activations,
        "communication buffers": memory.collectives,
        "the runtime": memory.runtime,
    }
    listed = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
    device = f"{accelerator_name} with {_gib(memory.capacity)}"
    if memory.fits:
        return (
            f"fits on {device}: {listed}; {_gib(memory.kv_budget)} for the KV cache hold "
            f"{memory.max_sequences:,.0f} sequences of this length"
        )
    if memory.weights > memory.capacity:
        over = _gib(memory.weights - memory.capacity)
        return f"does not fit on {device}: the weights take {_gib(memory.weights)}, {over} too many"
    return (
        f"does not fit on {device}: {listed} leave {_gib(max(0.0, memory.kv_budget))} for the KV "
        f"cache, {_gib(memory.short_by)} short of one sequence"
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _row(configuration: Configuration) -> _Row:
    model, limits, spread = configuration.model, configuration.limits, configuration.spread
    shares, tp, cp, kv_split = _placed(
        model, configuration.quantization, spread, configuration.layers
    )
    coefficients = _EXPERTS if model.is_moe else _DENSE
    live = _ACTIVATION_BYTES * _width(configuration) * _interpolated(coefficients, tp)
    if configuration.engine == "sglang":
        live *= _SGLANG
    kv_bytes, outright = _kv_limit(limits, shares.full + shares.windowed)
    return _Row(
        groups=spread.groups,
        capacity=configuration.accelerator.memory_bytes,
        weights=shares.weights,
        kv_per_token=shares.full,
        window_per_token=shares.windowed,
        state=shares.state,
        window=model.sliding_window,
        window_pool=limits.window_pool,
        block=max(1, limits.block_size) * kv_split,
        step_tokens=limits.max_num_batched_tokens,
        longest=limits.max_model_len if limits.reserves_longest else 0,
        collectives=_interpolated(_COLLECTIVES, spread.stage_gpus),
        token_activations=live / cp,
        logits=_LOGIT_BYTES * limits.max_num_seqs * (1 + limits.draft_tokens) * model.vocab / tp,
        fraction=limits.memory_fraction,
        kv_bytes=kv_bytes,
        kv_outright=outright,
        static=limits.fraction_of == "static",
        free=limits.fraction_of == "free",
    )


@lru_cache(maxsize=4096)
def _placed(
    model: ModelFacts, quantization: Quantization, spread: Spread, layers: tuple[LayerGroup, ...]
) -> tuple[Shares, int, int, int]:
    """What one GPU holds; ranks that share attention, a prompt, and a sequence's KV cache.

    Of attention with several degrees, those of the fewest ranks: they need most.
    """
    groups = layers or spread_layers(model, spread)
    shares = shares_of(model, quantization, groups, spread.pp)
    attending = [group for group in groups if group.kind.attends]
    if not attending:
        return shares, 1, 1, 1
    least = min(attending, key=lambda group: group.tp)
    return shares, least.tp, least.cp, least.kv_split


def _width(configuration: Configuration) -> int:
    """Elements of a token's vector over all heads."""
    model = configuration.model
    return model.heads * (model.mla.value if model.mla is not None else model.head_dim)


@cache
def _interpolated(values: tuple[float, ...], degree: int) -> float:
    """The value at a degree between those of `_DEGREES`, and the last beyond them."""
    return float(np.interp(degree, _DEGREES, values))


def _kv_limit(limits: ServingLimits, token_bytes: float) -> tuple[float, bool]:
    """Bytes that the KV cache is limited to, 0 for none, and whether they are given outright."""
    if limits.kv_cache_bytes:
        return float(limits.kv_cache_bytes), True
    return limits.kv_cache_tokens * token_bytes, False
