"""What may be launched: rules, the engine's own refusals and capacity, before a GPU is touched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from runtimes.engines.base import Engine, Refusal, create_engine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import DeploymentPlan, EngineConfig
from search.materialize import ENV_PREFIX, EngineTemplate, inexpressible, materialize
from search.space import SearchSpace
from search.trial import LAYOUT_NAMES, PRECISION_NAMES, Params
from search.values import COMMON_NAMES, PointValues, constraint_name

_NUMBER = re.compile(r"(?<![\w.-])\d+(?:[.,]\d+)*(?!\w)")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a point is not launched.

    Attributes:
        rule: the rule, the same for every point it excludes; for counting.
        message: the rule with this point's values.
        engine: the engine whose rule it is; empty for those that hold for every engine.
    """

    rule: str
    message: str
    engine: str = ""


class Admission:
    """Decides whether a point may be launched, and plans it.

    Pure but for a cache of engine instances; may be shared by threads.

    Args:
        space: where the constraints stand.
        templates: what is fixed, by engine.
        model, accelerator: facts for the engines' rules; None when unknown.
        capacity: why a deployment can never be placed; None when it can.
        memory: why a configuration can never fit its GPUs; None when it may.
        node_gpus: GPUs of a node; a server that takes more is planned over several. None: unknown.
        engine_of: makes the engine of a registered name.

    Raises:
        UserError: a constraint names something that no engine has.
    """

    def __init__(
        self,
        space: SearchSpace,
        templates: Mapping[str, EngineTemplate],
        *,
        model: ModelFacts | None,
        accelerator: Accelerator | None,
        capacity: Callable[[DeploymentPlan], str | None],
        memory: Callable[[EngineConfig], str | None] = lambda config: None,
        node_gpus: int | None = None,
        engine_of: Callable[[str], Engine] = create_engine,
    ) -> None:
        unknown = unknown_names(space, templates)
        if unknown:
            raise UserError("; ".join(unknown))
        self._space = space
        self._templates = templates
        self._model = model
        self._accelerator = accelerator
        self._capacity = capacity
        self._memory = memory
        self._node_gpus = node_gpus
        self._values = PointValues(templates, engine_of)

    def check(self, params: Params) -> Exclusion | None:
        """The first reason against `params`; None to launch.

        Presets that the engine cannot express come first, then constraints, the engine's own
        rules, memory, capacity.

        Raises:
            UserError: a constraint has no truth value for them.
        """
        for found in inexpressible(params, self._templates):
            words = f"{params.engine} has no {found.preset}: {found.reason}"
            return Exclusion(f"preset {found.preset}", words, params.engine)
        config = self.config(params)
        broken = self._broken_constraint(params, config)
        if broken is not None:
            return broken
        engine = self._values.engine(config.engine)
        refusal = engine.refuse(config, self._model, self._accelerator)
        if refusal is not None:
            return Exclusion(refusal.rule, refusal.message, params.engine)
        short = self._memory(config)
        if short is not None:
            return Exclusion("memory", short, params.engine)
        full = self._capacity(engine.plan(config))
        return None if full is None else Exclusion(_without_numbers(full), full)

    def config(self, params: Params) -> EngineConfig:
        """The configuration of `params`, whether or not it may be launched."""
        return self._over_nodes(materialize(params, self._templates))

    def plan(self, params: Params) -> DeploymentPlan:
        """The processes of `params`, whether or not they may be launched."""
        config = self.config(params)
        return self._values.engine(config.engine).plan(config)

    def mapped(self, params: Params) -> DeploymentPlan:
        """The processes of the layout and the precision of `params` alone, without arguments and
        variables, fixed ones included; whether or not they may be launched.
        """
        template = self._templates[params.engine]
        neutral = {
            name: value
            for name, value in params.values.items()
            if name in LAYOUT_NAMES or name in PRECISION_NAMES
        }
        bare = {params.engine: replace(template, args={}, env={})}
        config = self._over_nodes(materialize(Params(params.engine, neutral), bare))
        return self._values.engine(config.engine).plan(config)

    def refusal(self, config: EngineConfig) -> Refusal | None:
        """What the engine itself has against `config`; None when nothing."""
        return self._values.engine(config.engine).refuse(config, self._model, self._accelerator)

    def config_id(self, params: Params) -> str:
        """Equal for parameters that start the same command in the same environment."""
        return self.plan(params).config_id

    def _over_nodes(self, config: EngineConfig) -> EngineConfig:
        """`config` with each server over as many nodes as its GPUs fill."""
        engine = self._values.engine(config.engine)
        if self._node_gpus is None or engine.gpus(config.layout) <= self._node_gpus:
            return config
        largest = max((process.gpus for process in engine.plan(config).processes), default=0)
        nodes = math.ceil(largest / self._node_gpus)
        return replace(config, nodes=nodes) if nodes > 1 else config

    def _broken_constraint(self, params: Params, config: EngineConfig) -> Exclusion | None:
        if not self._space.constraints:
            return None
        values = self._values.of_config(params, config)
        for constraint in self._space.constraints:
            if not constraint.applies(values):
                continue
            try:
                kept = constraint.evaluate(values)
            except ValueError as error:
                raise UserError(str(error)) from None
            if not kept:
                rule = f"constraint `{constraint.text}`"
                return Exclusion(rule, f"{rule} is false for {constraint.shown(values)}")
        return None


def unknown_names(space: SearchSpace, templates: Mapping[str, EngineTemplate]) -> list[str]:
    """Per constraint that reads a name no engine has, one sentence that lists the known names.

    Such a rule would apply to nothing, which a user who misspelt an argument would not see.
    """
    names = {dimension.name for dimension in space.dimensions}
    names |= {name for combination in space.combinations for name in combination.values}
    for template in templates.values():
        names |= template.args.keys() | {f"{ENV_PREFIX}{name}" for name in template.env}
    known = {constraint_name(name) for name in names} | COMMON_NAMES
    return [
        f"constraint `{constraint.text}` reads {name}, which no engine here sets or searches; "
        f"known: {', '.join(sorted(known))}"
        for constraint in space.constraints
        for name in constraint.names
        if name not in known
    ]


def _without_numbers(message: str) -> str:
    return _NUMBER.sub("N", message)
