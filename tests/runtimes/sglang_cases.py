"""Configurations whose SGLang commands stand in `tests/golden/sglang_commands.txt`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtimes.parallel import ParallelLayout as Layout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Precision, Quantization

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = "Qwen/Qwen3-235B-A22B"
VERSION = "0.5.23"

_config = partial(EngineConfig, "sglang", MODEL)

_LAYOUTS = {
    "one GPU": Layout(),
    "tensor parallel": Layout(tp=8),
    "tensor parallel over two GPUs": Layout(tp=2),
    "pipeline parallel": Layout(pp=2),
    "tensor and pipeline parallel": Layout(tp=4, pp=2),
    "replicas": Layout(dp=4),
    "replicas of two GPUs": Layout(tp=2, dp=4),
    "all three": Layout(tp=2, pp=2, dp=2),
    "experts over all ranks": Layout(tp=8, ep=8),
    "experts over half of the ranks": Layout(tp=8, ep=4),
    "experts by their other name": Layout(tp=8, moe_ep=8),
    "experts, and what follows for their ranks": Layout(tp=8, ep=4, moe_tp=2),
    "attention groups": Layout(tp=8, attention_dp=8),
    "fewer attention groups": Layout(tp=8, attention_dp=2),
    "attention groups and experts": Layout(tp=8, attention_dp=8, ep=8),
    "attention groups, experts and whole MLPs": Layout(tp=8, attention_dp=8, ep=8, moe_dense_tp=1),
    "MLPs over all ranks": Layout(tp=4, moe_dense_tp=4),
    "context parallel prefill": Layout(tp=4, cp=2),
    "context parallel prefill by its other name": Layout(tp=4, pcp=4),
    "context parallel decode": Layout(tp=8, dcp=2),
    "context parallel decode over more ranks": Layout(tp=8, dcp=8),
    "attention groups and context parallel prefill": Layout(tp=8, attention_dp=2, cp=2),
    "stages and experts": Layout(tp=4, pp=2, ep=4),
    "replicas and experts": Layout(tp=4, dp=2, ep=4),
}
_GEMMS: tuple[Precision, ...] = ("bf16", "fp16", "fp8", "fp8_channel", "mxfp8", "mxfp4", "nvfp4")
_CACHES: tuple[Precision, ...] = ("bf16", "fp8", "fp8_e5m2", "mxfp8", "nvfp4")
_PRECISIONS = {
    **{f"weights in {gemm}": Quantization(gemm=gemm) for gemm in _GEMMS},
    **{f"KV cache in {cache}": Quantization(kv_cache=cache) for cache in _CACHES},
    "weights and KV cache in fp8": Quantization(gemm="fp8", kv_cache="fp8"),
    "experts in int4": Quantization(gemm="fp8", moe="int4"),
    "experts as the other weights": Quantization(gemm="fp8", moe="fp8"),
}
_NODES = {
    "two nodes": _config(layout=Layout(tp=16), nodes=2),
    "two nodes of a stage each": _config(layout=Layout(tp=8, pp=2), nodes=2),
    "two nodes with attention groups": _config(
        layout=Layout(tp=16, attention_dp=16, ep=16), nodes=2
    ),
}
_OTHERS = {
    "a revision": _config(revision="main"),
    "a local folder": EngineConfig("sglang", "/path/to/a model"),
    "random weights": _config(dummy_weights=True),
    "the environment's own command": _config(environment=Environment("/opt/sglang/bin/python")),
    "an environment that is built": _config(
        environment=Environment(requirements=("sglang==0.5.23",))
    ),
    "the module of an environment without the command": _config(
        environment=Environment("/opt/sglang/bin/python"), options={"entrypoint": "module"}
    ),
    "numbers": _config(
        args={"mem-fraction-static": 0.85, "max-running-requests": 256, "stream-interval": 4}
    ),
    "a number below zero": _config(args={"chunked-prefill-size": -1}),
    "a number with a unit": _config(args={"context-length": "32k", "max-total-tokens": "1M"}),
    "switches on, off and left to the engine": _config(
        args={
            "enable-mixed-chunk": True,
            "disable-radix-cache": False,
            "page-size": None,
            "enable-fused-qk-norm-rope": False,
            "dllm-fdfo": True,
        }
    ),
    "a negative form": _config(args={"no-dllm-fdfo": True}),
    "lists": _config(args={"cuda-graph-bs-decode": [1, 2, 4, 8], "gc-threshold": [700, 10]}),
    "JSON": _config(args={"preferred-sampling-params": {"top_k": 20}}),
    "text that holds JSON": _config(args={"json-model-override-args": '{"rope_theta": 1e6}'}),
    "an alias": _config(args={"enable_hicache": True, "hicache_ratio": 2.0}),
    "arguments of the user's over layout and precision": _config(
        layout=Layout(tp=8, ep=8),
        quantization=Quantization(gemm="fp8"),
        args={"expert-parallel-size": 4, "quantization": "modelopt_fp8", "kv-cache-dtype": None},
    ),
    "experts carried by a backend": _config(
        layout=Layout(tp=8, attention_dp=8), args={"moe-a2a-backend": "deepep"}
    ),
}

CASES: dict[str, EngineConfig] = {
    **{name: _config(layout=layout) for name, layout in _LAYOUTS.items()},
    **{name: _config(layout=Layout(tp=8), quantization=q) for name, q in _PRECISIONS.items()},
    **{
        f"{name}, weights and KV cache in fp8": _config(
            layout=layout, quantization=Quantization(gemm="fp8", kv_cache="fp8")
        )
        for name, layout in _LAYOUTS.items()
    },
    **_NODES,
    **_OTHERS,
}


def sglang_python() -> Path | None:
    """Interpreter of an environment with SGLang on the CPU; None when there is none."""
    named = os.environ.get("SERVETUNE_SGLANG_PYTHON")
    if named:
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("SERVETUNE_CACHE") or base / "servetune")
    folder = cache / "venvs" / f"sglang-{VERSION}"
    return folder / "bin" / "python" if (folder / ".complete").exists() else None


_ASK = """
import json, sys
from sglang.srt.server_args import prepare_server_args
from sglang.srt.arg_groups.validation_hook import check_server_args

def answer(argv):
    try:
        arguments = prepare_server_args(argv)
        if sys.argv[1] == "resolve":
            arguments.resolve_once()
            check_server_args(arguments)
            return {"values": arguments.resolved_dict()}
        return {"values": {name: getattr(arguments, name, None) for name in NAMES}}
    except SystemExit as end:
        return {"refused": f"exit {end.code}"}
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}

NAMES = json.loads(sys.argv[2])
answers = [answer(argv) for argv in json.load(sys.stdin)]
print("ANSWERS " + json.dumps(answers, default=str))
"""


def ask_sglang(
    argvs: Sequence[Sequence[str]], home: Path, *, resolve: bool, names: Sequence[str] = ()
) -> list[Any]:
    """What the real SGLang makes of each argv: `{"values": …}`, or `{"refused": why}`.

    Args:
        argvs: arguments after `sglang serve`.
        home: a folder to write its caches to.
        resolve: True resolves and checks the arguments too, which reads the model's configuration;
            False only parses them.
        names: of the parsed values to give back.

    Skips the test when no environment with SGLang is there.
    """
    python = sglang_python()
    if python is None:
        pytest.skip(
            "no environment with SGLang: set SERVETUNE_SGLANG_PYTHON or run "
            "examples/sglang_cpu_env.py"
        )
    done = subprocess.run(
        [python, "-c", _ASK, "resolve" if resolve else "parse", json.dumps(list(names))],
        input=json.dumps([list(argv) for argv in argvs]),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "HOME": str(home), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.split("ANSWERS ", 1)[1])
    assert isinstance(answers, list)
    return answers
