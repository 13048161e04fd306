"""The simulator's command line: its own settings, then `--`, then the imitated vLLM's arguments."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtimes.parallel import ParallelLayout

ACCEPTED_FLAGS = Path(__file__).with_name("vllm_arguments.txt")
DEFAULT_MEMORY_FRACTION = 0.92
"""vLLM's own `--gpu-memory-utilization` (config/cache.py)."""
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}

# Flags the model of the engine follows; everything else vLLM knows is taken and said to be inert.
_FOLLOWED = frozenset(
    {"model_tag", "model", "host", "port", "served_model_name", "revision", "tokenizer"}
    | {"max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "max_model_len"}
    | {"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "quantization"}
    | {"enable_prefix_caching", "kv_cache_dtype", "block_size", "num_gpu_blocks_override"}
    | {"prefill_context_parallel_size", "decode_context_parallel_size", "enable_expert_parallel"}
    | {"distributed_executor_backend", "quantization_config", "headless", "nnodes", "node_rank"}
    | {"master_addr", "master_port", "data_parallel_address", "data_parallel_rpc_port"}
    | {"data_parallel_size_local", "data_parallel_start_rank", "load_format"}
    | {"enable_prompt_tokens_details"}
)


@dataclass(frozen=True, slots=True)
class OwnArguments:
    """Settings of the simulator itself.

    Attributes:
        port: 0 takes any free one.
        model: Hub id or folder whose shape is simulated.
        startup_s: from start to healthy.
        jitter: relative standard deviation of step durations.
        seed: of the jitter.
        engine_argv: what the imitated engine would have been given.
    """

    host: str
    port: int
    accelerator: str
    model: str
    imitates: str
    startup_s: float
    jitter: float
    seed: int
    engine_argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineArguments:
    """vLLM's arguments as far as the simulation follows them; None means vLLM's default.

    Attributes:
        layout: `ep` is the whole span of ranks where experts are spread over them.
        max_model_len: None takes the model's own.
        quantization: what the linear layers are quantised to.
        headless: True for a node that answers nobody.
        prompt_tokens_details: True says in every `usage` how much of the prompt was cached.
        inert: flags that were given and have no effect here.
    """

    served_name: str
    layout: ParallelLayout
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    gpu_memory_utilization: float
    max_model_len: int | None
    prefix_caching: bool
    kv_cache_dtype: str
    quantization: str | None
    block_size: int
    num_gpu_blocks_override: int | None
    headless: bool
    prompt_tokens_details: bool
    inert: tuple[str, ...]


def parse_own(argv: Sequence[str]) -> OwnArguments:
    """Read the simulator's settings; exits with status 2 when they are malformed."""
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    own, engine = words[:end], words[end + 1 :]
    parser = argparse.ArgumentParser("runtimes.simulator", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--imitates", default="vllm", choices=["vllm"])
    parser.add_argument("--startup-s", type=float, default=0.5)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args(own)
    if found.startup_s < 0 or not 0 <= found.jitter < 1:
        parser.error("--startup-s must not be negative and --jitter must be in [0, 1)")
    return OwnArguments(**vars(found), engine_argv=tuple(engine))


def parse_engine(argv: Sequence[str], model: str) -> EngineArguments:
    """Read vLLM's arguments; exits with status 2 and argparse's last line when vLLM would.

    `model` is the served name when neither `--served-model-name` nor a model stands in `argv`.
    """
    parser = _vllm_parser()
    found = parser.parse_args([_canonical(word) for word in argv])
    given = vars(found)
    served = found.served_model_name[0] if found.served_model_name else None
    return EngineArguments(
        served_name=served or found.model_tag or found.model or model,
        layout=_layout(parser, found),
        max_num_seqs=found.max_num_seqs,
        max_num_batched_tokens=found.max_num_batched_tokens,
        gpu_memory_utilization=(
            DEFAULT_MEMORY_FRACTION
            if found.gpu_memory_utilization is None
            else found.gpu_memory_utilization
        ),
        max_model_len=found.max_model_len,
        prefix_caching=found.enable_prefix_caching is not False,
        kv_cache_dtype=found.kv_cache_dtype or "auto",
        quantization=_quantization(found),
        headless=found.headless is True,
        prompt_tokens_details=found.enable_prompt_tokens_details is True,
        block_size=found.block_size or 16,
        num_gpu_blocks_override=found.num_gpu_blocks_override,
        inert=tuple(
            name.replace("_", "-")
            for name, value in given.items()
            if value is not None and name not in _FOLLOWED
        ),
    )


def _layout(parser: argparse.ArgumentParser, found: argparse.Namespace) -> ParallelLayout:
    degrees = {
        "tp": found.tensor_parallel_size,
        "pp": found.pipeline_parallel_size,
        "dp": found.data_parallel_size,
        "pcp": found.prefill_context_parallel_size,
        "dcp": found.decode_context_parallel_size,
    }
    try:
        layout = ParallelLayout(**{name: n for name, n in degrees.items() if n is not None})
    except ValueError as error:
        parser.error(str(error))
    spread = found.enable_expert_parallel is True
    return replace(layout, ep=layout.tp * layout.pcp * layout.dp) if spread else layout


def _quantization(found: argparse.Namespace) -> str | None:
    """The method of the linear layers; of several, `--quantization-config` names each."""
    method: str | None = found.quantization
    if method != "online":
        return method
    try:
        linear = json.loads(found.quantization_config or "{}").get("linear")
    except ValueError:
        return None
    return linear if isinstance(linear, str) else None


def _vllm_parser() -> argparse.ArgumentParser:
    """A parser that accepts what vLLM's accepts, from the table beside this file."""
    parser = argparse.ArgumentParser("vllm serve", allow_abbrev=False, usage="vllm serve [options]")
    parser.add_argument("model_tag", nargs="?")
    for line in ACCEPTED_FLAGS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            names, kind, *choices = line.split(" ")
            _add(parser, names.split(","), kind, choices[0].split("|") if choices else None)
    return parser


def _add(
    parser: argparse.ArgumentParser, names: list[str], kind: str, choices: list[str] | None
) -> None:
    if kind != "switch":
        nargs = {"texts": "+", "optional": "?"}.get(kind)
        parser.add_argument(*names, type=_TYPES.get(kind, str), nargs=nargs, choices=choices)
        return
    dest = names[0].removeprefix("--").replace("-", "_")
    parser.add_argument(*names, dest=dest, action="store_const", const=True)
    negatives = {name.replace("--", "--no-", 1) for name in names if name.startswith("--")}
    if names[0].startswith("--enable-"):
        negatives.add(names[0].replace("--enable-", "--disable-", 1))
    parser.add_argument(*sorted(negatives), dest=dest, action="store_const", const=False)


def human_readable_int(text: str) -> int | None:
    """`8192`, `8k` (8000), `8K` (8192); `auto` and `-1` are None, as vLLM reads lengths.

    Raises:
        ValueError: it is none of these.
    """
    if text in ("auto", "-1"):
        return None
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return int(float(match[1]) * _COUNT_UNITS[match[2]])


_TYPES: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "count": human_readable_int,
}


def _canonical(word: str) -> str:
    """As vLLM reads it: `--max_num_seqs` is `--max-num-seqs`, `--x.key v` a part of JSON `--x`."""
    if not re.match(r"--?[A-Za-z]", word):
        return word
    name, equals, value = word.partition("=")
    return name.split(".", 1)[0].replace("_", "-") + equals + value
