"""How long the performance model takes: many configurations at once, and many layers in one.

    python -m benchmarks.perfmodel_speed [--repeats 9] [--out FILE.json]

Ten thousand configurations, no two alike, over all catalogued models and all accelerators: CPU
time of all threads, the first time in this process, when nothing is cached, and the median of the
others. Then a model of 100 decoder layers, neighbours with different degrees: the time of
`phase_cost`, and of a whole request with both phases from the bytes of its body to those of the
answer. Layouts change from repeat to repeat, so that no answer comes from a cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import httpx

from orchestrator.web.app import create_app
from orchestrator.web.layouts import Degrees, decoder_groups
from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts, find_model, known_models
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits
from search.perfmodel.layers import layers_of
from search.perfmodel.phases import phase_cost
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question
from search.perfmodel.spread import spread_of

CONFIGURATIONS = 10_000
CONFIGURATIONS_GOAL_S = 2.0
LAYERS = 100
LAYERS_GOAL_S = 0.05
_MODEL = "meta-llama/Llama-3.1-70B"
_HARDWARE = "H200"


def main() -> int:
    """Print the figures beside the goals; exits with 1 when one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    arguments = parser.parse_args()
    first_s, again_s = configurations_s(arguments.repeats)
    figures = {
        f"{CONFIGURATIONS:,} configurations, first time, CPU s": (first_s, CONFIGURATIONS_GOAL_S),
        f"{CONFIGURATIONS:,} configurations, again, CPU s": (again_s, CONFIGURATIONS_GOAL_S),
        f"{LAYERS} layers, one phase, s": (layers_s(arguments.repeats), LAYERS_GOAL_S),
        f"{LAYERS} layers, HTTP request, s": (request_s(arguments.repeats), LAYERS_GOAL_S),
    }
    print("| | seen | goal |\n|---|---|---|")
    for name, (seen, goal) in figures.items():
        print(f"| {name} | {seen:.4f} | {goal} |")
    if arguments.out is not None:
        document = {
            "machine": platform.processor() or platform.machine(),
            "repeats": arguments.repeats,
            "figures": {
                name: {"seen": seen, "goal": goal, "met": seen < goal}
                for name, (seen, goal) in figures.items()
            },
        }
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(seen < goal for seen, goal in figures.values()) else 1


def questions() -> list[Question]:
    """Models, accelerators, engines, layouts and formats at random; no two limits are the same."""
    models = [model for model in map(find_model, known_models()) if model is not None]
    layouts = [
        ParallelLayout(tp=tp, pp=pp, dp=dp, ep=ep)
        for tp, pp, dp, ep in product((1, 2, 4, 8), (1, 2), (1, 2), (1, 2))
        if ep <= tp
    ]
    shuffled = random.Random(0)
    asked = []
    for index in range(CONFIGURATIONS):
        model = shuffled.choice(models)
        engine = shuffled.choice(("vllm", "sglang", "tensorrt_llm"))
        configuration = Configuration(
            model=model,
            accelerator=shuffled.choice(tuple(ACCELERATORS.values())),
            engine=engine,
            spread=spread_of(engine, shuffled.choice(layouts), model),
            quantization=shuffled.choice(
                (Quantization(), Quantization(gemm="fp8", kv_cache="fp8"))
            ),
            limits=ServingLimits(max_num_batched_tokens=2048 + index),
        )
        load = Load(input_tokens=1024, output_tokens=256, concurrency=shuffled.choice((8, 128)))
        asked.append(Question(configuration, load))
    return asked


def configurations_s(repeats: int) -> tuple[float, float]:
    """CPU seconds of the first time, and the median of the others."""
    asked = questions()
    seen = []
    for _ in range(1 + repeats):
        began = time.process_time()
        predict(asked)
        seen.append(time.process_time() - began)
    return seen[0], statistics.median(seen[1:])


def deep_model() -> ModelFacts:
    model = find_model(_MODEL)
    if model is None:
        raise LookupError(_MODEL)
    return replace(model, name="deep", layers=LAYERS)


def degrees(turn: int) -> list[Degrees]:
    """Degrees of each layer; another list for each `turn`."""
    shuffled = random.Random(turn)
    return [
        Degrees(tp=tp, cp=shuffled.choice((1, 2)), sp=shuffled.choice((1, tp)))
        for tp in shuffled.choices((1, 2, 4, 8), k=LAYERS)
    ]


def layers_s(repeats: int) -> float:
    """Median seconds of one phase of a model whose layers differ."""
    model, accelerator = deep_model(), ACCELERATORS[_HARDWARE]
    seen = []
    for turn in range(repeats):
        groups = decoder_groups(model, degrees(turn))
        began = time.perf_counter()
        phase_cost(
            model, accelerator, groups, quantization=dict.fromkeys(layers_of(model), "bf16"),
            phase="decode", batch=8, new_tokens=1, context_tokens=2048,
        )  # fmt: skip
        seen.append(time.perf_counter() - began)
    return statistics.median(seen)


def request_s(repeats: int) -> float:
    """Median seconds of one request of both phases, parsed, predicted and written as JSON."""
    return asyncio.run(_request_s(repeats))


async def _request_s(repeats: int) -> float:
    app = create_app(models={"deep": deep_model()})
    seen = []
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://api"
    ) as client:
        for turn in range(repeats):
            body = json.dumps(_body(10_000 + turn)).encode()
            headers = {"content-type": "application/json"}
            began = time.perf_counter()
            response = await client.post("/api/system-metrics", content=body, headers=headers)
            seen.append(time.perf_counter() - began)
            response.raise_for_status()
            if response.json()["system"] is None:
                raise AssertionError(response.text)
    return statistics.median(seen)


def _body(turn: int) -> dict[str, object]:
    def phase(turn: int, tokens: int) -> dict[str, object]:
        layers = [
            {"layer_index": index, "tp_degree": each.tp, "cp_degree": each.cp, "sp_degree": each.sp}
            for index, each in enumerate(degrees(turn))
        ]
        return {
            "model_config": "deep", "hardware_config": _HARDWARE, "seq_len": tokens,
            "batch_size": 8, "dtype": "bf16", "layer_configs": layers,
        }  # fmt: skip

    return {"prefill_req": phase(turn, 2048), "decode_req": phase(-turn, 256)}


if __name__ == "__main__":
    sys.exit(main())
