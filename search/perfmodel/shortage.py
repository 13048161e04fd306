"""Why a configuration cannot fit, told before a GPU is touched; silent where that is in doubt."""

from __future__ import annotations

from runtimes.fit import GIB
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig
from search.perfmodel.answer import Memory
from search.perfmodel.memory import memory_of
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
    memory = memory_of(configuration, sequence_tokens=longest, sequences=1.0)
    if memory.short_by <= _MARGIN * configuration.accelerator.memory_bytes:
        return None
    return (
        f"{shortage_words(memory, configuration.engine)}, so that no batch "
        "fits; use more GPUs a replica, a smaller precision or a lower limit on lengths"
    )


def shortage_words(memory: Memory, engine: str, load_tokens: float | None = None) -> str:
    """By how much `memory`, which does not hold one request, is too small for `engine`.

    `load_tokens` is the length of the load's requests: a longer one that must have room is that of
    the engine's limit on lengths, and the words say so.
    """
    limit = load_tokens is not None and memory.one_tokens > load_tokens
    whose = " (max-model-len)" if limit else ""
    return (
        f"weights of {memory.weights / GIB:.1f} GiB and one request of {memory.one_tokens:,.0f} "
        f"tokens{whose} with {memory.one_kv / GIB:.1f} GiB of KV cache are "
        f"{memory.short_by / GIB:.1f} GiB per GPU more than {engine} has left of "
        f"{memory.capacity / GIB:.1f} GiB"
    )


def _sizes_known(config: EngineConfig, model: ModelFacts) -> bool:
    stored = model.quantization
    if stored is not None and stored.weights is None and not model.checkpoint_bytes:
        return False
    return not any(
        value not in (None, False) and any(part in name for part in _CHANGE_SIZES)
        for name, value in config.args.items()
    )
