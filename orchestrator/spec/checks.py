"""Rules that span several keys of a valid experiment."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import JsonValue

from orchestrator.spec.models import CPU, EngineSpec, ExperimentSpec, SecretSpec
from orchestrator.spec.problems import suggestion
from runtimes.engines.base import ENGINES, create_engine
from runtimes.errors import Problem
from runtimes.model import find_model
from runtimes.secrets import is_secret_argument
from runtimes.workloads.base import WORKLOADS
from search.constraints import Constraint
from search.objectives.base import OBJECTIVES
from search.trial import LAYOUT_NAMES


def cross_checks(spec: ExperimentSpec) -> list[Problem]:
    """Every rule broken between keys that are each right by themselves."""
    return [
        *_engines(spec),
        *_constraints(spec),
        *_objectives(spec),
        *_workload(spec),
        *_cluster(spec),
    ]


def _engines(spec: ExperimentSpec) -> Iterator[Problem]:
    for name, engine in spec.engines.items():
        path = f"engines.{name}"
        yield from _options(path, name, engine)
        yield from _arguments(path, name, engine)


def _options(path: str, name: str, engine: EngineSpec) -> Iterator[Problem]:
    known = ENGINES.get(name).options
    sections = list(EngineSpec.model_fields)
    for option, value in engine.options.items():
        here = f"{path}.{option}"
        if option not in known:
            remedy = suggestion(option, [*sections, *known])
            yield Problem(here, f"unknown key {option!r}", remedy=remedy)
        elif not _same_type(value, known[option]):
            wanted = type(known[option]).__name__
            yield Problem(here, f"takes a value of type {wanted}", repr(value))
    if "imitates" in known:
        yield from _imitated(f"{path}.imitates", name, engine.options.get("imitates"))


def _imitated(path: str, name: str, imitated: JsonValue) -> Iterator[Problem]:
    others = [other for other in ENGINES.names() if other != name]
    if isinstance(imitated, str) and imitated not in others:
        remedy = suggestion(imitated, others)
        yield Problem(path, "names no engine", repr(imitated), remedy)


def _same_type(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)


def _arguments(path: str, name: str, engine: EngineSpec) -> Iterator[Problem]:
    creator = create_engine(name)
    for section, arguments in (("args", engine.args), ("search", engine.search)):
        for reserved in creator.check_args(dict.fromkeys(arguments)):
            yield Problem(
                f"{path}.{section}.{reserved}",
                "servetune sets this argument itself",
                remedy="remove it; layouts go under `parallel`, the model under `model`",
            )
        for argument in arguments:
            if is_secret_argument(argument):
                yield Problem(
                    f"{path}.{section}.{argument}",
                    "a secret must not stand on a command line, where everybody can read it",
                    remedy="pass it through `env`, as `VLLM_API_KEY: {from_env: VLLM_API_KEY}`",
                )
    for argument in sorted(set(engine.args) & set(engine.search)):
        yield Problem(
            f"{path}.search.{argument}", "fixed under `args` and searched as well",
            remedy="keep it in one of the two",
        )  # fmt: skip


def parameter_names(spec: ExperimentSpec, engine: str) -> set[str]:
    """Names a constraint may use for `engine`, as the expression language spells them."""
    section = spec.engines[engine]
    searched = {f"env.{name}" for name, value in section.env.items() if isinstance(value, list)}
    names = {*LAYOUT_NAMES, "gpus", "engine", *section.search, *searched}
    return {name.replace("-", "_").replace(".", "_") for name in names}


def _constraints(spec: ExperimentSpec) -> Iterator[Problem]:
    known = set().union(*(parameter_names(spec, engine) for engine in spec.engines))
    for index, text in enumerate(spec.constraints):
        for name in sorted(set(Constraint.parse(text).names) - known):
            yield Problem(
                f"constraints[{index}]", f"{name!r} is no searched parameter", repr(text),
                suggestion(name, sorted(known)),
            )  # fmt: skip


def _objectives(spec: ExperimentSpec) -> Iterator[Problem]:
    named = [objective.name for objective in spec.objectives]
    for index, name in enumerate(named):
        path = f"objectives[{index}]"
        if name in named[:index]:
            yield Problem(path, "named twice", repr(name), "keep one of them")
        if OBJECTIVES.get(name).requires_price and spec.cluster.gpu_price_per_hour is None:
            yield Problem(
                path, "needs the price of a GPU", repr(name),
                "set `cluster.gpu_price_per_hour`, in your currency",
            )  # fmt: skip


def _workload(spec: ExperimentSpec) -> Iterator[Problem]:
    workload = spec.workload
    settings = {"input_tokens": workload.input_tokens, "output_tokens": workload.output_tokens}
    try:
        built = WORKLOADS.get(workload.kind).from_settings(settings, vocab=32_000, seed=0)
    except ValueError as error:
        key, _, words = str(error).partition(" ")
        key = key.rstrip(":").split(".")[0]
        value = settings.get(key)
        yield Problem(f"workload.{key}", words or str(error), repr(value))
        return
    facts = find_model(spec.model.source)
    if facts is not None and facts.max_context and built.max_context > facts.max_context:
        yield Problem(
            "workload", "requests are longer than the model's context",
            f"{built.max_context} tokens against {facts.max_context}",
            "shorten input_tokens or output_tokens",
        )  # fmt: skip


def _cluster(spec: ExperimentSpec) -> Iterator[Problem]:
    cluster = spec.cluster
    simulated = [name for name in spec.engines if "imitates" in ENGINES.get(name).options]
    if simulated and cluster.accelerator in (None, CPU):
        yield Problem(
            "cluster.accelerator", f"the {simulated[0]} engine needs to know what it imitates",
            None if cluster.accelerator is None else repr(cluster.accelerator),
            "name one, as `accelerator: H100`",
        )  # fmt: skip
    if simulated and find_model(spec.model.source) is None:
        yield Problem(
            "model", "the simulated engine needs the model's shape and does not know it",
            repr(spec.model.source), "name a folder with config.json (`path:`) or a known Hub id",
        )  # fmt: skip
    for name, engine in spec.engines.items():
        for variable, value in engine.env.items():
            if isinstance(value, SecretSpec) and not value.from_env:
                yield Problem(f"engines.{name}.env.{variable}", "names no variable")
