"""What an engine's section may hold: the engine's options, and arguments that are the user's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import JsonValue

from orchestrator.spec.argument_checks import argument_problems, is_searched_form, own_problem
from orchestrator.spec.dimensions import Conditional
from orchestrator.spec.environments import environment_of
from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.refusal import RefusedValueError, suggestion
from orchestrator.spec.searched import fixed_arguments
from orchestrator.spec.ties import Tie, parse_tie, tied_value
from runtimes.engines.base import ENGINES, Engine, create_engine
from runtimes.errors import Problem, UserError
from runtimes.plan import EngineConfig
from runtimes.secrets import is_secret_argument, is_secret_name

_TYPE_WORDS = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list",
}  # fmt: skip


def engine_problems(spec: ExperimentSpec) -> Iterator[Problem]:
    """Every rule that an engine's section breaks."""
    for name, section in spec.engines.items():
        path = f"engines.{name}"
        if ENGINES.get(name).attaches:
            yield from _changes(path, create_engine(name), section)
        options = list(_options(path, name, section))
        yield from options or _refused_by_engine(path, name, spec)
        yield from _arguments(path, create_engine(name), section)
        yield from _version(path, name, section)
        yield from _ties(path, spec, section)
        yield from argument_problems(path, name, spec)
        for variable, value in section.env.items():
            if isinstance(value, list) and is_secret_name(variable):
                yield Problem(
                    f"{path}.env.{variable}", "a secret cannot be searched",
                    remedy=f"write {{from_env: {variable}}}",
                )  # fmt: skip


def _options(path: str, name: str, section: EngineSpec) -> Iterator[Problem]:
    known = ENGINES.get(name).options
    for option, value in section.options.items():
        here = f"{path}.{option}"
        if option not in known:
            remedy = suggestion(option, [*EngineSpec.model_fields, *known])
            remedy += "; arguments of the engine go under `args` or `search`"
            yield Problem(here, f"unknown key {option!r}", remedy=remedy)
        elif not _same_type(value, known[option]):
            yield Problem(here, f"takes {_TYPE_WORDS[type(known[option]).__name__]}", repr(value))
    imitated = section.options.get("imitates")
    others = [other for other in ENGINES.names() if other != name]
    if "imitates" in known and isinstance(imitated, str) and imitated not in others:
        remedy = suggestion(imitated, others)
        yield Problem(f"{path}.imitates", "names no engine", repr(imitated), remedy)


def _changes(path: str, engine: Engine, section: EngineSpec) -> Iterator[Problem]:
    """What would have to change a server that runs already."""
    given = {"args": section.args, "search": section.search, "environment": section.environment}
    for key, value in given.items():
        if value:
            yield Problem(
                f"{path}.{key}", "the server runs already, so nothing here can change it",
                remedy="remove it; to try other settings, name the engine itself under `engines`",
            )  # fmt: skip
    for variable in section.env:
        if variable != engine.api_key_env:
            yield Problem(
                f"{path}.env.{variable}", "the server runs already, so nothing here can change it",
                remedy=f"remove it; only {engine.api_key_env}, the key clients send, is heeded",
            )  # fmt: skip


def _same_type(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)


def _refused_by_engine(path: str, name: str, spec: ExperimentSpec) -> Iterator[Problem]:
    """What the engine itself has against its settings, found by planning its defaults."""
    section = spec.engines[name]
    config = EngineConfig(
        engine=name,
        model=spec.model.source,
        revision=spec.model.revision,
        args=fixed_arguments(spec, name),
        environment=environment_of(section.environment),
        options={**ENGINES.get(name).options, **section.options},
    )
    try:
        create_engine(name).plan(config)
    except UserError as error:
        yield Problem(path, str(error).removeprefix(f"{name}: "))


def _version(path: str, name: str, section: EngineSpec) -> Iterator[Problem]:
    """A stated version that contradicts the one a requirement pins."""
    environment = environment_of(section.environment)
    pinned = replace(environment, version=None).version_of(create_engine(name).distribution)
    if environment.version is not None and pinned not in (None, environment.version):
        yield Problem(
            f"{path}.environment.version",
            f"the requirements pin {pinned}",
            repr(environment.version),
            f"write {pinned}, or remove it: a pinned version is known",
        )


def _arguments(path: str, engine: Engine, section: EngineSpec) -> Iterator[Problem]:
    for part, arguments in (("args", section.args), ("search", section.search)):
        for argument in arguments:
            problem = own_problem(f"{path}.{part}.{argument}", argument, engine)
            if problem is not None:
                yield problem
    for argument, value in section.args.items():
        if not is_secret_argument(argument):
            yield from _not_fixed(f"{path}.args.{argument}", value)
        if argument in section.search:
            yield Problem(
                f"{path}.search.{argument}", "fixed under `args` and searched as well",
                remedy="keep it in one of the two",
            )  # fmt: skip


def _not_fixed(here: str, value: JsonValue) -> Iterator[Problem]:
    """A searched value written where fixed ones stand."""
    if is_searched_form(value):
        yield Problem(here, "a searched value among fixed ones", repr(value), "move it to `search`")


def _ties(path: str, spec: ExperimentSpec, section: EngineSpec) -> Iterator[Problem]:
    """Arguments tied to what no workload has, or this one has not."""
    for argument, value in section.args.items():
        if not is_secret_argument(argument):
            yield from tie_problems(f"{path}.args.{argument}", value, spec)
    for argument, searched in section.search.items():
        domain = searched.domain if isinstance(searched, Conditional) else searched
        if isinstance(domain, Tie):
            yield from tie_problems(f"{path}.search.{argument}", {"equals": domain.to}, spec)


def tie_problems(here: str, value: JsonValue, spec: ExperimentSpec) -> Iterator[Problem]:
    """What is wrong with a value of the form `{equals: NAME}`; nothing of any other."""
    try:
        tie = parse_tie(value)
        if tie is not None:
            tied_value(tie, spec.workload)
    except RefusedValueError as refused:
        yield Problem(here, refused.rule, repr(value), refused.remedy)
