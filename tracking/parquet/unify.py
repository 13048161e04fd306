"""Tables of files whose schemas differ, made into one: a run may outlive versions and spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from runtimes.json_types import canonical_json
from tracking.parquet.columns import ENCODING_KEY
from tracking.parquet.parameters import ParameterType, from_cell
from tracking.parquet.schema import PARAMETERS_KEY, parameter_columns


def one_table(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows; columns that a table lacks are null, and numbers take the wider type.

    A parameter whose type in one table cannot hold its values of another is JSON text in all.
    """
    differing = _differing([table.schema for table in tables])
    alike = [_as_text(table, differing) for table in tables] if differing else tables
    return pa.concat_tables(alike, promote_options="permissive")


def _differing(schemas: Sequence[pa.Schema]) -> set[str]:
    """Columns of parameters that no common type holds."""
    found: set[str] = set()
    types: dict[str, pa.Field[pa.DataType]] = {}
    for schema in schemas:
        for column in _types(schema).keys() & set(schema.names):
            field = schema.field(column)
            known = types.setdefault(column, field)
            try:
                both = [pa.schema([known]), pa.schema([field])]
                pa.unify_schemas(both, promote_options="permissive")
            except pa.ArrowException:
                found.add(column)
            if known.metadata != field.metadata:
                found.add(column)
    return found


def _as_text(table: pa.Table, columns: set[str]) -> pa.Table:
    types = _types(table.schema)
    for column in columns & set(table.column_names):
        declared = types[column]
        cells = table[column].to_pylist()
        if declared != "json":
            cells = [
                None if cell is None else canonical_json(from_cell(cell, "", declared))
                for cell in cells
            ]
        field = pa.field(column, pa.string(), metadata={ENCODING_KEY: b"json"})
        index = table.column_names.index(column)
        table = table.set_column(index, field, pa.array(cells, pa.string()))
    return table


def _types(schema: pa.Schema) -> Mapping[str, ParameterType]:
    if PARAMETERS_KEY not in (schema.metadata or {}):
        return {}
    return {item.column: item.type for item in parameter_columns(schema).values()}
