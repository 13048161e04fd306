"""An experiment: loaded from YAML or built in Python, checked, ready to run."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.spec.checks import cross_checks
from orchestrator.spec.dimensions import domain_as_json
from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.problems import dotted, problems_of, without
from runtimes.errors import Problem, SpecError
from runtimes.json_types import Json
from runtimes.secrets import is_secret_name


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
        source = str(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise SpecError(
                source, [Problem("", f"cannot be read: {words}", remedy="name an experiment file")]
            ) from None
        try:
            data = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader
        except yaml.YAMLError as error:
            raise SpecError(source, [_yaml_problem(error)]) from None
        if not isinstance(data, dict):
            raise SpecError(
                source,
                [Problem("", "is not a mapping of keys", repr(data)[:80], "start with `name: …`")],
            )
        return cls.from_dict(data, source=source)

    @classmethod
    def from_dict(cls, data: Mapping[str, Json], source: str = "experiment") -> Experiment:
        """Check `data`, the experiment file as a mapping.

        Raises:
            SpecError: with every problem found.
        """
        plain = dict(data)
        try:
            spec = ExperimentSpec.model_validate(plain)
        except ValidationError as error:
            problems = problems_of(error, ExperimentSpec, plain)
            raise SpecError(source, [*problems, *_problems_of_the_rest(plain, error)]) from None
        if problems := cross_checks(spec):
            raise SpecError(source, problems)
        return cls(spec, source)

    def resolved(self) -> dict[str, Json]:
        """The experiment with every default written out; literal secrets become `from_env`."""
        data = self.spec.model_dump(mode="python", exclude={"engines"}, exclude_none=True)
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
        written["environment"] = {"python": engine.environment.python}
    written["args"] = dict(engine.args)
    written["env"] = env
    written["search"] = {name: domain_as_json(domain) for name, domain in engine.search.items()}
    return {key: value for key, value in written.items() if value not in ({}, None)}


def _problems_of_the_rest(data: dict[str, Json], error: ValidationError) -> list[Problem]:
    """Cross checks of what is left when everything wrong by itself is taken out.

    So a user sees all problems at once; where the rest cannot stand alone, only the first kind.
    """
    bad = [tuple(detail["loc"]) for detail in error.errors(include_url=False)]
    try:
        rest = ExperimentSpec.model_validate(without(data, bad))
    except ValidationError:
        return []
    broken = {dotted(location).split(".")[0].split("[")[0] for location in bad}
    return [
        problem
        for problem in cross_checks(rest)
        if problem.path.split(".")[0].split("[")[0] not in broken
    ]


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}"
        return Problem(where, f"is not valid YAML: {error.problem or error.context}")
    return Problem("", f"is not valid YAML: {error}")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)
