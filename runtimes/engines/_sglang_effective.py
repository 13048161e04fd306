"""What two SGLang commands have in common that serve alike, and what of one costs accuracy."""

from __future__ import annotations

from collections.abc import Mapping

from runtimes.engines._flags import FlagTable
from runtimes.engines._sglang_settings import NAME, Settings, made_of, settings_of, table_of
from runtimes.json_types import Json, short_hash
from runtimes.plan import EngineConfig
from runtimes.quantization import LOSSLESS

SPANNING_BACKENDS = frozenset(
    {
        "ascend_fuseep", "deepep", "deepep_v2", "flashinfer", "flashinfer_megamoe", "megamoe",
        "mooncake", "mori", "nixl", "pplx",
    }
)  # fmt: skip
"""Values of `--moe-a2a-backend` that spread the experts over all tensor-parallel ranks, whatever
`--ep-size` says (arg_groups/overrides.py, `_a2a_ep_size`)."""

PAGES_OF_64 = ("flashmla", "hpc_ops")
"""Attention backends that take pages of 64 tokens only (arg_groups/overrides.py)."""

_SYNONYMS: Mapping[str, Mapping[str, str]] = {
    "kv-cache-dtype": {"bfloat16": "bf16"},
    "dtype": {"half": "float16", "float": "float32"},
}
_MADE_BESIDE = {
    "w8a8_int8": "weights and activations in int8",
    "w4afp8": "experts in int4, other weights in fp8",
    "quark_int4fp8_moe": "experts in int4, other weights in fp8",
}
_KERNELS = ("dtype", "quantization", "kv-cache-dtype", "page-size", "enable-torch-compile")
_DEGREES = (
    "tp-size", "pp-size", "ep-size", "moe-dp-size", "attn-dp-size", "attn-cp-size", "dcp-size",
    "moe-dense-tp-size",
)  # fmt: skip


def effective(config: EngineConfig) -> Json:
    """The configuration without spelling: what SGLang would run, ports and addresses left out."""
    environment = config.environment
    return {
        "engine": NAME,
        "model": [config.model, config.revision],
        "nodes": config.nodes,
        "arguments": _distinct(settings_of(config), table_of(config)),
        "env": dict(config.env),
        "secrets": list[Json](sorted(config.secrets)),
        "environment": [
            environment.python,
            list(environment.requirements),
            list(environment.overrides),
            list(environment.wheels),
            environment.image,
            environment.container,
            environment.label,
        ],
    }


def compiled_kernels(config: EngineConfig) -> str:
    """Names the kernels a first start compiles: they follow from shapes, formats and backends."""
    settings = settings_of(config)
    chosen = {
        name: value
        for name, value in _distinct(settings, table_of(config)).items()
        if name in _KERNELS or name in _DEGREES or name.endswith("-backend")
    }
    version = config.environment.version_of(NAME)
    return f"{NAME}-{short_hash([config.model, config.revision, version, chosen])}"


def lossy_parts(config: EngineConfig) -> tuple[str, ...]:
    """What the command stores or computes in fewer bits than 16, in words.

    A checkpoint that is quantised already loses nothing by being served as it is.
    """
    settings = settings_of(config)
    method, cache = settings.text("quantization"), settings.text("kv-cache-dtype", "auto")
    parts = []
    if method in _MADE_BESIDE:
        parts.append(_MADE_BESIDE[method])
    elif made := made_of(method):
        parts.append(f"weights in {made}")
    if cache not in ("auto", "bfloat16", *LOSSLESS):
        parts.append(f"KV cache in {cache.removesuffix('_e4m3')}")
    return tuple(parts)


def _distinct(settings: Settings, table: FlagTable | None) -> dict[str, Json]:
    """Arguments that differ from what SGLang has or does without them."""
    values = dict(settings.values)
    numbers = {name: _number(settings, table, name) for name in values}
    values.update({name: number for name, number in numbers.items() if number is not None})
    for name, synonyms in _SYNONYMS.items():
        if (text := settings.text(name)) in synonyms:
            values[name] = synonyms[text]
    if settings.text("moe-a2a-backend", "none") in SPANNING_BACKENDS:
        values["ep-size"] = settings.degree("tp-size")
    if settings.degree("pp-size") > 1:
        values["disable-overlap-schedule"] = True  # `_pipeline_parallel_overlap_disable`
    if settings.text("attention-backend") in PAGES_OF_64:
        values["page-size"] = 64
    if settings.integer("moe-dense-tp-size") == settings.degree("tp-size"):
        del values["moe-dense-tp-size"]
    return {
        name: value
        for name, value in sorted(values.items())
        if value is not None and not (table and _restates(table, name, value))
    }


def _number(settings: Settings, table: FlagTable | None, name: str) -> int | float | None:
    """The number that is set for a count, which may be written `32k`, or for a fraction."""
    flag = table.find(name) if table else None
    if flag is not None and flag.kind == "float":
        return _fraction(settings.values.get(name))
    counted = flag is not None and flag.kind in ("int", "count")
    return settings.integer(name) if counted else None


def _fraction(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _restates(table: FlagTable, name: str, value: Json) -> bool:
    flag = table.find(name)
    absent = flag is not None and flag.kind == "switch" and value is False
    return absent or table.restates_default(name, value)
