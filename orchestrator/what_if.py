"""What-if questions: a product of deployments and loads, predicted without touching anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.what_if_split import Pool, Split
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
    from search.perfmodel.disaggregated import DisaggregatedPrediction, Pools
    from search.perfmodel.question import Configuration, Load, Question

MOST_POINTS = 100_000
"""Points of one product; more take minutes and nobody reads them."""
_SIZES = (
    "block-size", "page-size", "tokens-per-block", "tokens_per_block", "max-model-len",
    "context-length", "max-seq-len", "max_seq_len",
)  # fmt: skip
"""Ends of the names of arguments, of any engine, that are tokens and never 0."""
_MEMORY_RULE = "weights_fit"
"""The engines' rule that the prediction answers with figures instead."""

Asked: TypeAlias = "Question | Pools"
"""What the performance model is asked of one point."""
Precision: TypeAlias = str | Quantization
"""A preset's name, which may mean something else to each engine, or the formats themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Every combination of what it lists.

    Attributes:
        name: what the engine is told to load.
        splits: deployments of two pools; where there are any, in place of the products of
            `accelerators` and `layouts`.
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
    splits: Sequence[Split] = ()
    args: Mapping[str, Json] = field(default_factory=dict)
    acceptance: float

    @property
    def size(self) -> int:
        """Combinations in all."""
        places = len(self.splits) or len(self.layouts) * len(self.accelerators)
        return len(self.engines) * places * len(self.precisions) * len(self.loads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination and its answer: a prediction, or why there is none.

    Attributes:
        precision: the preset's name, or the formats in words.
        gpus: accelerators of the whole deployment.
        drafts: tokens drafted per step; 0 without speculative decoding.
        without_effect: engine arguments given that nothing of the prediction depends on.
        refusal: why the engine would not run it; None where it is predicted.
        pools: of a deployment of two pools, each by itself; `prediction` is of both.
    """

    engine: str
    accelerator: str
    layout: ParallelLayout | Split
    precision: str
    load: Load
    gpus: int
    drafts: int = 0
    without_effect: tuple[str, ...] = ()
    refusal: Refusal | None = None
    prediction: Prediction | None = None
    pools: DisaggregatedPrediction | None = None

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
    from search.perfmodel.disaggregated import Pools, match_rates
    from search.perfmodel.predict import predict
    from search.perfmodel.question import Question

    if asked.size > MOST_POINTS:
        raise UserError(
            f"{asked.size:,} combinations are more than the {MOST_POINTS:,} that one question may "
            "have; give fewer values"
        )
    found: list[tuple[Point, Asked | None]] = []
    for name in asked.engines:
        engine = _engine(name, asked.args)
        found += _points(asked, engine)
    alone = iter(predict([one for _, one in found if isinstance(one, Question)], curves=curves))
    pairs = iter(match_rates([one for _, one in found if isinstance(one, Pools)], curves=curves))
    points = []
    for point, question in found:
        if isinstance(question, Pools):
            both = next(pairs)
            point = replace(_answered(point, both.whole), pools=both)
        elif question is not None:
            point = _answered(point, next(alone))
        points.append(point)
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
    for argument, value in args.items():
        if value == 0 and value is not False and argument.endswith(_SIZES):
            raise UserError(f"--arg {argument}={value}: takes a whole number of tokens from 1")
    for reserved in engine.check_args(args):
        raise UserError(f"--arg {reserved}: servetune sets it from the other options; leave it out")
    for argument, words in engine.argument_problems(args, None).items():
        raise UserError(f"--arg {argument}, for {name}: {words}")
    return engine


def _points(asked: WhatIf, engine: Engine) -> Iterator[tuple[Point, Asked | None]]:
    """Points of one engine, each with what to ask of it."""
    from search.perfmodel.disaggregated import Pools
    from search.perfmodel.question import Question

    idle: tuple[str, ...] | None = None
    for (place, accelerator, pools), precision in product(_places(asked), asked.precisions):
        made = {name: _made(asked, engine, pool, precision) for name, pool in pools.items()}
        ready = [configuration for configuration, _ in made.values() if configuration is not None]
        if idle is None and len(ready) == len(pools):
            idle = _without_effect(asked, engine, next(iter(pools.values())), precision)
        refused = (_told(name, why) for name, (_, why) in made.items() if why is not None)
        refusal = next(refused, None)
        gpus = sum(pool.engines * engine.gpus(pool.layout) for pool in pools.values())
        for load in asked.loads:
            point = Point(
                engine=engine.name, accelerator=accelerator, layout=place, gpus=gpus, load=load,
                precision=str(precision), refusal=refusal,
                drafts=ready[-1].limits.draft_tokens if ready else 0,
                without_effect=(idle or ()) if ready else (),
            )  # fmt: skip
            if len(ready) < len(pools):
                yield point, None
            elif words := _too_long(asked, ready, load):
                yield replace(point, refusal=Refusal("longest_request", words)), None
            elif len(ready) == 1:
                yield point, Question(ready[0], _sent(load, ready[0]))
            else:
                sent = _sent(load, ready[0])
                yield point, Pools(prefill=ready[0], decode=ready[1], load=sent)


def _sent(load: Load, configuration: Configuration) -> Load:
    """`load` as it finds the engine: without a prefix cache nothing of a prompt is held."""
    return load if configuration.limits.prefix_caching else replace(load, prefix_hit=0.0)


def _without_effect(
    asked: WhatIf, engine: Engine, pool: Pool, precision: Precision
) -> tuple[str, ...]:
    """Arguments that a deployment, one that is predicted, is the same to the model without."""

    def counted(args: Mapping[str, Json]) -> Configuration | None:
        found, _ = _made(replace(asked, args=args), engine, pool, precision)
        if found is None or any(load.prefix_hit for load in asked.loads):
            return found
        return replace(found, limits=replace(found.limits, prefix_caching=True))

    whole = counted(asked.args)
    return tuple(
        name
        for name in asked.args
        if counted({other: asked.args[other] for other in asked.args if other != name}) == whole
    )


_Place: TypeAlias = tuple[ParallelLayout | Split, str, dict[str, Pool]]


def _places(asked: WhatIf) -> Iterator[_Place]:
    """Layouts, the names of what they are on, and their pools by name; one alone has none."""
    for split in asked.splits:
        yield split, split.accelerator, split.pools
    if not asked.splits:
        for accelerator, layout in product(asked.accelerators, asked.layouts):
            yield layout, accelerator.name, {"": Pool(layout=layout, accelerator=accelerator)}


def _made(
    asked: WhatIf, engine: Engine, pool: Pool, precision: Precision
) -> tuple[Configuration | None, Refusal | None]:
    """What a pool is to the model, and why the engine refuses it.

    Both, where the reason is memory: the prediction answers that with figures.
    """
    from search.perfmodel.configure import configuration_of

    quantization = precision_of(precision, engine.name) if isinstance(precision, str) else precision
    if isinstance(quantization, str):
        return None, Refusal(f"preset {precision}", quantization)
    config = EngineConfig(
        engine.name, asked.name, layout=pool.layout, quantization=quantization,
        args=asked.args, options=engine.options,
    )  # fmt: skip
    refusal = engine.refuse(config, asked.model, pool.accelerator)
    if refusal is not None and refusal.rule != _MEMORY_RULE:
        return None, refusal
    found = configuration_of(config, asked.model, pool.accelerator, acceptance=asked.acceptance)
    spread = replace(found.spread, replicas=found.spread.replicas * pool.engines)
    return replace(found, spread=spread), refusal


def _told(pool: str, refusal: Refusal) -> Refusal:
    return replace(refusal, message=f"{pool}: {refusal.message}") if pool else refusal


def _too_long(asked: WhatIf, configurations: Sequence[Configuration], load: Load) -> str:
    """Why a request of the mean lengths is longer than an engine takes; empty where it is not."""
    tokens = math.ceil(load.input_tokens + load.output_tokens)
    longest = min(each.limits.max_model_len or asked.model.max_context for each in configurations)
    if not longest or tokens <= longest:
        return ""
    return f"a request takes {tokens:,} tokens, and the longest is {longest:,}"
