"""What each engine makes of each layout and precision of an experiment, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.wiring import Study
from runtimes.json_types import Json, canonical_json
from runtimes.plan import DeploymentPlan
from search.materialize import inexpressible
from search.trial import LAYOUT_NAMES, LAYOUT_PRESET, PRECISION_NAMES, PRECISION_PRESET, Params


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one engine makes of one layout and precision.

    Attributes:
        refused: why it would not run them; empty when it would, and then the rest is told.
        arguments: the options that they add to its command, each with its values.
        files: lines that they add to its configuration files, by name.
        gpus, servers, nodes: what it takes.
        notes: what a user should know of it.
    """

    refused: str = ""
    arguments: tuple[tuple[str, ...], ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gpus: int = 0
    servers: int = 0
    nodes: int = 1
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Json]:
        if self.refused:
            return {"refused": self.refused}
        return {
            "arguments": [list(option) for option in self.arguments],
            "files": {name: list(lines) for name, lines in self.files.items()},
            "gpus": self.gpus,
            "servers": self.servers,
            "nodes": self.nodes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class MappedRow:
    """One layout and precision, in neutral words, and what every engine makes of it."""

    neutral: Mapping[str, Json]
    engines: Mapping[str, Mapped]

    @property
    def words(self) -> str:
        """`tp4 pp2, kv_cache fp8`, or the presets' names."""
        layout = [
            str(value) if name == LAYOUT_PRESET else f"{name}{value}"
            for name, value in self.neutral.items()
            if name in LAYOUT_NAMES
        ]
        precision = [
            str(value) if name == PRECISION_PRESET else f"{name.partition('.')[2]} {value}"
            for name, value in self.neutral.items()
            if name in PRECISION_NAMES
        ]
        return ", ".join(filter(None, [" ".join(layout) or "tp1", *precision]))

    def document(self) -> dict[str, Json]:
        return {
            "words": self.words,
            "parameters": dict(self.neutral),
            "engines": {name: mapped.document() for name, mapped in self.engines.items()},
        }


def mapped_rows(study: Study, points: Iterable[Params]) -> tuple[MappedRow, ...]:
    """Every layout and precision among `points` once, in order, for every engine."""
    distinct: dict[str, dict[str, Json]] = {}
    for params in points:
        neutral = _neutral(params)
        distinct.setdefault(canonical_json(neutral), neutral)
    return tuple(
        MappedRow(
            neutral,
            {engine: _mapped(study, Params(engine, neutral)) for engine in study.space.engines},
        )
        for neutral in distinct.values()
    )


def _neutral(params: Params) -> dict[str, Json]:
    """What `params` says of layout and precision, without what says nothing."""
    names = (*LAYOUT_NAMES, *PRECISION_NAMES)
    said = {name: params.values.get(name) for name in names}
    return {
        name: value
        for name, value in said.items()
        if value is not None and not (name in LAYOUT_NAMES and value == 1)
    }


def _mapped(study: Study, params: Params) -> Mapped:
    for found in inexpressible(params, study.templates):
        return Mapped(refused=f"no {found.preset}: {found.reason}")
    refusal = study.admission.refusal(study.admission.config(params))
    if refusal is not None:
        return Mapped(refused=refusal.message)
    plan = study.admission.mapped(params)
    plain = study.admission.mapped(Params(params.engine))
    return Mapped(
        arguments=tuple(_added(_options(plan), _options(plain))),
        files=_added_lines(plan, plain),
        gpus=plan.gpus,
        servers=len(plan.servers),
        nodes=1 + max((process.node for process in plan.processes), default=0),
        notes=plan.notes,
    )


def _options(plan: DeploymentPlan) -> list[tuple[str, ...]]:
    """The command's options, each with the values behind it."""
    options: list[tuple[str, ...]] = []
    for part in plan.deploy if plan.simulated else plan.argv:
        if part.startswith("--") or not options:
            options.append((part,))
        else:
            options[-1] = (*options[-1], part)
    return options


def _added(
    options: Sequence[tuple[str, ...]], plain: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    left = Counter(plain)
    for option in options:
        if left[option] > 0:
            left[option] -= 1
        else:
            yield option


def _added_lines(plan: DeploymentPlan, plain: DeploymentPlan) -> dict[str, tuple[str, ...]]:
    known = {
        (name, line)
        for process in plain.processes
        for name, text in process.files.items()
        for line in text.splitlines()
    }
    added: dict[str, tuple[str, ...]] = {}
    for process in plan.processes:
        for name, text in process.files.items():
            lines = tuple(line for line in text.splitlines() if (name, line) not in known)
            if lines:
                added.setdefault(name, lines)
    return added
