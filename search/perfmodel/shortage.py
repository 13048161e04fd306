"""Why a configuration cannot fit, told before a GPU is touched; silent where that is in doubt."""

from __future__ import annotations

import numpy as np

from runtimes.fit import GIB
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from search.perfmodel.memory import MemoryBudgets
from search.perfmodel.question import Configuration

_MARGIN = 0.02
"""Share of the accelerator's memory that a deployment has to be short by: what is predicted of
weights is exact to less, and what else an engine needs at the least is a guess."""
_CHANGE_SIZES = ("offload", "override", "quant", "dtype", "torchao", "load-format", "load_format")
"""Parts of the names of arguments, of any engine, that make weights or cache another size."""


def shortage_of(config: EngineConfig, configuration: Configuration, longest: int) -> str | None:
    """Why the weights and one request of `longest` tokens do not fit, and what to do.

    None where they do, where they may, and where sizes are not known for certain.
    """
    if not _sizes_known(config, configuration.model):
        return None
    budgets = MemoryBudgets([configuration])
    tokens = budgets.needed_tokens(np.array([float(longest)]))
    short = float(budgets.short_by(tokens)[0])
    if short <= _MARGIN * configuration.accelerator.memory_bytes:
        return None
    weights = float(budgets.weights[0]) / GIB
    cache = float(budgets.kv_bytes(tokens)[0]) / GIB
    capacity = configuration.accelerator.memory_bytes / GIB
    return (
        f"weights of {weights:.1f} GiB and one request of {tokens[0]:,.0f} tokens with "
        f"{cache:.1f} GiB of KV cache are {short / GIB:.1f} GiB per GPU more than "
        f"{configuration.engine} has left of {capacity:.1f} GiB, so that no batch "
        "fits; use more GPUs a replica, a smaller precision or a lower limit on lengths"
    )


def _sizes_known(config: EngineConfig, model: ModelFacts) -> bool:
    stored = model.quantization
    if stored is not None and stored.weights is None and not model.checkpoint_bytes:
        return False
    return not any(
        value not in (None, False) and any(part in name for part in _CHANGE_SIZES)
        for name, value in config.args.items()
    )
