"""A load against a server that runs, on its own, as an experiment of one trial."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.attach import RunningServer, attached_sections
from orchestrator.naming import model_section, run_name
from orchestrator.spec.experiment import Experiment
from orchestrator.spec.yaml_file import read_mapping
from runtimes.errors import Problem, SpecError, UserError
from runtimes.json_types import Json

_SOURCE = "servetune bench"
_ENGINE_OPTION = re.compile(r"option (\w+)")
_KEY_END = re.compile(r"[.\[]")
_WORKLOAD_KEYS = frozenset({"workload", "name", "engines"})
"""Keys of an experiment file; none of them stands in a section of one."""
_OPTIONS: Mapping[str, str] = {
    "model.tokenizer": "--tokenizer",
    "model.id": "--model",
    "model": "--model",
    "engines.external.url": "--url",
    "engines.external.drop_fields": "--drop-fields",
    "engines.external": "--url",
    "workload.api": "--api",
    "slo.ttft_ms": "--ttft-p99",
    "slo.tpot_ms": "--tpot-p99",
    "search.seed": "--seed",
    "timeouts": "--timeout",
    "cluster.simulated_gpus": "--gpus",
}
"""Options by what they set, `workload` and `workload.load` apart: these may come from files."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an experiment, and where each of its values comes from.

    Attributes:
        options: option by key, of the keys that are not the file's, the most telling one first.
        file: what holds the others; None where there is none.
        place: path of the section in the file; empty where the file is the section.
    """

    values: Mapping[str, Json]
    options: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    place: str = ""

    def below(self, key: str) -> Section | None:
        """The section of a file that stands in this one; None where there is none."""
        values = self.values.get(key)
        if not isinstance(values, dict):
            return None
        return Section(values, file=self.file, place=f"{self.place}.{key}".lstrip("."))

    def overridden(self, values: Mapping[str, Json], options: Mapping[str, str]) -> Section:
        """The same section with values that options give, beside its own or instead of them."""
        return replace(self, values={**self.values, **values}, options=options)

    def origin(self, path: str) -> str | None:
        """Where what stands at `path`, counted from the section, comes from, in a user's words.

        None where nobody gave it.
        """
        key = _KEY_END.split(path, maxsplit=1)[0]
        if key in self.options:
            rest = path[len(key) :].lstrip(".")
            return f"{self.options[key]}: {rest}" if rest else self.options[key]
        if self.file is not None:
            where = ".".join(part for part in (self.place, path) if part)
            return f"{self.file}: {where}" if where else str(self.file)
        return next(iter(self.options.values()), None)


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What a user asks of `servetune bench`.

    Attributes:
        model: name under which the server serves the model; a folder also tells its vocabulary.
        tokenizer: folder or Hub id of its tokenizer; None where `model` is that.
        workload, load: sections of an experiment; `workload` without its load.
        slo: percentile limits by metric, ms.
        timeout: seconds, or `90s`: limit of a request, of a silence, and of the first answer; None
            for the limits of an experiment.
    """

    server: RunningServer
    model: str
    workload: Section
    load: Section
    slo: Mapping[str, Json] = field(default_factory=dict)
    seed: int = 0
    timeout: Json = None
    tokenizer: str | None = None


def bench_experiment(request: BenchRequest) -> Experiment:
    """One trial of the load on the server.

    Raises:
        SpecError: something is wrong; each problem names the option, or the file and its key.
    """
    model = model_section(request.model)
    if request.tokenizer is not None:
        model["tokenizer"] = request.tokenizer
    data: dict[str, Json] = {
        "name": run_name(request.model, prefix="bench-"),
        "model": model,
        "workload": {**request.workload.values, "load": dict(request.load.values)},
        "slo": dict(request.slo),
        "objectives": [{"maximize": "goodput" if request.slo else "output_throughput"}],
        **attached_sections(request.server, seed=request.seed),
    }
    if request.timeout is not None:
        data["timeouts"] = dict.fromkeys(("request", "stall", "start"), request.timeout)
    problems = list(_absent_key(request.server))
    try:
        experiment = Experiment.from_dict(data, source=_SOURCE)
    except SpecError as error:
        problems += [_as_given(problem, request) for problem in error.problems]
        raise SpecError(_SOURCE, list(dict.fromkeys(problems))) from None
    if problems:
        raise SpecError(_SOURCE, problems)
    return experiment


def _absent_key(server: RunningServer) -> Iterator[Problem]:
    name = server.api_key_env
    if name is not None and name not in os.environ:
        remedy = "export the variable that holds the key where servetune runs, or name another one"
        yield Problem("--api-key-env", "no such environment variable is set here", name, remedy)


def read_section(path: Path, *keys: str) -> Section:
    """The section `keys` of an experiment file, or of a file that holds nothing else.

    Raises:
        UserError: it cannot be read, or the experiment has no such section.
    """
    example = "kind: concurrency" if keys[-1] == "load" else "input_tokens: 512"
    data = read_mapping(path, example=example)
    whole = Section(data, file=path)
    if not _WORKLOAD_KEYS & data.keys():
        return whole
    found: Section | None = whole
    for key in keys:
        found = found.below(key) if found is not None else None
    if found is None:
        raise UserError(f"{path}: this experiment has no section `{'.'.join(keys)}`")
    return found


def _as_given(problem: Problem, request: BenchRequest) -> Problem:
    """A problem of the experiment as one of the option or the file that made it."""
    for section, values in (("workload.load", request.load), ("workload", request.workload)):
        rest = _below(problem.path, section)
        if rest is not None and (origin := values.origin(rest)) is not None:
            return replace(problem, path=origin)
    # An engine says in words which of its options is wrong.
    named = _ENGINE_OPTION.match(problem.message)
    place = problem.path if named is None else f"{problem.path}.{named[1]}"
    for path, option in _OPTIONS.items():
        rest = _below(place, path)
        if rest is not None:
            # The keys below `timeouts` are made of one value.
            shown = rest if rest and option != "--timeout" else ""
            return replace(problem, path=f"{option}: {shown}" if shown else option)
    return problem


def _below(path: str, section: str) -> str | None:
    """What of `path` comes after `section`; None where it leads somewhere else."""
    if path == section:
        return ""
    if path.startswith((f"{section}.", f"{section}[")):
        return path[len(section) :].lstrip(".")
    return None
