"""One vLLM command before it is spelled: arguments by where they come from, and what wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.engines._flags import FlagTable
from runtimes.engines._vllm_args import joined, own_names
from runtimes.engines._vllm_layout import (
    DECODE_CONTEXT,
    EXPERT_PARALLEL,
    Spread,
    experts_wanted,
    layout_args,
    spread_of,
)
from runtimes.engines._vllm_precision import (
    DTYPE,
    KV_CACHE,
    QUANTIZATION,
    QUANTIZATION_CONFIG,
    precision_args,
)
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig

LOAD_FORMAT = "load-format"


@dataclass(frozen=True, slots=True)
class Command:
    """The arguments of one server under vLLM's own names.

    Attributes:
        layout, precision: what the neutral layout and precision come to, less what `given` has.
        given: the user's own.
        notes: what of the neutral values the user's arguments overrule, one sentence each.
    """

    spread: Spread
    layout: Mapping[str, Json]
    precision: Mapping[str, Json]
    given: Mapping[str, Json]
    notes: tuple[str, ...]

    @property
    def args(self) -> dict[str, Json]:
        """All of them."""
        return {**self.layout, **self.precision, **self.given}


def command_of(config: EngineConfig, table: FlagTable | None) -> Command:
    """The arguments of `config`; what a user gives wins over layout, precision and weights."""
    given = own_names(config.args, table)
    spread = spread_of(config.layout, given)
    layout = layout_args(spread, given, config.nodes)
    precision = precision_args(config.quantization, given)
    if config.dummy_weights and LOAD_FORMAT not in given:
        precision[LOAD_FORMAT] = "dummy"
    notes = (*_overruled_layout(config.layout, given), *_overruled_precision(config, given))
    # One object and its dotted parts stand together, or vLLM would drop the object.
    whole = joined({**precision, **given})
    return Command(
        spread=spread,
        layout=layout,
        precision={name: whole[name] for name in precision if name in whole and name not in given},
        given={name: whole[name] for name in given if name in whole},
        notes=notes,
    )


def _overruled_layout(layout: ParallelLayout, given: Mapping[str, Json]) -> list[str]:
    notes = []
    if EXPERT_PARALLEL in given and (given[EXPERT_PARALLEL] is True) != experts_wanted(layout):
        degree = max(layout.ep, layout.moe_ep or 1)
        notes.append(_wins(EXPERT_PARALLEL, given[EXPERT_PARALLEL], f"ep={degree}"))
    if DECODE_CONTEXT in given and given[DECODE_CONTEXT] != layout.dcp:
        notes.append(_wins(DECODE_CONTEXT, given[DECODE_CONTEXT], f"dcp={layout.dcp}"))
    return notes


def _overruled_precision(config: EngineConfig, given: Mapping[str, Json]) -> list[str]:
    wanted = precision_args(config.quantization, {})
    notes = []
    for name, value in given.items():
        if name in (QUANTIZATION, QUANTIZATION_CONFIG):
            ours = wanted.get(QUANTIZATION_CONFIG) or wanted.get(QUANTIZATION)
            beaten = ours is not None and value not in (ours, wanted.get(QUANTIZATION))
            words = _said(config, "gemm", "moe")
        elif name in (KV_CACHE, DTYPE):
            beaten = name in wanted and wanted[name] != value
            words = _said(config, "kv_cache") if name == KV_CACHE else _said(config, "gemm")
        else:
            continue
        if beaten:
            notes.append(_wins(name, value, words))
    if config.dummy_weights and given.get(LOAD_FORMAT, "dummy") != "dummy":
        notes.append(_wins(LOAD_FORMAT, given[LOAD_FORMAT], "weights: dummy"))
    return notes


def _said(config: EngineConfig, *parts: str) -> str:
    used = config.quantization.used
    return ", ".join(f"{part} {used[part]}" for part in parts if part in used)


def _wins(name: str, value: Json, loser: str) -> str:
    shown = value if isinstance(value, str) else canonical_json(value)
    return f"the argument {name}={shown} wins over {loser}."
