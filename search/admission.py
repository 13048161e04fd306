"""What may be launched: rules, the engine's own refusals and capacity, before a GPU is touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtimes.engines.base import Engine, create_engine
from runtimes.errors import UserError
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.plan import DeploymentPlan, EngineConfig
from search.constraints import constraint_name
from search.materialize import ENV_PREFIX, EngineTemplate, materialize
from search.space import SearchSpace
from search.trial import LAYOUT_NAMES, Params

_NUMBER = re.compile(r"(?<![\w.-])\d+(?:[.,]\d+)*(?!\w)")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a point is not launched.

    Attributes:
        rule: the rule, the same for every point it excludes; for counting.
        message: the rule with this point's values.
    """

    rule: str
    message: str


class Admission:
    """Decides whether a point may be launched, and plans it.

    Pure but for a cache of engine instances; may be shared by threads.

    Args:
        space: where the constraints stand.
        templates: what is fixed, by engine.
        model, accelerator: facts for the engines' rules; None when unknown.
        capacity: why a deployment of so many GPUs can never be placed; None when it can.
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
        capacity: Callable[[int], str | None],
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
        self._engine_of = engine_of
        self._engines: dict[str, Engine] = {}

    def check(self, params: Params) -> Exclusion | None:
        """The first reason against `params`: constraints, the engine, capacity; None to launch.

        Raises:
            UserError: a constraint has no truth value for them.
        """
        config = materialize(params, self._templates)
        broken = self._broken_constraint(params, config)
        if broken is not None:
            return broken
        engine = self._engine(config.engine)
        refusal = engine.refuse(config, self._model, self._accelerator)
        if refusal is not None:
            return Exclusion(f"{params.engine}: {refusal.rule}", refusal.message)
        full = self._capacity(engine.plan(config).gpus)
        return None if full is None else Exclusion(_without_numbers(full), full)

    def plan(self, params: Params) -> DeploymentPlan:
        """The processes of `params`, whether or not they may be launched."""
        config = materialize(params, self._templates)
        return self._engine(config.engine).plan(config)

    def config_id(self, params: Params) -> str:
        """Equal for parameters that start the same command in the same environment."""
        return self.plan(params).config_id

    def _broken_constraint(self, params: Params, config: EngineConfig) -> Exclusion | None:
        if not self._space.constraints:
            return None
        gpus = self._engine(config.engine).gpus(config.layout)
        values = _constraint_values(params.engine, config, gpus)
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

    def _engine(self, name: str) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            engine = self._engines[name] = self._engine_of(name)
        return engine


def unknown_names(space: SearchSpace, templates: Mapping[str, EngineTemplate]) -> list[str]:
    """Per constraint that reads a name no engine has, one sentence that lists the known names.

    Such a rule would apply to nothing, which a user who misspelt an argument would not see.
    """
    names = {dimension.name for dimension in space.dimensions}
    for template in templates.values():
        names |= template.args.keys() | {f"{ENV_PREFIX}{name}" for name in template.env}
    known = {constraint_name(name) for name in names} | {*LAYOUT_NAMES, "gpus", "engine"}
    return [
        f"constraint `{constraint.text}` reads {name}, which no engine here sets or searches; "
        f"known: {', '.join(sorted(known))}"
        for constraint in space.constraints
        for name in constraint.names
        if name not in known
    ]


def _constraint_values(engine: str, config: EngineConfig, gpus: int) -> dict[str, Json]:
    layout = config.layout
    values: dict[str, Json] = {constraint_name(name): value for name, value in config.args.items()}
    values.update({constraint_name(ENV_PREFIX + name): value for name, value in config.env.items()})
    values.update(engine=engine, tp=layout.tp, pp=layout.pp, dp=layout.dp, gpus=gpus)
    return values


def _without_numbers(message: str) -> str:
    return _NUMBER.sub("N", message)
