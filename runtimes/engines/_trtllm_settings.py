"""What TensorRT-LLM is told, each thing once: by its command line or by its YAML file.

Source: `tensorrt_llm/commands/serve.py` at 00209af1 (the 1.2 line). The file's values win over the
command line's, a section of the file replaces what the command line says of any of its keys, and
`--cluster_size` is read and then dropped. So whatever belongs to a section, and the clusters,
stand in the file only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from runtimes.engines._flags import FlagTable, table_for
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import Precision, Quantization

EXPERT_RANKS = "moe_expert_parallel_size"
EXPERT_SHARDS = "moe_tensor_parallel_size"
CLUSTERS = "moe_cluster_parallel_size"
ATTENTION_DP = "enable_attention_dp"
KV_DTYPE = "kv_cache_config.dtype"

_TO_FILE = {
    "free_gpu_memory_fraction": "kv_cache_config.free_gpu_memory_fraction",
    CLUSTERS: CLUSTERS,
}
_MEASURED: Mapping[str, Json] = {"enable_iter_perf_stats": True, "return_perf_metrics": True}
"""Without them the server has no figures to scrape."""
_WEIGHTS = {"bf16": "bfloat16", "fp16": "float16"}
_KV: Mapping[Precision, str] = {"fp8": "fp8", "nvfp4": "nvfp4"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What one server is told.

    Attributes:
        values: by name: an option of the command as its parser spells it, or a dotted key of the
            file. Mappings are taken apart, so that each value stands by itself.
        overridden: what the layout or the precision would have set and the user's arguments do.
    """

    values: Mapping[str, Json]
    overridden: tuple[str, ...] = ()

    def integer(self, name: str) -> int | None:
        """The value of `name` if it is a whole number."""
        value = self.values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def command(self) -> dict[str, Json]:
        """The part that the command line says."""
        return {name: value for name, value in self.values.items() if is_option(name)}

    @property
    def file(self) -> dict[str, Json]:
        """The part that the YAML file says, nested as there."""
        tree: dict[str, Json] = {}
        for name in sorted(self.values):
            if not is_option(name):
                _put(tree, name.split("."), self.values[name])
        return tree

    @property
    def deviating(self) -> dict[str, Json]:
        """Values that are not what the engine has anyway."""
        return {
            name: value
            for name, value in self.values.items()
            if not (options() if is_option(name) else keys()).restates_default(name, value)
        }


def precision_of(config: EngineConfig) -> Quantization:
    """What a server of `config` computes and stores in; weights are as the checkpoint has them."""
    told, asked = settle(config).values, config.quantization
    if KV_DTYPE not in told:
        return asked
    cache = next((own for own, name in _KV.items() if name == told[KV_DTYPE]), None)
    return replace(asked, kv_cache=cache)


@cache
def options(version: str | None = None) -> FlagTable:
    """Options of `trtllm-serve`."""
    return table_for("tensorrt_llm", version) or FlagTable.of("", [])


@cache
def keys(version: str | None = None) -> FlagTable:
    """Keys of its YAML file, dotted; sections are among them."""
    return table_for("tensorrt_llm_yaml", version) or FlagTable.of("", [])


@cache
def everything(version: str | None = None) -> FlagTable:
    """Options and keys in one table; where both have a name, the option."""
    command = options(version)
    of_file = [flag for name, flag in keys(version).flags.items() if name not in command.flags]
    return FlagTable.of(command.version, [*command.flags.values(), *of_file])


def is_option(name: str) -> bool:
    """True for a name that the command line says."""
    return name in options().flags and name not in _TO_FILE


def settle(config: EngineConfig) -> Settings:
    """What a server of `config` is told; the user's arguments win over everything derived."""
    derived = {**_of_layout(config.layout), **_of_precision(config.quantization)}
    if config.dummy_weights:
        derived["load_format"] = "dummy"
    given = dict(flat(config.args))
    overridden = tuple(
        f"`{name}: {_shown(given[name])}` of the arguments wins over {_shown(value)}, which the "
        "layout or the precision asks for"
        for name, value in derived.items()
        if name in given and canonical_json(given[name]) != canonical_json(value)
    )
    return Settings({**_MEASURED, **derived, **given}, overridden)


def flat(args: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """`args` under their canonical names, mappings taken apart, numbers as numbers.

    None is left out: it leaves an argument to the engine.
    """
    for name in sorted(args):
        value = args[name]
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            own = canonical(f"{prefix}{name}")
            yield own, _typed(own, value)


def canonical(name: str) -> str:
    """What the user's `name` is called here: aliases and dashes resolved, its place chosen."""
    option = options().find(name)
    if option is not None:
        return _TO_FILE.get(option.name, option.name)
    key = keys().find(name)
    return key.name if key is not None else name.replace("-", "_")


def context_degree(layout: ParallelLayout) -> int:
    """The one context parallel degree there is, by whichever name the layout gives it."""
    return max(layout.cp, layout.pcp, layout.dcp)


def expert_group(layout: ParallelLayout) -> int:
    """Ranks that the experts of one pipeline stage spread over.

    `mapping.py`: those of tensor parallelism, times context parallelism where it is Helix.
    """
    return layout.tp * (layout.dcp if layout.dcp > 1 else 1)


def expert_ranks(layout: ParallelLayout, settings: Settings) -> int:
    """Ranks that hold different experts: as told, or what shards and clusters leave of the group.

    `mapping.py` divides; told neither ranks nor shards, it shards.
    """
    told, shards = settings.integer(EXPERT_RANKS), settings.integer(EXPERT_SHARDS)
    if told is not None or shards is None:
        return told or 1
    # No shards at all is refused; what is refused still has a command to show.
    return max(1, expert_group(layout) // ((shards or 1) * (settings.integer(CLUSTERS) or 1)))


def effective_layout(layout: ParallelLayout, settings: Settings) -> ParallelLayout:
    """`layout`, over which `settings` win; attention groups are all tensor ranks or none."""
    shards = settings.integer(EXPERT_SHARDS)
    return replace(
        layout,
        ep=max(1, expert_ranks(layout, settings)),
        attention_dp=layout.tp if settings.values.get(ATTENTION_DP) is True else 1,
        moe_tp=None if shards is None else max(1, shards),
        moe_ep=None,
        moe_cluster=max(1, settings.integer(CLUSTERS) or 1),
    )


def _of_layout(layout: ParallelLayout) -> dict[str, Json]:
    degrees = {
        "tensor_parallel_size": layout.tp,
        "pipeline_parallel_size": layout.pp,
        "context_parallel_size": context_degree(layout),
        CLUSTERS: layout.moe_cluster,
    }
    values: dict[str, Json] = {name: degree for name, degree in degrees.items() if degree > 1}
    ranks = max(layout.ep, layout.moe_ep or 1)
    if ranks > 1:
        values[EXPERT_RANKS] = ranks
    elif layout.moe_tp is not None:
        # One of the two is enough: the engine derives the other by division.
        values[EXPERT_SHARDS] = layout.moe_tp
    if layout.attention_dp > 1:
        values[ATTENTION_DP] = True
    if layout.dcp > 1:
        values["cp_config.cp_type"] = "HELIX"
    return values


def _of_precision(quantization: Quantization) -> dict[str, Json]:
    values: dict[str, Json] = {}
    if quantization.gemm in _WEIGHTS:
        values["dtype"] = _WEIGHTS[quantization.gemm]
    if quantization.kv_cache is not None and quantization.kv_cache in _KV:
        values[KV_DTYPE] = _KV[quantization.kv_cache]
    return values


def _typed(name: str, value: Json) -> Json:
    """A number that stands as text, as the number that the engine reads."""
    flag = everything().flags.get(name)
    if not isinstance(value, str) or flag is None or flag.kind not in ("int", "float"):
        return value
    try:
        return int(value) if flag.kind == "int" else float(value)
    except ValueError:
        return value


def _put(tree: dict[str, Json], path: list[str], value: Json) -> None:
    for part in path[:-1]:
        below = tree.get(part)
        if not isinstance(below, dict):
            below = tree[part] = {}
        tree = below
    tree[path[-1]] = value


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)
