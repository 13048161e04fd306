"""What the vLLM engine says of a configuration, and models to ask it about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runtimes.engines.vllm import VllmEngine
from runtimes.hardware import find_accelerator
from runtimes.json_types import Json
from runtimes.model import MlaShape, ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import CheckpointQuantization, Quantization

ENGINE = VllmEngine()
TINY = ModelFacts("tiny", 4, 128, 4, 2, 32, 256, 2048, max_context=4096, source="config.json")
LLAMA = ModelFacts("llama", 80, 8192, 64, 8, 128, 28672, 128256, max_context=131072)
MIXTURE = replace(TINY, heads=8, experts=8, experts_per_token=2, moe_intermediate=96)
LATENT = replace(MIXTURE, kv_heads=8, mla=MlaShape(0, 512, 128, 64, 128))
FP8 = replace(TINY, quantization=CheckpointQuantization("fp8", "fp8"))
AWQ = replace(TINY, quantization=CheckpointQuantization("awq", "int4"))


def refused(
    model: ModelFacts | None = LLAMA,
    *,
    args: Mapping[str, Json] | None = None,
    layout: ParallelLayout | None = None,
    quantization: Quantization | None = None,
    env: Mapping[str, str] | None = None,
    accelerator: str | None = None,
    nodes: int = 1,
    version: str | None = None,
    options: Mapping[str, Json] | None = None,
) -> str | None:
    """`rule: message` of what breaks first; None when nothing does."""
    config = EngineConfig(
        "vllm",
        "m",
        layout=layout or ParallelLayout(),
        quantization=quantization or Quantization(),
        args=args or {},
        env=env or {},
        environment=Environment("/opt/vllm/bin/python", version=version),
        options=options or {},
        nodes=nodes,
    )
    device = find_accelerator(accelerator) if accelerator else None
    refusal = ENGINE.refuse(config, model, device)
    return None if refusal is None else f"{refusal.rule}: {refusal.message}"


def layout_of(**degrees: int) -> ParallelLayout:
    return ParallelLayout(**degrees)
