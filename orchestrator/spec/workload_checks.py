"""Whether the requests of an experiment can be made, and its load be sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orchestrator.spec.load_stages import Supply
from orchestrator.spec.models import ExperimentSpec
from orchestrator.spec.redaction import shown
from orchestrator.spec.refusal import suggestion
from orchestrator.spec.sections import keys_of
from orchestrator.spec.workloads import WorkloadSpec, workload_context
from runtimes.errors import Problem, UserError
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.workloads.base import WORKLOADS, Workload, WorkloadContext

_PROMPT_TOKENS = 2_000_000_000
"""Tokens of the requests of one stage at most, each taken as long as the longest: 16 GiB."""
_REFUSAL = re.compile(r"(?P<key>[a-z]\w*)(?P<rest>(?:\.\w+|\[\d+\])*): (?P<words>.+)", re.DOTALL)


def workload_problems(
    spec: ExperimentSpec, model: ModelFacts | None, *, readable: bool = True
) -> Iterator[Problem]:
    """Every rule that the `workload` section breaks, by itself and beside the rest.

    Args:
        spec: the experiment.
        model: its model; None where nobody knows it.
        readable: False where there is something wrong with the model itself, for which no
            workload can be made.
    """
    section = spec.workload
    alone = [*_settings(section), *_paths(section)]
    limits = [*_limits(spec)]
    yield from (*alone, *limits)
    if not readable:
        return
    workload, refused = _built(section, workload_context(spec, model))
    yield from refused
    if workload is None or alone:
        return
    yield from _cache(section, workload)
    yield from _arrivals(section, workload)
    yield from _sizes(section, workload)
    too_long = [*_context(workload, model)]
    yield from too_long
    if not (limits or too_long):
        yield from _memory(spec, workload)


def _settings(section: WorkloadSpec) -> Iterator[Problem]:
    """Settings that the workload does not have, or needs, and paths that lead nowhere."""
    kind = WORKLOADS.get(section.kind)
    known = [*kind.defaults, *kind.required]
    for setting in section.settings:
        if setting not in known:
            remedy = suggestion(setting, [*keys_of(WorkloadSpec), *known])
            yield Problem(f"workload.{setting}", f"unknown key {setting!r}", remedy=remedy)
    for setting in kind.required:
        if setting not in section.settings:
            remedy = f"add it: the workload {section.kind} has no default for it"
            yield Problem(f"workload.{setting}", "this key is required and missing", remedy=remedy)


def _paths(section: WorkloadSpec) -> Iterator[Problem]:
    for place, value, refused in section.refused_paths():
        yield Problem(f"workload{place}", refused.rule, repr(value), refused.remedy)


def _built(
    section: WorkloadSpec, context: WorkloadContext
) -> tuple[Workload | None, list[Problem]]:
    """The workload, or everything it has against those of its settings that it knows.

    A setting that is refused is replaced by its default, so that the others are looked at too.
    """
    kind = WORKLOADS.get(section.kind)
    known = {*kind.defaults, *kind.required}
    settings = {key: value for key, value in section.settings.items() if key in known}
    problems: list[Problem] = []
    if not settings.keys() >= set(kind.required) or any(section.refused_paths()):
        return None, problems
    while True:
        try:
            workload = kind.from_settings(settings, context)
        except ValueError as error:
            problem, setting = _refusal(str(error), settings)
            problems.append(problem)
            if setting not in kind.defaults or settings.get(setting) == kind.defaults[setting]:
                return None, problems
            settings = {**settings, setting: kind.defaults[setting]}
        except UserError as error:
            return None, [*problems, Problem("workload", str(error))]
        else:
            return (None if problems else workload), problems


def _refusal(words: str, settings: Mapping[str, Json]) -> tuple[Problem, str]:
    """`input_tokens.mean: must be at least 1 token, got 0; write more` as a problem, and the
    setting it is about.
    """
    match = _REFUSAL.fullmatch(words)
    if match is None:
        return Problem("workload", words), ""
    setting = match["key"]
    fact, _, rest = match["words"].partition(", got ")
    rule, _, remedy = fact.partition("; ")
    got, _, behind = rest.partition("; ")
    if not got and setting in settings:
        got = shown(settings[setting], ("workload", setting), settings)
    return Problem(
        f"workload.{setting}{match['rest']}", rule, got or None, remedy or behind
    ), setting


def _limits(spec: ExperimentSpec) -> Iterator[Problem]:
    """A load that looks for limits, where there are none."""
    load = spec.workload.load
    if load.needs_slo and not spec.slo:
        yield Problem(
            "workload.load.kind", "looks for where the limits of `slo` hold, and there are none",
            repr(load.kind), "add them, as `slo: {ttft_ms: {p99: 500}, tpot_ms: {p99: 40}}`",
        )  # fmt: skip


def _cache(section: WorkloadSpec, workload: Workload) -> Iterator[Problem]:
    if section.cache == "warm" and not workload.primers("0"):
        yield Problem(
            "workload.cache", f"the workload {section.kind} has no prefixes to warm a cache with",
            repr(section.cache), "write auto or cold",
        )  # fmt: skip


def _arrivals(section: WorkloadSpec, workload: Workload) -> Iterator[Problem]:
    """Stages that replay arrivals, of a workload that has none."""
    needing = [place for place, stage in section.load.parts().items() if stage.needs_arrivals]
    if needing and any(prompt.at_s is None for prompt in workload.prompts("0", 1)):
        for place in needing:
            yield Problem(
                f"workload.load{place}.kind",
                f"the workload {section.kind} has no arrival times to replay",
                repr(section.load.kind if not place else "replay"),
                "use a recorded workload that has them, or concurrency or poisson",
            )


def _sizes(section: WorkloadSpec, workload: Workload) -> Iterator[Problem]:
    """Stages that are asked for more requests than the workload has."""
    size = workload.size
    if size is None:
        return
    written = {"": section.load.requests}
    written |= {place: stage.requests for place, stage in section.load.parts().items()}
    for place, requests in written.items():
        if requests is not None and requests > size:
            yield Problem(
                f"workload.load{place}.requests",
                f"the workload {section.kind} has {size:,} requests",
                str(requests), "write fewer, or remove it to send as many as there are",
            )  # fmt: skip


def _context(workload: Workload, model: ModelFacts | None) -> Iterator[Problem]:
    if model is not None and model.max_context and workload.max_context > model.max_context:
        yield Problem(
            "workload", "requests are longer than the model's context",
            f"{workload.max_context} tokens, the model takes {model.max_context}",
            "make prompts or outputs shorter",
        )  # fmt: skip


def _memory(spec: ExperimentSpec, workload: Workload) -> Iterator[Problem]:
    """All prompts of a stage are made before its first request, and held until its last."""
    section = spec.workload
    program = section.load.program(spec.limits(), Supply.of(workload))
    requests = program.requests + (section.warmup_requests or 0)
    if requests * workload.max_context > _PROMPT_TOKENS:
        yield Problem(
            "workload.load", f"the requests of a stage hold more than {_PROMPT_TOKENS:,} tokens",
            f"{requests:,} requests of up to {workload.max_context:,} tokens",
            "send fewer (`requests`), or shorter ones",
        )  # fmt: skip
