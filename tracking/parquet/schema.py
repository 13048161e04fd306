"""Arrow schemas of the record: types, units (field metadata) and version (schema metadata)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from runtimes.errors import RunFolderError
from search.objectives.base import OBJECTIVES
from tracking.parquet.columns import ENCODING_KEY, ArrowField, Columns, column
from tracking.parquet.measured_columns import measurement
from tracking.parquet.other_columns import (
    EVENT_FIELDS,
    EVENT_PLACE,
    REQUESTS,
    SAMPLES,
    STAGE_HEAD,
    STAGE_TAIL,
)
from tracking.parquet.parameters import ParameterType, ParameterTypes, column_names
from tracking.parquet.trial_columns import HEAD, TAIL

SCHEMA_VERSION = 2
"""Raised when a reader of the old version would misread a file of the new one."""

_KIND_KEY = b"servetune.kind"
_VERSION_KEY = b"servetune.schema_version"
PARAMETERS_KEY = b"servetune.parameters"

_SCALARS: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


@dataclass(frozen=True, slots=True)
class ParameterColumn:
    """Where the values of one parameter stand, and as what."""

    column: str
    type: ParameterType


def trial_schema(parameter_types: ParameterTypes, objectives: Sequence[str]) -> pa.Schema:
    """Schema of every trial file of a run with these parameters and objectives."""
    columns = column_names("param_", parameter_types)
    fields = [
        *_fields(HEAD),
        *(_parameter_field(columns[name], kind) for name, kind in parameter_types.items()),
        *(
            column(name, pa.float64(), _unit(objective))
            for objective, name in objective_columns(objectives).items()
        ),
        *_fields(measurement()),
        *_fields(TAIL),
    ]
    mapping = {name: [columns[name], kind] for name, kind in parameter_types.items()}
    return _schema("trials", fields, {PARAMETERS_KEY: json.dumps(mapping)})


def objective_columns(objectives: Sequence[str]) -> dict[str, str]:
    """Column by objective name."""
    return column_names("objective_", objectives)


def _unit(objective: str) -> str:
    """Empty for one that nobody registered: of another tool, or of a plugin that is gone."""
    return OBJECTIVES.get(objective).unit if objective in OBJECTIVES else ""


def stage_schema() -> pa.Schema:
    """Schema of every stage file."""
    return _schema("stages", [*_fields(STAGE_HEAD), *_fields(measurement()), *_fields(STAGE_TAIL)])


def requests_schema() -> pa.Schema:
    """Schema of every request file; `chunk_ns` counts from `sent_ns`."""
    return _schema("requests", _fields(REQUESTS))


def samples_schema() -> pa.Schema:
    """Schema of every sample file; units of `value` follow from `metric`."""
    return _schema("samples", _fields(SAMPLES))


def events_schema() -> pa.Schema:
    """Schema of every file of events."""
    return _schema("events", [*_fields(EVENT_PLACE), *_fields(EVENT_FIELDS)])


def parameter_columns(schema: pa.Schema) -> dict[str, ParameterColumn]:
    """Column by parameter name, as a trial file's own metadata has it.

    Raises:
        ValueError: the metadata is not there or cannot be read.
    """
    mapping = json.loads((schema.metadata or {}).get(PARAMETERS_KEY, b""))
    return {name: ParameterColumn(column, kind) for name, (column, kind) in mapping.items()}


def check_schema(schema: pa.Schema, kind: str, path: Path) -> None:
    """Accept the schema of a file of ours.

    Raises:
        RunFolderError: a newer servetune wrote the file.
        ValueError: it is no `kind` file of servetune's.
    """
    metadata = schema.metadata or {}
    if metadata.get(_KIND_KEY) != kind.encode():
        raise ValueError(f"this is not a {kind} file of servetune's")
    written = int(metadata.get(_VERSION_KEY, b""))
    if written > SCHEMA_VERSION:
        raise RunFolderError(
            f"{path}: written with record version {written}, but this servetune knows versions "
            f"up to {SCHEMA_VERSION}; install the version of servetune that made the run, or a "
            "newer one"
        )


def _fields(columns: Iterable[Columns]) -> list[ArrowField]:
    return [field for group in columns for field in group.fields()]


def _parameter_field(name: str, kind: ParameterType) -> ArrowField:
    """The field of a parameter, or of a part of one; JSON text says so in its metadata."""
    if kind == "json":
        return pa.field(name, pa.string(), metadata={ENCODING_KEY: b"json"})
    return pa.field(name, _arrow(kind))


def _arrow(kind: ParameterType) -> pa.DataType:
    if isinstance(kind, str):
        return _SCALARS[kind]
    if isinstance(kind, list):
        return pa.list_(_parameter_field("element", kind[0]))
    return pa.struct([_parameter_field(name, inner) for name, inner in kind.items()])


def _schema(
    kind: str, fields: list[ArrowField], extra: dict[bytes | str, bytes | str] | None = None
) -> pa.Schema:
    metadata: dict[bytes | str, bytes | str] = {
        _KIND_KEY: kind,
        _VERSION_KEY: str(SCHEMA_VERSION),
        **(extra or {}),
    }
    return pa.schema(fields, metadata=metadata)
