"""Configurations whose TensorRT-LLM commands stand in `tests/golden/tensorrt_llm_commands.txt`.

    python -m tests.runtimes.trtllm_cases > tests/golden/tensorrt_llm_commands.txt

writes them anew.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial
from itertools import product

from runtimes.engines.tensorrt_llm import TensorRtLlmEngine
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import Quantization

MODEL = "meta-llama/Llama-3.3-70B-Instruct"
MOE = "deepseek-ai/DeepSeek-V3"
ENGINE = TensorRtLlmEngine()

config = partial(EngineConfig, "tensorrt_llm", MODEL)
mixture = partial(EngineConfig, "tensorrt_llm", MOE)

_LAYOUTS = {
    "one GPU": ParallelLayout(),
    "tensor parallel": ParallelLayout(tp=8),
    "pipeline parallel": ParallelLayout(pp=4),
    "both": ParallelLayout(tp=4, pp=2),
    "replicas": ParallelLayout(tp=2, dp=2),
    "context parallel": ParallelLayout(tp=2, cp=2),
    "context parallel, called prefill": ParallelLayout(tp=2, pcp=2),
}
_MIXTURES = {
    "expert parallel": ParallelLayout(tp=8, ep=8),
    "expert parallel by its other name": ParallelLayout(tp=8, moe_ep=8),
    "experts sharded and spread": ParallelLayout(tp=8, ep=4, moe_tp=2),
    "shards of experts alone": ParallelLayout(tp=8, moe_tp=2),
    "attention data parallel": ParallelLayout(tp=8, attention_dp=8),
    "attention data parallel, experts spread": ParallelLayout(tp=8, attention_dp=8, ep=8),
    "clusters of experts": ParallelLayout(tp=8, moe_cluster=2),
    "Helix": ParallelLayout(tp=4, dcp=2, ep=8),
    "two such replicas": ParallelLayout(tp=8, attention_dp=8, ep=8, dp=2),
    "experts and stages": ParallelLayout(tp=4, pp=2, ep=4),
}
_PRECISIONS = {
    "as the checkpoint": Quantization(),
    "KV cache in fp8": Quantization(kv_cache="fp8"),
    "bf16": Quantization(gemm="bf16"),
    "fp16, KV cache in 16 bits": Quantization(gemm="fp16", kv_cache="fp16"),
}


def _cases() -> dict[str, EngineConfig]:
    found = {
        f"{layout}; {precision}": config(layout=_LAYOUTS[layout], quantization=value)
        for layout, (precision, value) in product(_LAYOUTS, _PRECISIONS.items())
    }
    found |= {
        f"{layout}; {precision}": mixture(
            layout=_MIXTURES[layout], quantization=_PRECISIONS[precision]
        )
        for layout, precision in product(_MIXTURES, ("as the checkpoint", "KV cache in fp8"))
    }
    return found | _ARGUMENTS


_ARGUMENTS: dict[str, EngineConfig] = {
    "KV cache in nvfp4": mixture(quantization=Quantization(kv_cache="nvfp4")),
    "weights that the checkpoint has to have": mixture(quantization=Quantization(gemm="fp8_block")),
    "a revision": config(revision="main"),
    "a local folder": EngineConfig("tensorrt_llm", "/path/to/a model"),
    "an environment's own command": config(environment=Environment("/opt/trtllm/bin/python")),
    "an environment built on the node": config(
        environment=Environment(requirements=("tensorrt-llm==1.2.1",))
    ),
    "random weights": config(dummy_weights=True),
    "options, with dashes and aliases": config(
        args={
            "max-batch-size": 256,
            "max_num_tokens": 8192,
            "kv_cache_free_gpu_memory_fraction": 0.8,
        }
    ),
    "keys of the file, dotted": config(
        args={
            "kv_cache_config.enable_block_reuse": False,
            "cuda_graph_config.batch_sizes": [1, 2, 4],
            "moe_config.backend": "CUTLASS",
        }
    ),
    "keys of the file, nested": config(
        args={"speculative_config": {"decoding_type": "NGram", "max_draft_len": 4}}
    ),
    "switches on, off and left to the engine": config(
        args={"enable_chunked_prefill": True, "trust_remote_code": False, "max_seq_len": None}
    ),
    "a list that repeats its option": config(args={"custom_module_dirs": ["/one", "/two more"]}),
    "text that YAML would take for something else": config(
        args={"tokenizer": "-slow", "moe_config.backend": "no", "attn_backend": "a: b"}
    ),
    "small and large numbers": config(
        args={"batch_wait_timeout_ms": 0.00001, "kv_cache_config.host_cache_size": 1 << 40}
    ),
    "arguments win over layout and precision": mixture(
        layout=ParallelLayout(tp=8, ep=8),
        quantization=Quantization(kv_cache="fp8"),
        args={"ep_size": 4, "kv_cache_config.dtype": "auto", "enable_attention_dp": True},
    ),
    "two nodes, by hand": config(layout=ParallelLayout(tp=8, pp=2), nodes=2),
}

CASES = _cases()


def golden_text() -> str:
    """The whole file: a heading, the GPUs, each process's command, its file, the pasted form."""
    return "\n".join(_block(name, case) for name, case in CASES.items())


def _block(name: str, case: EngineConfig) -> str:
    plan = ENGINE.plan(case)
    lines = [f"# {name}: {case.layout}, {case.quantization}, {plan.gpus} GPUs"]
    for process in plan.processes:
        lines.append(f"[{process.gpus}] {shlex.join(process.argv)}")
    lines += [f"    {line}" for line in plan.processes[0].files["trtllm.yaml"].splitlines()]
    lines.append(f"paste: {plan.deploy[2]}")
    lines += [f"note: {note}" for note in plan.notes]
    lines += [f"lossy: {words}" for words in plan.lossy]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(golden_text())
