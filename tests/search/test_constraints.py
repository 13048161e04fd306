"""The constraint language: what it computes, what it refuses, and that nothing hostile runs."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtimes.json_types import Json
from search.constraints import Constraint
from search.values import constraint_name

VALUES: dict[str, Json] = {
    "tp": 8,
    "pp": 2,
    "gpus": 16,
    "engine": "vllm",
    "share": 0.5,
    "enforce_eager": True,
    "env_FLAG": "1",
    "listed": [1],
    "zero": 0,
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("tp * pp <= 8", False),
        ("tp * pp == gpus", True),
        ("1 <= pp < tp <= 8", True),
        ("1 <= tp < pp", False),
        ("tp // 3 == 2 and tp % 3 == 2", True),
        ("tp / 16 == share", True),
        ("-pp + 2 ** 3 - tp == -2", True),
        ("+tp > 7", True),
        ("not enforce_eager or tp > 100", False),
        ("enforce_eager", True),
        ("enforce_eager == True", True),
        ("tp in (1, 2, 4)", False),
        ("tp not in [1, 2, 4]", True),
        ("engine in ('vllm', 'sglang')", True),
        ("engine != 'sglang'", True),
        ("tp in ('auto', 8)", True),
        ("tp in (False, 'auto')", False),
        ("min(tp, pp, 5) == 2 and max(tp, pp) == 8 and abs(pp - tp) == 6", True),
        ("zero == 0 or tp / zero > 1", True),
        ("zero != 0 and tp / zero > 1", False),
        ("  (tp\n  > 1)  ", True),
        ("env_FLAG == '1'", True),
    ],
)
def test_expressions_mean_what_python_means(text: str, result: bool) -> None:
    assert Constraint.parse(text).evaluate(VALUES) is result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tp * pp", "it gives 16, not true or false"),
        ("engine", "it gives 'vllm', not true or false"),
        ("tp / zero > 1", "division by zero"),
        ("tp % zero > 1", "division by zero"),
        ("engine < 8", "'vllm' cannot be compared with 8"),
        ("engine == 8", "'vllm' cannot be compared with 8"),
        ("enforce_eager == 1", "True cannot be compared with 1"),
        ("engine * 3 == 'vllmvllmvllm'", "'vllm' is not a number"),
        ("enforce_eager + 1 == 2", "True is not a number"),
        ("tp and pp", "8 is not true or false"),
        ("not tp", "8 is not true or false"),
        ("listed == 1", "listed is [1], not a number"),
        ("absent == 1", "absent has no value"),
        ("9 ** 9 ** 9 > 1", "too large"),
        ("tp ** 1000000000 > 1", "too large"),
        ("0.1 ** -1000 > 1", "too large"),
        ("10 ** 20 * 10 ** 20 > 1", "beyond 1e+30"),
        ("(0 - tp) ** 0.5 > 1", "not a real number"),
        ("zero ** -1 > 1", "division by zero"),
    ],
)
def test_what_has_no_truth_value_is_an_error_with_text_and_values(text: str, reason: str) -> None:
    constraint = Constraint.parse(text)
    with pytest.raises(ValueError) as caught:
        constraint.evaluate(VALUES)
    message = str(caught.value)
    assert f"constraint `{text}` cannot be decided for" in message
    assert reason in message
    for name in constraint.names:
        assert f"{name}={VALUES.get(name)!r}" in message


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("__import__('os').system('true') == 0", 1),
        ("tp == ().__class__", 7),
        ("(lambda: 1)() == 1", 1),
        ("[x for x in (1, 2)] == 1", 1),
        ("tp[0] == 1", 1),
        ("tp == f'{tp}'", 7),
        ("(x := 1) == 1", 2),
        ("tp == 1j", 7),
        ("tp == b'1'", 7),
        ("tp == None", 7),
        ("tp == ...", 7),
        ("tp if pp else tp", 1),
        ("tp << 100000 > 1", 1),
        ("~tp == 1", 1),
        ("tp is 8", 1),
        ("tp in engine", 7),
        ("tp in (1, 2) in (3, 4)", 7),
        ("(1, 2) == (1, 2)", 1),
        ("min(tp) == 1", 1),
        ("min(*tp) == 1", 1),
        ("max(tp, pp, key=abs) == 1", 1),
        ("eval('1') == 1", 1),
        ("min == 1", 1),
        ("{1: 2} == 1", 1),
        ("1e999 > tp", 1),
        ("tp < 10000000000000000000000000000000000", 6),
        ("'é' == engine.name", 8),
        ("await tp", 1),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_column(text: str, column: int) -> None:
    with pytest.raises(ValueError, match=rf"column {column}\b.*write names, numbers"):
        Constraint.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("tp <=", "cannot be read at column"),
        ("tp = 8", "cannot be read at column"),
        ("tp < 8; pp < 2", "cannot be read at column"),
        ("tp \0 < 8", "cannot be read"),
        ("(" * 240 + "tp" + ")" * 240 + " > 1", "cannot be read"),
        ("-" * 60 + "tp > 1", "nested more than 50 deep"),
        ("not " * 60 + "True", "nested more than 50 deep"),
        ("tp > " + "1" * 600, "characters, 500 at most"),
    ],
)
def test_what_cannot_be_read_says_so(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Constraint.parse(text)


def test_names_come_in_order_of_appearance_without_functions() -> None:
    assert Constraint.parse("max(pp, tp) <= gpus or pp in (tp, dp)").names == (
        "pp",
        "tp",
        "gpus",
        "dp",
    )


def test_a_rule_applies_where_all_its_names_have_values() -> None:
    constraint = Constraint.parse("chunked_prefill_size >= tp")
    assert constraint.applies({"chunked_prefill_size": 4096, "tp": 1})
    assert not constraint.applies({"tp": 1})
    assert not constraint.applies({"chunked_prefill_size": None, "tp": 1})
    assert Constraint.parse("1 < 2").applies({})


def test_parameters_are_spelt_as_names() -> None:
    assert constraint_name("max-num-seqs") == "max_num_seqs"
    assert constraint_name("env.VLLM_FLAG") == "env_VLLM_FLAG"


def test_constraints_are_values_that_travel() -> None:
    constraint = Constraint.parse("tp <= 8")
    assert constraint == Constraint.parse(" tp <=  8")
    assert constraint != Constraint.parse("tp <= 4")
    assert pickle.loads(pickle.dumps(constraint)).evaluate({"tp": 8}) is True


_WORDS = ["tp", "pp", "zero", "engine", "9", "0", "1e9", "'a'", "True", "(", ")", ",", "**"]
_WORDS += ["*", "/", "//", "%", "+", "-", "<", "==", "in", "and", "or", "not", "min", "abs", "."]
_WORDS += ["lambda", ":", "[", "]", "if", "else", "=", "__class__", ":=", "\\", "\n", "é"]


@given(st.lists(st.sampled_from(_WORDS), max_size=30).map(" ".join) | st.text(max_size=80))
@settings(deadline=None, max_examples=400)
@example("9**9**9**9 > 1")
@example("'" + "a" * 100)
@example("0777 > 1")
@example("1if 2else 3")
@example("'\\d' == engine")
def test_any_text_gives_a_truth_value_or_a_value_error(text: str) -> None:
    try:
        result = Constraint.parse(text).evaluate(VALUES)
    except ValueError:
        return
    assert isinstance(result, bool)


@given(tp=st.integers(-20, 20), pp=st.integers(-20, 20))
def test_arithmetic_agrees_with_python(tp: int, pp: int) -> None:
    text = "tp * 3 - pp // 7 + abs(tp % 5) < max(pp ** 2, -tp)"
    expected = tp * 3 - pp // 7 + abs(tp % 5) < max(pp**2, -tp)
    assert Constraint.parse(text).evaluate({"tp": tp, "pp": pp}) is expected
