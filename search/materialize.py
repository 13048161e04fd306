"""Parameters to engine configuration: the only such mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import DEGREES, ParallelLayout
from runtimes.plan import EngineConfig, Environment
from runtimes.quantization import PRECISIONS, Precision, Quantization
from search.trial import LAYOUT_PRESET, PRECISION_PARTS, PRECISION_PRESET, Params

ENV_PREFIX = "env."


@dataclass(frozen=True, slots=True)
class EngineTemplate:
    """What an experiment fixes for one engine; fields as in `EngineConfig`.

    Attributes:
        layouts: by preset that may be searched, its layout, or in words why the engine has none.
        precisions: the same of precisions.
    """

    engine: str
    model: str
    revision: str | None = None
    args: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    options: Mapping[str, Json] = field(default_factory=dict)
    dummy_weights: bool = False
    layouts: Mapping[str, ParallelLayout | str] = field(default_factory=dict)
    precisions: Mapping[str, Quantization | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inexpressible:
    """A preset that an engine has nothing for, and why."""

    preset: str
    reason: str


def materialize(params: Params, templates: Mapping[str, EngineTemplate]) -> EngineConfig:
    """The configuration of `params` on top of what is fixed for their engine.

    A searched value wins over a fixed one of the same name. In an environment variable true is
    `1`, false is `0`, null leaves it unset, and any other value stands as JSON.

    Raises:
        InternalError: the engine has no template, a degree is not a positive integer, a precision
            is none, or a preset is not one of the template's or `inexpressible`.
    """
    template = _template(params, templates)
    args = dict(template.args)
    env = dict(template.env)
    degrees: dict[str, int] = {}
    parts: dict[str, Precision | None] = {}
    for name, value in params.values.items():
        if name in DEGREES:
            degrees[name] = _degree(name, value)
        elif name in PRECISION_PARTS:
            parts[PRECISION_PARTS[name]] = _precision(name, value)
        elif name.startswith(ENV_PREFIX):
            _set_variable(env, name.removeprefix(ENV_PREFIX), value)
        elif name not in (LAYOUT_PRESET, PRECISION_PRESET):
            args[name] = value
    return EngineConfig(
        engine=template.engine,
        model=template.model,
        revision=template.revision,
        layout=_layout(params.values.get(LAYOUT_PRESET), template) or ParallelLayout(**degrees),
        quantization=_quantization(params.values.get(PRECISION_PRESET), template)
        or Quantization(**parts),
        args=args,
        env=env,
        secrets=template.secrets,
        environment=template.environment,
        options=template.options,
        dummy_weights=template.dummy_weights,
    )


def inexpressible(
    params: Params, templates: Mapping[str, EngineTemplate]
) -> Iterator[Inexpressible]:
    """The presets in `params` that their engine has nothing for."""
    template = _template(params, templates)
    layout = template.layouts.get(str(params.values.get(LAYOUT_PRESET)))
    if isinstance(layout, str):
        yield Inexpressible(str(params.values[LAYOUT_PRESET]), layout)
    precision = template.precisions.get(str(params.values.get(PRECISION_PRESET)))
    if isinstance(precision, str):
        yield Inexpressible(str(params.values[PRECISION_PRESET]), precision)


def _template(params: Params, templates: Mapping[str, EngineTemplate]) -> EngineTemplate:
    template = templates.get(params.engine)
    if template is None:
        raise InternalError(f"no template for engine {params.engine!r}, only {sorted(templates)}")
    return template


def _layout(preset: Json, template: EngineTemplate) -> ParallelLayout | None:
    if preset is None:
        return None
    found = template.layouts.get(str(preset))
    if not isinstance(found, ParallelLayout):
        raise InternalError(f"{template.engine} has no layout {preset!r}: {found}")
    return found


def _quantization(preset: Json, template: EngineTemplate) -> Quantization | None:
    if preset is None:
        return None
    found = template.precisions.get(str(preset))
    if not isinstance(found, Quantization):
        raise InternalError(f"{template.engine} has no precision {preset!r}: {found}")
    return found


def _degree(name: str, value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InternalError(f"{name} must be a positive integer, got {value!r}")
    return value


def _precision(name: str, value: Json) -> Precision | None:
    if value is None:
        return None
    for known in PRECISIONS:
        if value == known:
            return known
    raise InternalError(f"{name} must be one of {', '.join(PRECISIONS)}, got {value!r}")


def _set_variable(env: dict[str, str], name: str, value: Json) -> None:
    if value is None:
        env.pop(name, None)
    elif isinstance(value, bool):
        env[name] = "1" if value else "0"
    else:
        env[name] = value if isinstance(value, str) else canonical_json(value)
