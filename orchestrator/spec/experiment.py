"""An experiment: loaded from YAML or built in Python, checked, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from orchestrator.spec.bounds import out_of_bounds
from orchestrator.spec.checks import cross_checks
from orchestrator.spec.dimensions import domain_as_json
from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.problems import Location, file_location, problems_of
from orchestrator.spec.repair import repaired, speaks_of
from orchestrator.spec.yaml_file import read_mapping
from runtimes.errors import Problem, SpecError
from runtimes.json_types import Json
from runtimes.secrets import is_secret_name

_REPAIRS = 4
"""Times the rest of a broken file is taken apart further before it is given up."""


class Experiment:
    """What to tune, where, and for what. Build it with `load` or `from_dict`; both check it."""

    def __init__(self, spec: ExperimentSpec, source: str) -> None:
        self.spec = spec
        self.source = source

    @classmethod
    def load(cls, path: str | Path) -> Experiment:
        """Read an experiment file.

        Raises:
            SpecError: the file cannot be read or holds problems; all of them are named.
        """
        return cls.from_dict(read_mapping(Path(path)), source=str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Json], source: str = "experiment") -> Experiment:
        """Check `data`, the experiment file as a mapping.

        Raises:
            SpecError: with every problem found.
        """
        plain = dict(data)
        if unbearable := out_of_bounds(plain):
            raise SpecError(source, unbearable)
        try:
            spec = ExperimentSpec.model_validate(plain)
        except ValidationError as error:
            problems = problems_of(error, ExperimentSpec, plain)
            raise SpecError(source, [*problems, *_problems_of_the_rest(plain, error)]) from None
        problems = cross_checks(spec)
        if problems:
            raise SpecError(source, problems)
        return cls(spec, source)

    def resolved(self) -> dict[str, Json]:
        """The experiment with every default written out; literal secrets become `from_env`."""
        data = self.spec.model_dump(mode="python", exclude={"engines"}, exclude_none=True)
        data["workload"] = self.spec.workload.as_json()
        engines = {name: _engine_as_json(engine) for name, engine in self.spec.engines.items()}
        head = {"name": data.pop("name"), "model": data.pop("model"), "engines": engines}
        return {**head, **data}


def dump_yaml(data: Mapping[str, Json]) -> str:
    """YAML in the order of `data`, readable, loaded back by `Experiment.load`."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100)


def _engine_as_json(engine: EngineSpec) -> dict[str, Json]:
    env: dict[str, Json] = {}
    for name, value in engine.env.items():
        if isinstance(value, str | list):
            env[name] = {"from_env": name} if is_secret_name(name) else value  # type: ignore[assignment]  # lists of text
        else:
            env[name] = {"from_env": value.from_env}
    written: dict[str, Json] = dict(engine.options)
    if engine.environment is not None:
        written["environment"] = engine.environment.as_json()
    written["args"] = dict(engine.args)
    written["env"] = env
    written["search"] = {name: domain_as_json(domain) for name, domain in engine.search.items()}
    return {key: value for key, value in written.items() if value not in ({}, None)}


def _problems_of_the_rest(data: Mapping[str, Json], error: ValidationError) -> list[Problem]:
    """Cross checks of what is left when everything wrong by itself is taken out.

    So a user sees all problems at once; where the rest cannot stand alone, only the first kind.
    """
    broken: list[Location] = []
    for _ in range(_REPAIRS):
        broken += _places(error, data)
        try:
            rest = ExperimentSpec.model_validate(repaired(data, broken))
        except ValidationError as still:
            error = still
            continue
        found = cross_checks(rest, broken)
        return [problem for problem in found if not speaks_of(problem, broken)]
    return []


def _places(error: ValidationError, data: Mapping[str, Json]) -> list[Location]:
    """Where `data` is wrong; a section that lacks a key is wrong as a whole."""
    places = []
    for detail in error.errors(include_url=False):
        location = file_location(detail["loc"], data)
        lacks = detail["type"] == "missing" and len(location) > 1
        places.append(location[:-1] if lacks else location)
    return places
