"""What a point comes to, by the names that constraints and conditions read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from runtimes.engines.base import Engine, create_engine
from runtimes.json_types import Json
from runtimes.parallel import DEGREES
from runtimes.plan import EngineConfig
from runtimes.quantization import PARTS
from search.materialize import ENV_PREFIX, EngineTemplate, inexpressible, materialize
from search.trial import LAYOUT_NAMES, LAYOUT_PRESET, PRECISION_NAMES, PRECISION_PRESET, Params


def constraint_name(parameter: str) -> str:
    """How a constraint spells a parameter: `max-num-seqs` is `max_num_seqs`, `env.A` is `env_A`."""
    return parameter.replace("-", "_").replace(".", "_")


COMMON_NAMES = frozenset(
    {"engine", "gpus", *map(constraint_name, (*LAYOUT_NAMES, *PRECISION_NAMES))}
)
"""Names that may always be read; those that say nothing of a point have no value."""

_LAYOUT = frozenset({"gpus", *map(constraint_name, LAYOUT_NAMES)})
_PRECISION = frozenset(map(constraint_name, PRECISION_NAMES))


class PointValues:
    """The values of a point, whole or as far as it is chosen, fixed ones and layouts included.

    Degrees and precisions are those that a preset stands for. Pure but for a cache of engine
    instances; may be shared by threads.
    """

    def __init__(
        self,
        templates: Mapping[str, EngineTemplate],
        engine_of: Callable[[str], Engine] = create_engine,
    ) -> None:
        self._templates = templates
        self._engine_of = engine_of
        self._engines: dict[str, Engine] = {}

    def __call__(self, params: Params) -> dict[str, Json]:
        """Values by name; what a preset that the engine cannot express would say has none."""
        unsaid = [found.preset for found in inexpressible(params, self._templates)]
        if not unsaid:
            return self.of_config(params, materialize(params, self._templates))
        said = {
            name: value
            for name, value in params.values.items()
            if not (name in (LAYOUT_PRESET, PRECISION_PRESET) and value in unsaid)
        }
        partly = Params(params.engine, said)
        values = self.of_config(partly, materialize(partly, self._templates))
        if params.values.get(LAYOUT_PRESET) in unsaid:
            values = {name: value for name, value in values.items() if name not in _LAYOUT}
        if params.values.get(PRECISION_PRESET) in unsaid:
            values = {name: value for name, value in values.items() if name not in _PRECISION}
        return values

    def of_config(self, params: Params, config: EngineConfig) -> dict[str, Json]:
        """Values by name of `params`, whose configuration is `config`."""
        values: dict[str, Json] = {
            constraint_name(name): value for name, value in config.args.items()
        }
        values.update(
            {constraint_name(ENV_PREFIX + name): value for name, value in config.env.items()}
        )
        for name in (LAYOUT_PRESET, PRECISION_PRESET):
            values[constraint_name(name)] = params.values.get(name)
        for part in PARTS:
            values[f"quantization_{part}"] = getattr(config.quantization, part)
        values.update({name: getattr(config.layout, name) for name in DEGREES})
        gpus = self.engine(config.engine).gpus(config.layout)
        return {**values, "engine": params.engine, "gpus": gpus}

    def engine(self, name: str) -> Engine:
        """The engine registered as `name`."""
        engine = self._engines.get(name)
        if engine is None:
            engine = self._engines[name] = self._engine_of(name)
        return engine


def parameters_behind(name: str, parameters: Iterable[str]) -> set[str]:
    """Of `parameters`, those that the name of a constraint or condition depends on."""
    if name in _LAYOUT:
        return set(LAYOUT_NAMES) & set(parameters)
    if name in _PRECISION:
        return set(PRECISION_NAMES) & set(parameters)
    return {parameter for parameter in parameters if constraint_name(parameter) == name}
