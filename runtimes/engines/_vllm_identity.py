"""What two vLLM commands have in common that serve alike, whatever their spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict

from runtimes.engines._flags import FlagTable
from runtimes.engines._vllm_args import as_json, joined
from runtimes.engines._vllm_layout import EXECUTOR, EXPERT_PARALLEL, Spread
from runtimes.json_types import Json, canonical_json
from runtimes.plan import EngineConfig, Environment

_SAME = {
    "kv-cache-dtype": {"fp8_e4m3": "fp8"},
    "dtype": {"half": "float16", "float": "float32"},
}
"""Values that are two words for one thing (config/cache.py, config/model.py)."""
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_COMPILED = frozenset(
    {"all2all-backend", "attention-backend", "attention-config", "block-size"}
    | {"compilation-config", "dtype", "enable-dbo", "enable-eplb", EXPERT_PARALLEL}
    | {"enable-lora", "enable-prompt-embeds", "hf-overrides", "kernel-config", "kv-cache-dtype"}
    | {"linear-backend", "max-lora-rank", "max-loras", "max-model-len", "max-num-batched-tokens"}
    | {"moe-backend", "optimization-level", "quantization", "quantization-config"}
    | {"speculative-config", "spec-method", "spec-model", "spec-tokens", "ubatch-size"}
)
"""Arguments that change which kernels are compiled (`compute_hash` of vllm/config)."""


def meant(args: Mapping[str, Json], table: FlagTable | None) -> dict[str, Json]:
    """`args` with one spelling per meaning: numbers as numbers, JSON whole, dotted names in it."""
    whole: dict[str, Json] = {}
    for name in sorted(args):
        first, dot, _ = name.partition(".")
        if dot and args.get(first) is None:
            whole[first] = {}
        value = _count_or_json(args[name]) if dot else _value(first, args[name], table)
        if value is not None:
            whole[name] = value
    return joined(whole)


def _value(name: str, value: Json, table: FlagTable | None) -> Json:
    flag = table.find(name) if table else None
    if name == "optimization-level" and value is not None:
        return as_json(str(value).removeprefix("O"))
    if not isinstance(value, str) or flag is None:
        return value
    if flag.kind in ("int", "float", "json"):
        return as_json(value)
    return counted(value) if flag.kind == "count" else _SAME.get(name, {}).get(value, value)


def _count_or_json(value: Json) -> Json:
    """The value of a dotted name as the parser reads it: JSON, else a count, else text."""
    read = as_json(value)
    return counted(read) if isinstance(read, str) else read


def counted(text: str) -> Json:
    """`8k` is 8000, `8K` 8192, as utils/argparse_utils.py reads them; other text is kept."""
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    binary = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        return text
    number, unit = match.groups()
    return int(float(number) * {**units, **binary}[unit]) if unit else int(float(number))


def without_defaults(
    args: Mapping[str, Json], spread: Spread, config: EngineConfig, table: FlagTable | None
) -> dict[str, Json]:
    """`args` less what vLLM would do without them."""
    resolved = _resolved_defaults(args, spread, config)
    return {
        name: value
        for name, value in args.items()
        if not (table and table.restates_default(name, value))
        and not (name in resolved and canonical_json(resolved[name]) == canonical_json(value))
    }


def _resolved_defaults(
    args: Mapping[str, Json], spread: Spread, config: EngineConfig
) -> dict[str, Json]:
    """Defaults that vLLM works out after parsing, where they can be told without the model.

    Chunked prefill and prefix caching are on for every generative decoder (config/model.py,
    `is_prefix_caching_supported`). Asynchronous scheduling is on unless a drafter or a pipeline
    may forbid it (config/vllm.py).
    """
    found: dict[str, Json] = {
        "enable-chunked-prefill": True,
        "enable-prefix-caching": True,
        EXECUTOR: "mp" if spread.gpus > 1 else "uni",
        "api-server-count": spread.dp if config.nodes == 1 else None,
        "tokenizer": config.model,
    }
    drafts = any(name.startswith("spec") for name in args)
    if spread.pp == 1 and not drafts and "VLLM_USE_V2_MODEL_RUNNER" not in config.env:
        found["async-scheduling"] = True
    if spread.span == 1:
        found[EXPERT_PARALLEL] = True
    return found


def effective(
    args: Mapping[str, Json], spread: Spread, config: EngineConfig, table: FlagTable | None
) -> Json:
    """The identity of a configuration whose whole command has `args`; ports are no part of it."""
    kept = without_defaults(meant(args, table), spread, config, table)
    return {
        "engine": config.engine,
        "entrypoint": config.options.get("entrypoint", "serve"),
        "environment": environment_identity(config.environment),
        "model": config.model,
        "revision": config.revision,
        "args": kept,
        "env": dict(config.env),
        "secrets": list[Json](sorted(config.secrets)),
        "nodes": config.nodes,
    }


def environment_identity(environment: Environment) -> Json:
    """What of an environment can make a difference, as JSON."""
    read: Json = json.loads(canonical_json(asdict(environment)))
    return read


def compiles(
    args: Mapping[str, Json], spread: Spread, config: EngineConfig, table: FlagTable | None
) -> str:
    """Names the kernels of a first start; empty when nothing is compiled."""
    all_args = meant(args, table)
    level = str(all_args.get("optimization-level", "")).lstrip("O")
    compilation = all_args.get("compilation-config")
    mode = compilation.get("mode") if isinstance(compilation, dict) else None
    if all_args.get("enforce-eager") is True or level == "0" or mode in (0, "NONE"):
        return ""
    kept = without_defaults(all_args, spread, config, table)
    return canonical_json(
        {
            "environment": environment_identity(config.environment),
            "model": config.model,
            "revision": config.revision,
            "ranks": [spread.tp, spread.pp, spread.pcp, spread.dcp, min(spread.dp, 2)],
            "args": {name: value for name, value in kept.items() if name in _COMPILED},
            "env": dict(config.env),
        }
    )
