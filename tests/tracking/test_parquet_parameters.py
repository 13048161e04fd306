"""Parameter columns: types, names and cells, without pyarrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json
from search.domains import Choice
from search.space import Dimension, SearchSpace
from search.trial import Params
from tracking.parquet.parameters import (
    ParameterType,
    column_names,
    column_types,
    from_cell,
    json_kind,
    parameter_type,
    to_cell,
)
from tracking.parquet.schema import parameter_columns, trial_schema

_JSON: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 8], "int"),
        ([0.5, 0.9], "float"),
        ([0.5, 1], "float"),
        ([True, False], "bool"),
        (["lpm", "fcfs"], "string"),
        ([8, None], "int"),
        ([None, "auto"], "string"),
        ([True, 1], "json"),
        ([1, "auto"], "json"),
        ([[1, 2], [3], [], None], ["int"]),
        ([[1, None], [3]], ["int"]),
        ([[]], "json"),
        ([[1, "a"]], "json"),
        ([[1, 0.5]], "json"),
        ([[[1]], [[2, 3]]], [["int"]]),
        ([{"a": 1}], {"a": "int"}),
        ([{"b": "x"}, {"a": {"c": True}}, {}], {"a": {"c": "bool"}, "b": "string"}),
        ([{"a": 1}, {"a": "auto"}], {"a": "json"}),
        ([{"a": 1}, {"a": 0.5}], {"a": "json"}),
        ([{"a": 1}, {"a": None}], "json"),
        ([{"a": 1, "A": 2}], "json"),
        ([{"2": 1}], "json"),
        ([{}], "json"),
        ([{"a": 1}, [1]], "json"),
        ([None], "json"),
        ([], "json"),
        ([1 << 63], "json"),
        ([-(1 << 63), (1 << 63) - 1], "int"),
        ([0.5, (1 << 53) + 1], "json"),
    ],
)
def test_the_type_is_the_narrowest_exact_one(values: list[Json], expected: ParameterType) -> None:
    assert parameter_type(values) == expected


_ALIKE: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        "level": st.integers(0, 3),
        "sizes": st.lists(st.none() | st.integers(1, 8), max_size=3),
        "pass": st.fixed_dictionaries({}, optional={"fuse": st.booleans(), "mode": st.text()}),
        "any": st.integers() | st.text(),
    },
)


@given(st.lists(_JSON, max_size=5) | st.lists(_ALIKE | st.none(), max_size=5))
def test_every_value_comes_back_from_a_column_of_the_derived_type(values: list[Json]) -> None:
    declared = parameter_type(values)
    schema = trial_schema({"x": declared}, ())
    field = pa.schema([schema.field("param_x")])
    rows = [{"param_x": to_cell("x", value, declared)} for value in values]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=field), sink)
    cells = pq.read_table(pa.BufferReader(sink.getvalue()))["param_x"].to_pylist()
    assert parameter_columns(schema)["x"].type == declared
    for value, cell in zip(values, cells, strict=True):
        back = from_cell(cell, json_kind(value), declared)
        assert canonical_json(back) == canonical_json(value)


def test_text_that_is_json_says_so() -> None:
    schema = trial_schema({"plain": "string", "mixed": "json", "part": {"mode": "json"}}, ())
    assert schema.field("param_plain").metadata is None
    assert schema.field("param_mixed").metadata == {b"encoding": b"json"}
    part = schema.field("param_part").type
    assert isinstance(part, pa.StructType)
    assert part.field("mode").metadata == {b"encoding": b"json"}


def test_a_space_types_its_columns_by_every_value() -> None:
    space = SearchSpace(
        ("vllm", "sglang"),
        (
            Dimension("tp", Choice((1, 2))),
            Dimension("compilation", Choice(({"level": 3}, {"level": 0, "mode": "x"})), "vllm"),
            Dimension("sizes", Choice(([1, 2], [4])), "vllm"),
            Dimension("mixed", Choice((1, {"a": 1})), "sglang"),
        ),
        combinations=(Params("vllm", {"compilation": {"fuse": True}}),),
    )
    assert column_types(space) == {
        "tp": "int",
        "compilation": {"fuse": "bool", "level": "int", "mode": "string"},
        "sizes": ["int"],
        "mixed": "json",
    }


@pytest.mark.parametrize(
    ("value", "declared"),
    [(1.5, "int"), (True, "int"), ("1", "int"), (1, "bool"), (1, "string"), ([1], "float"),
     ([1, "a"], ["int"]), ([1], {"a": "int"}), ({"b": 1}, {"a": "int"}),
     ({"a": None}, {"a": "int"}), ((1 << 53) + 1, "float"), (1 << 63, "int"), ("x", "bool"),
     (True, "float")],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(value: Json, declared: ParameterType) -> None:
    with pytest.raises(InternalError, match="'max-num-seqs' has the value"):
        to_cell("max-num-seqs", value, declared)


def test_column_names_need_no_quoting_and_never_collide() -> None:
    assert column_names("param_", ["tp", "max-num-seqs", "env.A.B"]) == {
        "tp": "param_tp",
        "max-num-seqs": "param_max_num_seqs",
        "env.A.B": "param_env_A_B",
    }
    assert column_names("param_", ["a-b", "a.b", "A_B", "a_b_2"]) == {
        "a-b": "param_a_b",
        "a.b": "param_a_b_2",
        "A_B": "param_A_B_3",
        "a_b_2": "param_a_b_2_2",
    }


def test_only_reading_and_writing_load_pyarrow() -> None:
    modules = "tracking, tracking.parquet.parameters, tracking.layout, tracking.lock"
    code = (
        f"import sys, {modules}, tracking.journal, tracking.provenance\n"
        "sys.exit(' '.join({'pyarrow', 'pandas', 'numpy', 'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""
