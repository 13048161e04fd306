"""What a configuration sets of SGLang's arguments, by their full names.

SGLang's parser is a plain argparse one: any unambiguous beginning of a name is taken for the name,
so that names are always written in full and aliases are told apart here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from runtimes.engines._flags import FlagTable, table_for
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import LOSSLESS, Precision, Quantization

NAME = "sglang"

DEGREES = frozenset(
    {"tp", "pp", "dp", "ep", "dcp", "pcp", "cp", "attention_dp", "moe_tp", "moe_ep", "moe_dense_tp"}
)
"""Degrees that SGLang has a word for."""

CP_STRATEGY = "zigzag"
"""How a prompt is split among ranks where the user names no way: each rank gets a piece of the
beginning and one of the end, so that all have equally much to attend to."""

GEMM_FLAGS: Mapping[Precision, tuple[str, str]] = {
    "bf16": ("dtype", "bfloat16"),
    "fp16": ("dtype", "float16"),
    "fp8": ("quantization", "fp8"),
    "fp8_channel": ("quantization", "w8a8_fp8"),
    "mxfp8": ("quantization", "mxfp8"),
    "mxfp4": ("quantization", "quark_mxfp4"),
    "nvfp4": ("quantization", "nvfp4_online"),
}
"""Weights that SGLang makes of a 16-bit checkpoint as it loads it (configs/model_config.py)."""

KV_FLAGS: Mapping[Precision, str] = {
    "bf16": "bf16",
    "fp8": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
}
"""Values of `--kv-cache-dtype`."""

MIXED_EXPERTS = Quantization(gemm="fp8", moe="int4")
"""The one precision of experts that differs from the other weights: method `w4afp8`, which takes
a checkpoint that was quantised so beforehand (layers/quantization/w4afp8.py)."""

_COUNT = re.compile(r"([+-]?\d+(?:\.\d+)?)((?:[KMGT]i)|[kMGT]|)")
_MULTIPLIERS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_MULTIPLIERS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

_DEGREE_FLAGS = {
    "tp": "tp-size",
    "pp": "pp-size",
    "dp": "dp-size",
    "dcp": "dcp-size",
    "attention_dp": "attn-dp-size",
    "moe_dense_tp": "moe-dense-tp-size",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments of one configuration, whatever they come from.

    Attributes:
        values: by full name; None was left to the engine by the user.
        notes: where an argument of the user's stands instead of layout or precision.
    """

    values: Mapping[str, Json]
    notes: tuple[str, ...] = field(default=())

    def integer(self, name: str, default: int | None = None) -> int | None:
        """The whole number set for `name`, `8k` and `8Ki` read; `default` for anything else."""
        found = _whole_number(self.values.get(name))
        return default if found is None else found

    def degree(self, name: str) -> int:
        """A degree of parallelism, 1 when it is not set."""
        return max(self.integer(name, 1) or 1, 1)

    def number(self, name: str) -> float | None:
        """The number set for `name`; None for anything else."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) and value is not True else None

    def text(self, name: str, default: str = "") -> str:
        """The text set for `name`; `default` for anything else."""
        value = self.values.get(name)
        return value if isinstance(value, str) else default

    def on(self, name: str) -> bool:
        """True when the switch `name` is set."""
        return self.values.get(name) is True


_MADE: Mapping[str, Precision] = {
    value: words for words, (name, value) in GEMM_FLAGS.items() if name == "quantization"
}


def made_of(method: str | None) -> Precision | None:
    """The format of the weights that a value of `--quantization` makes as the model is loaded."""
    return _MADE.get(method) if method else None


def precision_of(settings: Settings, asked: Quantization) -> Quantization:
    """What the arguments compute and store in; `asked` is what the precision asks for."""
    method, cache = settings.text("quantization"), settings.text("kv-cache-dtype")
    cache = "bf16" if cache == "bfloat16" else cache
    kept = next((own for own, name in KV_FLAGS.items() if name == cache), None)
    if method == "w4afp8":
        return replace(MIXED_EXPERTS, kv_cache=kept, attention=asked.attention)
    gemm = made_of(method) or (asked.gemm if asked.gemm in LOSSLESS else None)
    return Quantization(gemm, kept, asked.attention)


def table_of(config: EngineConfig) -> FlagTable | None:
    """The arguments that the environment's SGLang takes, as far as its version is known."""
    return table_for(NAME, config.environment.version_of(NAME))


def settings_of(config: EngineConfig) -> Settings:
    """What `config` sets: layout and precision, over which the user's own arguments win."""
    table = table_of(config)
    own = dict(_read(table, name, value) for name, value in sorted(config.args.items()))
    given = {**layout_values(config.layout), **precision_values(config.quantization)}
    if config.dummy_weights:
        given["load-format"] = "dummy"
    notes = tuple(_overridden(given, own))
    return Settings({**given, **own}, notes)


def _read(table: FlagTable | None, name: str, value: Json) -> tuple[str, Json]:
    return table.read(name, value) if table else (name.replace("_", "-"), value)


def layout_values(layout: ParallelLayout) -> dict[str, Json]:
    """Arguments of a layout; what it leaves alone is left out."""
    values: dict[str, Json] = {
        flag: getattr(layout, name)
        for name, flag in _DEGREE_FLAGS.items()
        if getattr(layout, name) not in (1, None)
        or (name == "moe_dense_tp" and layout.moe_dense_tp)
    }
    if (experts := experts_over(layout)) > 1:
        values["ep-size"] = experts
    if (prefill := max(layout.cp, layout.pcp)) > 1:
        values |= {"attn-cp-size": prefill, "enable-prefill-cp": True, "cp-strategy": CP_STRATEGY}
    return values


def experts_over(layout: ParallelLayout) -> int:
    """Ranks that hold different experts: `ep`, or `moe_ep` where only that is given."""
    return layout.moe_ep if layout.ep == 1 and layout.moe_ep else layout.ep


def precision_values(quantization: Quantization) -> dict[str, Json]:
    """Arguments of a precision, as far as SGLang has one for it."""
    values: dict[str, Json] = {}
    if (quantization.gemm, quantization.moe) == (MIXED_EXPERTS.gemm, MIXED_EXPERTS.moe):
        values["quantization"] = "w4afp8"
    elif quantization.gemm is not None and quantization.gemm in GEMM_FLAGS:
        flag, value = GEMM_FLAGS[quantization.gemm]
        values[flag] = value
    if quantization.kv_cache is not None and quantization.kv_cache in KV_FLAGS:
        values["kv-cache-dtype"] = KV_FLAGS[quantization.kv_cache]
    return values


def _overridden(given: Mapping[str, Json], own: Mapping[str, Json]) -> Iterator[str]:
    for name in sorted(set(given) & set(own)):
        if given[name] == own[name]:
            continue
        stands = "what the engine chooses" if own[name] is None else str(own[name])
        yield (
            f"--{name} is {stands}, as the arguments say; layout and precision say {given[name]}"
        )


def _whole_number(value: Json) -> int | None:
    """A count as SGLang's parser reads it (utils/common.py, `human_readable_int`)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _COUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    number, suffix = match.groups()
    return int(float(number) * {**_MULTIPLIERS, **_BINARY_MULTIPLIERS}[suffix])
