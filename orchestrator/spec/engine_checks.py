"""What an engine's section may hold: the engine's options, and arguments that are the user's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from orchestrator.spec.models import EngineSpec, ExperimentSpec
from orchestrator.spec.refusal import NOT_YET, suggestion
from runtimes.engines.base import ENGINES, Engine, create_engine
from runtimes.errors import Problem, UserError
from runtimes.plan import EngineConfig, Environment
from runtimes.secrets import is_secret_argument, is_secret_name
from search.trial import LAYOUT_NAMES

_TYPE_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
_SEARCHED_FORMS = frozenset({"int", "float", "choice"})


def engine_problems(spec: ExperimentSpec) -> Iterator[Problem]:
    """Every rule that an engine's section breaks."""
    for name, section in spec.engines.items():
        path = f"engines.{name}"
        options = list(_options(path, name, section))
        yield from options or _refused_by_engine(path, name, spec)
        yield from _arguments(path, create_engine(name), section)
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


def _same_type(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)


def _refused_by_engine(path: str, name: str, spec: ExperimentSpec) -> Iterator[Problem]:
    """What the engine itself has against its settings, found by planning its defaults."""
    section = spec.engines[name]
    python = section.environment.python if section.environment is not None else None
    config = EngineConfig(
        engine=name,
        model=spec.model.source,
        revision=spec.model.revision,
        args=dict(section.args),
        environment=Environment(python),
        options={**ENGINES.get(name).options, **section.options},
    )
    try:
        create_engine(name).plan(config)
    except UserError as error:
        yield Problem(path, str(error).removeprefix(f"{name}: "))


def _arguments(path: str, engine: Engine, section: EngineSpec) -> Iterator[Problem]:
    for part, arguments in (("args", section.args), ("search", section.search)):
        reserved = set(engine.check_args(dict.fromkeys(arguments)))
        for argument in arguments:
            here = f"{path}.{part}.{argument}"
            if is_secret_argument(argument):
                yield _secret(here, argument, engine)
            elif argument in LAYOUT_NAMES:
                remedy = f"write `parallel: {{{argument}: …}}`"
                yield Problem(here, "layouts stand outside the engine", remedy=remedy)
            elif argument in reserved:
                yield Problem(
                    here, "servetune sets this argument itself",
                    remedy="remove it; layouts go under `parallel`, the model under `model`",
                )  # fmt: skip
    for argument, value in section.args.items():
        if not is_secret_argument(argument):
            yield from _not_fixed(f"{path}.args.{argument}", value)
        if argument in section.search:
            yield Problem(
                f"{path}.search.{argument}", "fixed under `args` and searched as well",
                remedy="keep it in one of the two",
            )  # fmt: skip


def _secret(here: str, argument: str, engine: Engine) -> Problem:
    variable = argument.replace("-", "_").upper()
    if argument == "api-key" and engine.api_key_env is not None:
        variable = engine.api_key_env
    return Problem(
        here, "a secret must not stand on a command line, where everybody can read it",
        remedy=f"pass it through `env`, as `{variable}: {{from_env: {variable}}}`",
    )  # fmt: skip


def _not_fixed(here: str, value: JsonValue) -> Iterator[Problem]:
    """A searched or tied value written where fixed ones stand."""
    if not isinstance(value, Mapping):
        return
    if set(value) == {"equals"}:
        yield Problem(here, f"`equals` is {NOT_YET}", repr(value), "write the number itself")
    elif _SEARCHED_FORMS & set(value) and set(value) <= {*_SEARCHED_FORMS, "log", "step"}:
        yield Problem(here, "a searched value among fixed ones", repr(value), "move it to `search`")
