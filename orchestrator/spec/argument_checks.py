"""Names and values of engine arguments, held against what the engine's own parser takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.spec.environments import environment_of
from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.searched import domain_of, fixed_arguments
from runtimes.engines.base import ENGINES, Engine, create_engine
from runtimes.errors import Problem
from runtimes.json_types import Json
from runtimes.parallel import DEGREES
from runtimes.secrets import is_secret_argument
from search.domains import Choice, Domain

_SEARCHED_FORMS = frozenset({"int", "float", "choice"})


def own_problem(here: str, argument: str, engine: Engine) -> Problem | None:
    """What is wrong with giving `argument` to `engine` at all."""
    if is_secret_argument(argument):
        return _secret(here, argument, engine)
    if argument.replace("-", "_") in DEGREES:
        remedy = f"write `parallel: {{{argument.replace('-', '_')}: …}}`"
        return Problem(here, "layouts stand outside the engine", remedy=remedy)
    if engine.check_args({argument: None}):
        return Problem(
            here, "servetune sets this argument itself",
            remedy="remove it; layouts go under `parallel`, the model under `model`",
        )  # fmt: skip
    return None


def argument_problems(path: str, name: str, spec: ExperimentSpec) -> Iterator[Problem]:
    """Arguments of the engine `name` that its parser would not take, fixed and searched."""
    section = spec.engines[name]
    fixed = {
        argument: value
        for argument, value in _ours(fixed_arguments(spec, name), create_engine(name)).items()
        if not is_searched_form(value)
    }
    for argument, words in parser_problems(name, section, fixed).items():
        yield Problem(f"{path}.args.{argument}", words)
    searched = {key: domain_of(value, spec) for key, value in section.search.items()}
    for argument, domain in searched.items():
        if argument in fixed or own_problem("", argument, create_engine(name)) is not None:
            continue
        for value in _telling_values(domain):
            found = parser_problems(name, section, {**fixed, argument: value})
            if argument in found:
                yield Problem(f"{path}.search.{argument}", found[argument])
                break


def parser_problems(
    name: str, section: EngineSpec, arguments: Mapping[str, Json]
) -> Mapping[str, str]:
    """By argument, what the parser of the engine `name` (or which it imitates) has against it."""
    imitated = section.options.get("imitates", ENGINES.get(name).options.get("imitates"))
    if isinstance(imitated, str):
        if imitated not in ENGINES:
            return {}
        name = imitated
    engine = create_engine(name)
    version = environment_of(section.environment).version_of(engine.distribution)
    return engine.argument_problems(arguments, version)


def _ours(arguments: Mapping[str, Json], engine: Engine) -> dict[str, Json]:
    """`arguments` without those that may not be given at all."""
    return {
        name: value for name, value in arguments.items() if own_problem("", name, engine) is None
    }


def is_searched_form(value: object) -> bool:
    """Whether `value` is written as what is searched, not as what is fixed."""
    if not isinstance(value, Mapping):
        return False
    forms = {*_SEARCHED_FORMS, "equals"} if "when" in value else _SEARCHED_FORMS
    return bool(forms & set(value)) and set(value) <= {*forms, "log", "step", "when"}


def _telling_values(domain: Domain) -> tuple[Json, ...]:
    """Every listed value, or the ends of a range."""
    return domain.values if isinstance(domain, Choice) else (domain.low, domain.high)


def _secret(here: str, argument: str, engine: Engine) -> Problem:
    variable = argument.replace("-", "_").upper()
    if argument == "api-key":
        if engine.api_key_env is None:
            return Problem(
                here, "a secret must not stand on a command line, where everybody can read it",
                remedy=f"remove it: {engine.name} takes a key in no other way",
            )  # fmt: skip
        variable = engine.api_key_env
    return Problem(
        here, "a secret must not stand on a command line, where everybody can read it",
        remedy=f"pass it through `env`, as `{variable}: {{from_env: {variable}}}`",
    )  # fmt: skip
