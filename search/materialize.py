"""Parameters to engine configuration: the only such mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig, Environment
from search.trial import LAYOUT_NAMES, Params

ENV_PREFIX = "env."


@dataclass(frozen=True, slots=True)
class EngineTemplate:
    """What an experiment fixes for one engine; fields as in `EngineConfig`."""

    engine: str
    model: str
    revision: str | None = None
    args: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    options: Mapping[str, Json] = field(default_factory=dict)
    dummy_weights: bool = False


def materialize(params: Params, templates: Mapping[str, EngineTemplate]) -> EngineConfig:
    """The configuration of `params` on top of what is fixed for their engine.

    A searched value wins over a fixed one of the same name. In an environment variable true is
    `1`, false is `0`, null leaves it unset, and any other value stands as JSON.

    Raises:
        InternalError: the engine has no template, or a layout value is not a positive integer.
    """
    template = templates.get(params.engine)
    if template is None:
        raise InternalError(f"no template for engine {params.engine!r}, only {sorted(templates)}")
    layout: dict[str, int] = {}
    args = dict(template.args)
    env = dict(template.env)
    for name, value in params.values.items():
        if name in LAYOUT_NAMES:
            layout[name] = _degree(name, value)
        elif name.startswith(ENV_PREFIX):
            _set_variable(env, name.removeprefix(ENV_PREFIX), value)
        else:
            args[name] = value
    return EngineConfig(
        engine=template.engine,
        model=template.model,
        revision=template.revision,
        layout=ParallelLayout(**layout),
        args=args,
        env=env,
        secrets=template.secrets,
        environment=template.environment,
        options=template.options,
        dummy_weights=template.dummy_weights,
    )


def _degree(name: str, value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InternalError(f"{name} must be a positive integer, got {value!r}")
    return value


def _set_variable(env: dict[str, str], name: str, value: Json) -> None:
    if value is None:
        env.pop(name, None)
    elif isinstance(value, bool):
        env[name] = "1" if value else "0"
    else:
        env[name] = value if isinstance(value, str) else canonical_json(value)
