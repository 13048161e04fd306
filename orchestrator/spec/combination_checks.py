"""Whether each of `combinations` is a point that could be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.spec.argument_checks import is_searched_form, own_problem, parser_problems
from orchestrator.spec.combinations import ENGINE
from orchestrator.spec.engine_checks import tie_problems
from orchestrator.spec.models import ExperimentSpec
from orchestrator.spec.refusal import suggestion
from orchestrator.spec.searched import combined_engine, fixed_arguments, fixed_value
from orchestrator.spec.values import is_variable_name
from runtimes.engines.base import create_engine
from runtimes.errors import Problem
from runtimes.json_types import Json, canonical_json
from runtimes.parallel import DEGREES
from runtimes.presets import LAYOUT_PRESETS, PRECISION_PRESETS
from runtimes.quantization import PRECISIONS
from runtimes.secrets import is_secret_name
from search.materialize import ENV_PREFIX
from search.trial import (
    LAYOUT_NAMES,
    LAYOUT_PRESET,
    PRECISION_NAMES,
    PRECISION_PARTS,
    PRECISION_PRESET,
)


def combination_problems(spec: ExperimentSpec) -> Iterator[Problem]:
    """Every rule that a combination breaks, and those that stand twice."""
    spelled: dict[str, int] = {}
    for index, written in enumerate(spec.combinations):
        here = f"combinations[{index}]"
        engine = combined_engine(spec, written)
        if engine is None:
            yield _no_engine(here, spec, written)
            continue
        first = spelled.setdefault(canonical_json({**written, ENGINE: engine}), index)
        if first != index:
            yield Problem(
                here, f"stands in the list already, as combinations[{first}]",
                remedy="keep one of them",
            )  # fmt: skip
            continue
        yield from _mixed(here, written)
        for name, value in written.items():
            if name != ENGINE:
                yield from _value(f"{here}.{name}", name, value, engine, spec)
        yield from _arguments(here, written, engine, spec)


def _no_engine(here: str, spec: ExperimentSpec, written: Mapping[str, Json]) -> Problem:
    known = sorted(spec.engines)
    if written.get(ENGINE) is None:
        remedy = f"write one of them, as `engine: {known[0]}`; known here: {', '.join(known)}"
        return Problem(here, "names none of the engines", remedy=remedy)
    value = written[ENGINE]
    remedy = suggestion(str(value), known)
    return Problem(f"{here}.engine", "is none of the engines of this file", repr(value), remedy)


def _mixed(here: str, written: Mapping[str, Json]) -> Iterator[Problem]:
    for preset, names in ((LAYOUT_PRESET, LAYOUT_NAMES), (PRECISION_PRESET, PRECISION_NAMES)):
        beside = [name for name in names if name in written and name != preset]
        if written.get(preset) is not None and beside:
            yield Problem(
                f"{here}.{beside[0]}", f"stands beside {preset}, which says it already",
                repr(written[beside[0]]), "keep one of them",
            )  # fmt: skip


def _value(
    here: str, name: str, value: Json, engine: str, spec: ExperimentSpec
) -> Iterator[Problem]:
    shown = repr(value)
    if name in DEGREES:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield Problem(here, "a degree is a whole number from 1", shown, "write one, as 2")
    elif name == LAYOUT_PRESET:
        if value not in (None, *LAYOUT_PRESETS):
            remedy = suggestion(str(value), list(LAYOUT_PRESETS))
            yield Problem(here, "is no layout preset", shown, remedy)
    elif name == PRECISION_PRESET:
        if value not in (None, *PRECISION_PRESETS):
            remedy = suggestion(str(value), list(PRECISION_PRESETS))
            yield Problem(here, "is no precision preset", shown, remedy)
    elif name in PRECISION_PARTS:
        if value not in (None, *PRECISIONS):
            yield Problem(here, "is no precision", shown, suggestion(str(value), PRECISIONS))
    elif name.startswith(ENV_PREFIX):
        yield from _variable(here, name.removeprefix(ENV_PREFIX), value)
    else:
        problem = own_problem(here, name, create_engine(engine))
        if problem is not None:
            yield problem
        elif is_searched_form(value):
            yield Problem(here, "a combination holds single values", shown, "write the value")
        else:
            yield from tie_problems(here, value, spec)


def _variable(here: str, variable: str, value: Json) -> Iterator[Problem]:
    if is_secret_name(variable):
        remedy = f"write {{from_env: {variable}}} under the engine's `env`"
        yield Problem(here, "a secret cannot be searched", remedy=remedy)
    elif not is_variable_name(variable):
        yield Problem(here, "is no name of an environment variable", repr(variable),
                      "use letters, digits, _")  # fmt: skip
    elif isinstance(value, Mapping | list):
        yield Problem(here, "a variable holds text", repr(value), "write one text")


def _arguments(
    here: str, written: Mapping[str, Json], engine: str, spec: ExperimentSpec
) -> Iterator[Problem]:
    """What the engine's parser has against the arguments, each by itself.

    What fixes an argument already gives way to the combination's own value.
    """
    others = {ENGINE, *LAYOUT_NAMES, *PRECISION_NAMES}
    named = create_engine(engine)
    arguments = {
        name: fixed_value(value, spec)
        for name, value in written.items()
        if name not in others
        and not name.startswith(ENV_PREFIX)
        and own_problem("", name, named) is None
        and not is_searched_form(value)
    }
    fixed = {
        name: value
        for name, value in fixed_arguments(spec, engine).items()
        if name not in arguments and own_problem("", name, named) is None
    }
    for name, words in parser_problems(
        engine, spec.engines[engine], {**fixed, **arguments}
    ).items():
        if name in arguments:
            yield Problem(f"{here}.{name}", words)
