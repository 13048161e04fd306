"""What-if questions: a product of deployments and loads, predicted without touching anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from runtimes.engines.base import Engine, Refusal, create_engine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.presets import precision_of
from runtimes.quantization import Quantization

if TYPE_CHECKING:
    from runtimes.node_curves import NodeCurves
    from search.perfmodel.answer import Prediction
    from search.perfmodel.question import Load, Question

MOST_POINTS = 100_000
"""Points of one product; more take minutes and nobody reads them."""
_MEMORY_RULE = "weights_fit"
"""The engines' rule that the prediction answers with figures instead."""

Precision: TypeAlias = str | Quantization
"""A preset's name, which may mean something else to each engine, or the formats themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Every combination of what it lists.

    Attributes:
        name: what the engine is told to load.
        args: engine arguments by long name, for every engine.
        acceptance: share of drafted tokens that is accepted, where an engine drafts any.
    """

    name: str
    model: ModelFacts
    accelerators: Sequence[Accelerator]
    loads: Sequence[Load]
    engines: Sequence[str] = ("vllm",)
    layouts: Sequence[ParallelLayout] = (ParallelLayout(),)
    precisions: Sequence[Precision] = ("default",)
    args: Mapping[str, Json] = field(default_factory=dict)
    acceptance: float

    @property
    def size(self) -> int:
        """Combinations in all."""
        deployments = len(self.engines) * len(self.layouts) * len(self.precisions)
        return deployments * len(self.accelerators) * len(self.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination and its answer: a prediction, or why there is none.

    Attributes:
        precision: the preset's name, or the formats in words.
        gpus: accelerators of the whole deployment.
        drafts: tokens drafted per step; 0 without speculative decoding.
        refusal: why the engine would not run it; None where it is predicted.
    """

    engine: str
    accelerator: str
    layout: ParallelLayout
    precision: str
    load: Load
    gpus: int
    drafts: int = 0
    refusal: Refusal | None = None
    prediction: Prediction | None = None

    @property
    def serves(self) -> bool:
        """True when it runs and what is sent can be served."""
        return self.prediction is not None and self.prediction.memory.fits

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts the best first: output tokens per second and GPU; then what cannot keep up with
        its load, what does not fit by how much, and what is refused.
        """
        found = self.prediction
        if found is None:
            return 3, 0.0
        if not found.memory.fits:
            return 2, found.memory.short_by
        return (0 if found.stable else 1), -found.output_throughput_per_gpu


def what_if(asked: WhatIf, *, curves: Sequence[NodeCurves] = ()) -> list[Point]:
    """Every combination of `asked`, the best first.

    Raises:
        UserError: it has too many combinations, an engine serves nothing itself, or an argument
            is none of an engine's.
    """
    from search.perfmodel.predict import predict

    if asked.size > MOST_POINTS:
        raise UserError(
            f"{asked.size:,} combinations are more than the {MOST_POINTS:,} that one question may "
            "have; give fewer values"
        )
    found: list[tuple[Point, Question | None]] = []
    for name in asked.engines:
        engine = _engine(name, asked.args)
        found += _points(asked, engine)
    questions = [question for _, question in found if question is not None]
    answers = iter(predict(questions, curves=curves))
    points = [
        point if question is None else _answered(point, next(answers)) for point, question in found
    ]
    return sorted(points, key=lambda point: point.rank)


def _answered(point: Point, prediction: Prediction) -> Point:
    """`point` with its answer; what an engine refuses for want of memory has one as well."""
    short = point.refusal is not None and prediction.memory.fits
    return point if short else replace(point, prediction=prediction, refusal=None)


def _engine(name: str, args: Mapping[str, Json]) -> Engine:
    """Raises: UserError: there is none, it is a server that runs already, or a wrong argument."""
    engine = create_engine(name)
    if engine.attaches:
        raise UserError(
            f"--engine {name}: the server runs already, so that there is nothing to predict from; "
            "name the engine that it is"
        )
    for reserved in engine.check_args(args):
        raise UserError(f"--arg {reserved}: servetune sets it from the other options; leave it out")
    for argument, words in engine.argument_problems(args, None).items():
        raise UserError(f"--arg {argument}, for {name}: {words}")
    return engine


def _points(asked: WhatIf, engine: Engine) -> Iterator[tuple[Point, Question | None]]:
    """Points of one engine, each with what to ask of it."""
    deployments = product(asked.accelerators, asked.layouts, asked.precisions)
    for accelerator, layout, precision in deployments:
        quantization = (
            precision_of(precision, engine.name) if isinstance(precision, str) else precision
        )
        if isinstance(quantization, str):
            refusal: Refusal | None = Refusal(f"preset {precision}", quantization)
            config = None
        else:
            config = EngineConfig(
                engine.name, asked.name, layout=layout, quantization=quantization,
                args=asked.args, options=engine.options,
            )  # fmt: skip
            refusal = engine.refuse(config, asked.model, accelerator)
        for load in asked.loads:
            point = Point(
                engine=engine.name, accelerator=accelerator.name, layout=layout,
                precision=str(precision), load=load, gpus=engine.gpus(layout), refusal=refusal,
            )  # fmt: skip
            if config is None or (refusal is not None and refusal.rule != _MEMORY_RULE):
                yield point, None
            else:
                yield _asked(point, asked, config, accelerator)


def _asked(
    point: Point, asked: WhatIf, config: EngineConfig, accelerator: Accelerator
) -> tuple[Point, Question | None]:
    from search.perfmodel.configure import configuration_of
    from search.perfmodel.question import Question

    configuration = configuration_of(config, asked.model, accelerator, acceptance=asked.acceptance)
    point = replace(point, drafts=configuration.limits.draft_tokens)
    longest = configuration.limits.max_model_len or asked.model.max_context
    tokens = math.ceil(point.load.input_tokens + point.load.output_tokens)
    if longest and tokens > longest:
        words = f"a request takes {tokens:,} tokens, and the longest is {longest:,}"
        return replace(point, refusal=Refusal("longest_request", words)), None
    return point, Question(configuration, point.load)
