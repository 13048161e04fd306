"""The section `workload`: what the requests are. Each workload checks its own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from orchestrator.spec.base import Section
from orchestrator.spec.loads import ConcurrencyLoadSpec, LoadSpec, WholeLoad
from orchestrator.spec.names import WorkloadName
from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.values import Natural, file_path
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.workloads.base import WORKLOADS, Workload, WorkloadContext

if TYPE_CHECKING:
    from orchestrator.spec.models import ExperimentSpec

_SAFE_VOCAB = 32_000
"""Token ids stay below this where the model's vocabulary is unknown; few models have fewer."""
_FILE = "file"
"""A setting of this name holds a path, in whatever workload and however deep it stands."""


class WorkloadSpec(Section):
    """What the requests are, how they are sent and when; beside these keys, the workload's own."""

    kind: WorkloadName = "synthetic"
    api: Literal["completions", "chat"] = "completions"
    cache: Literal["auto", "cold", "warm"] = "auto"
    warmup_requests: Natural | None = None
    load: LoadSpec = ConcurrencyLoadSpec(kind="concurrency", value=16)

    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: object) -> object:
        """The workload's own defaults written out, and its files found from anywhere."""
        if not isinstance(value, Mapping):
            return value
        kind = value.get("kind", cls.model_fields["kind"].default)
        if not isinstance(kind, str) or kind not in WORKLOADS:
            return value
        given = {
            key: item if key in cls.model_fields else _located(item, key)
            for key, item in value.items()
        }
        return {**WORKLOADS.get(kind).defaults, **given}

    @property
    def settings(self) -> dict[str, Json]:
        """The workload's own settings; `workload_checks` holds them against what it takes."""
        return dict(self.model_extra or {})

    def build(self, context: WorkloadContext) -> Workload:
        """The workload.

        Raises:
            ValueError: it has something against its settings.
        """
        return WORKLOADS.get(self.kind).from_settings(self.settings, context)

    def refused_paths(self) -> Iterator[tuple[str, str, RefusedValueError]]:
        """Place below the section, value and fault of every path that cannot be filled in."""
        return _refused_paths(self.settings, "")

    def as_json(self) -> dict[str, Json]:
        """The section as a file says it."""
        own = self.model_dump(
            include=set(type(self).model_fields), exclude_none=True, by_alias=True
        )
        for key in WholeLoad.model_fields:  # what says when to send comes first
            own["load"][key] = own["load"].pop(key)
        settings = {key: value for key, value in self.settings.items() if value is not None}
        return {"kind": own.pop("kind"), **settings, **own}


def workload_context(spec: ExperimentSpec, model: ModelFacts | None) -> WorkloadContext:
    """What the workload of `spec` is built for; `model` is None where nobody knows it."""
    tokenizer, revision = spec.model.tokenizer_source
    return WorkloadContext(
        vocab=_SAFE_VOCAB if model is None else model.vocab,
        seed=spec.search.seed,
        model=tokenizer,
        revision=revision,
        chat=spec.workload.api == "chat",
    )


def _located(value: object, key: str) -> object:
    """`value` of the setting `key` with its paths absolute, as far as they can be filled in."""
    if isinstance(value, Mapping):
        return {name: _located(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_located(item, key) for item in value]
    if key == _FILE and isinstance(value, str):
        try:
            return file_path(value)
        except RefusedValueError:  # told by `refused_paths`, with its place
            return value
    return value


def _refused_paths(value: Json, place: str) -> Iterator[tuple[str, str, RefusedValueError]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _refused_paths(item, f"{place}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _refused_paths(item, f"{place}[{index}]")
    elif isinstance(value, str) and place.partition("[")[0].endswith(f".{_FILE}"):
        try:
            file_path(value)
        except RefusedValueError as refused:
            yield place, value, refused
