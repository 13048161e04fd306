"""Parameter columns: types, names and cells, without pyarrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import InternalError
from runtimes.json_types import Json, canonical_json
from tracking.parquet.parameters import (
    ParameterType,
    column_names,
    from_cell,
    json_kind,
    parameter_type,
    to_cell,
)

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
        ([[1, 2], [3]], "json"),
        ([{"a": 1}], "json"),
        ([None], "json"),
        ([], "json"),
        ([1 << 63], "json"),
        ([-(1 << 63), (1 << 63) - 1], "int"),
        ([0.5, (1 << 53) + 1], "json"),
    ],
)
def test_the_type_is_the_narrowest_exact_one(values: list[Json], expected: ParameterType) -> None:
    assert parameter_type(values) == expected


@given(st.lists(_JSON, max_size=5))
def test_every_value_comes_back_from_a_column_of_the_derived_type(values: list[Json]) -> None:
    declared = parameter_type(values)
    for value in values:
        back = from_cell(to_cell("x", value, declared), json_kind(value), declared)
        assert canonical_json(back) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "declared"),
    [(1.5, "int"), (True, "int"), ("1", "int"), (1, "bool"), (1, "string"), ([1], "float"),
     ((1 << 53) + 1, "float"), (1 << 63, "int"), ("x", "bool"), (True, "float")],
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
