"""Deployments and loads of every kind that the model can be asked about."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

from hypothesis import strategies as st

from runtimes.engines.base import create_engine
from runtimes.hardware import ACCELERATORS
from runtimes.model import ModelFacts, find_model, known_models
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits
from search.perfmodel._measured import MEASURED
from search.perfmodel.answer import Prediction
from search.perfmodel.predict import predict
from search.perfmodel.question import Configuration, Load, Question
from search.perfmodel.spread import Spread, spread_of

LLAMA = "meta-llama/Llama-3.1-8B"
EXPERTS = "Qwen/Qwen3-235B-A22B"
LATENT = "deepseek-ai/DeepSeek-V3"
WINDOWED = "google/gemma-3-12b"
ENGINES = ("vllm", "sglang", "tensorrt_llm")

MEASURED_ACCELERATORS = tuple(ACCELERATORS[name] for name in MEASURED)
"""Those with curves of their own, so that a changed figure does not change whose curves count."""


def known(name: str) -> ModelFacts:
    model = find_model(name)
    assert model is not None
    return model


@cache
def catalogue() -> tuple[ModelFacts, ...]:
    """Every catalogued model."""
    return tuple(map(known, known_models()))


@cache
def spreads(engine: str, model: ModelFacts) -> tuple[Spread, ...]:
    """Of all layouts that `engine` takes for `model`."""
    refuse = create_engine(engine).refuse
    degrees = product((1, 2, 4, 8), (1, 2), (1, 2), (1, 4, 8), (1, 2), (1, 2), (1, 4))
    layouts = [
        ParallelLayout(tp=tp, pp=pp, dp=dp, ep=ep, dcp=dcp, pcp=pcp, attention_dp=groups)
        for tp, pp, dp, ep, dcp, pcp, groups in degrees
    ]
    found = dict.fromkeys(
        spread_of(engine, layout, model)
        for layout in layouts
        if refuse(EngineConfig(engine, model.name, layout=layout), model, None) is None
    )
    return tuple(found)


def deployment(
    model: str = LLAMA,
    accelerator: str = "H100",
    engine: str = "vllm",
    spread: Spread | None = None,
    limits: ServingLimits | None = None,
) -> Configuration:
    """One that is usual."""
    return Configuration(
        model=known(model), accelerator=ACCELERATORS[accelerator], engine=engine,
        spread=spread or Spread(), limits=limits or ServingLimits(),
    )  # fmt: skip


def answered(configuration: Configuration, load: Load) -> Prediction:
    """The prediction of one question."""
    return predict([Question(configuration, load)])[0]


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Any model on any measured accelerator, in any layout that its engine takes."""
    model, engine = draw(st.sampled_from(catalogue())), draw(st.sampled_from(ENGINES))
    return Configuration(
        model=model,
        accelerator=draw(st.sampled_from(MEASURED_ACCELERATORS)),
        engine=engine,
        spread=draw(st.sampled_from(spreads(engine, model) or (Spread(),))),
        quantization=Quantization(
            gemm=draw(st.sampled_from((None, "fp8", "int4", "nvfp4"))),
            kv_cache=draw(st.sampled_from((None, "fp8"))),
        ),
        limits=ServingLimits(
            max_num_seqs=draw(st.sampled_from((8, 64, 256, 1024))),
            max_num_batched_tokens=draw(st.sampled_from((512, 2048, 8192, 32768))),
            chunked_prefill=draw(st.booleans()),
        ),
    )


@st.composite
def closed_loops(draw: st.DrawFn, most: int = 2048, shortest: int = 4) -> Question:
    """A deployment in a closed loop of up to `most` streams, answers of `shortest` and more."""
    load = Load(
        input_tokens=draw(st.integers(1, 30_000)),
        output_tokens=draw(st.integers(shortest, 4096)),
        prefix_hit=draw(st.sampled_from((0.0, 0.3, 0.9))),
        concurrency=draw(st.integers(1, most)),
    )
    return Question(draw(configurations()), load)


def several(questions: st.SearchStrategy[Question]) -> st.SearchStrategy[list[Question]]:
    """Many at once: a prediction of eight takes hardly longer than one of one."""
    return st.lists(questions, min_size=8, max_size=8)


def with_load(question: Question, **changes: Any) -> Question:
    """The same deployment under a load of which some fields differ."""
    return replace(question, load=replace(question.load, **changes))


def with_accelerator(question: Question, **factors: float) -> Question:
    """The same with some figures of its accelerator multiplied, where it has them."""
    configuration = question.configuration
    old = configuration.accelerator
    changed: dict[str, Any] = {
        name: getattr(old, name) * factor
        for name, factor in factors.items()
        if getattr(old, name) is not None
    }
    faster = replace(old, **changed)
    return replace(question, configuration=replace(configuration, accelerator=faster))
