from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from docs.make_flag_tables import table
from runtimes.engines._arguments import argument_problems
from runtimes.engines._flags import Flag, FlagTable, known_versions, load_table, shared, table_for
from runtimes.engines.base import create_engine
from runtimes.json_types import Json

VLLM = create_engine("vllm")


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_the_table_has_the_flags_of_the_real_parser(version: str) -> None:
    """The facts' dump was made by others, from the same parsers."""
    folder = os.environ.get("SERVETUNE_FACTS")
    if not folder:
        pytest.skip("no facts of the engines' parsers: set SERVETUNE_FACTS")
    path = Path(folder) / "engine-flags" / f"vllm-{version}.json"
    theirs = table(json.loads(path.read_text(encoding="utf-8")))
    ours = load_table("vllm", version)
    assert set(ours.flags) == set(theirs)
    for name, row in theirs.items():
        flag = ours.flags[name]
        aliases, choices = row.get("aliases", []), row.get("choices", [])
        assert isinstance(aliases, list)
        assert isinstance(choices, list)
        assert set(flag.aliases) == set(map(str, aliases)), name
        assert not choices or set(map(str, flag.choices)) == set(map(str, choices)), name
        # Their dump leaves out defaults that are false, 0 or empty.
        if row.get("default") and not flag.name.startswith("log-"):
            assert flag.default == row["default"], name


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_shipped_table_reads(engine: str) -> None:
    assert known_versions(engine)
    for version in known_versions(engine):
        flags = load_table(engine, version).flags
        assert len(flags) > 300
        assert {flag.kind for flag in flags.values()} <= {
            "switch", "toggle", "int", "count", "float", "text", "json", "list",
        }  # fmt: skip


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_negative_forms_are_no_aliases(version: str) -> None:
    for flag in load_table("vllm", version).flags.values():
        assert not any(alias.startswith("no-") for alias in flag.aliases), flag
        assert bool(flag.negatives) == (flag.kind == "toggle"), flag


def test_defaults_that_are_false_are_kept() -> None:
    flags = load_table("vllm", "0.33.0").flags
    assert flags["enforce-eager"].default is False
    assert flags["enable-prefix-caching"].default is None  # worked out from the model
    assert flags["seed"].default == 0
    assert flags["gpu-memory-utilization"].default == 0.92


TABLE = FlagTable.of(
    "1",
    [
        Flag("enable-x", "toggle", ("x",), default=False, negatives=("no-enable-x", "disable-x")),
        Flag("size", "int", choices=(1, 2), default=1),
        Flag("long-count", "count"),
        Flag("config", "json", ("c",)),
        Flag("share", "float"),
        Flag("sizes", "list", choices=(1, 2)),
        Flag("only", "switch", default=False),
        Flag("word", "text", choices=("a", "b")),
    ],
)


@pytest.mark.parametrize(
    ("name", "value", "own"),
    [
        ("enable_x", True, ("enable-x", True)),
        ("x", False, ("enable-x", False)),
        ("no-enable-x", True, ("enable-x", False)),
        ("disable_x", False, ("enable-x", True)),
        ("c.inner_part.Deep", 1, ("config.inner_part.Deep", 1)),
        ("un_known.in_ner", 1, ("un-known.in_ner", 1)),
    ],
)
def test_arguments_are_read_under_their_own_names(
    name: str, value: Json, own: tuple[str, Json]
) -> None:
    assert TABLE.read(name, value) == own


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"sise": 1}, "no argument of version 1 is called sise; did you mean size?"),
        ({"zzzzzz": 1}, "no argument of version 1 is called zzzzzz"),
        ({"size": "2"}, None),
        ({"size": "two"}, 'takes a whole number, got "two"'),
        ({"size": True}, "takes a whole number, got true"),
        ({"size": 3}, "has no value '3'; known: 1, 2"),
        ({"size": None}, None),
        ({"long-count": "8k"}, None),
        ({"long-count": "8x"}, 'takes a whole number (also 8k or 8K), got "8x"'),
        ({"long-count": "auto"}, None),
        ({"share": "0.5"}, None),
        ({"share": [1]}, "takes a number, got [1]"),
        ({"enable-x": "yes"}, 'takes true or false, got "yes"'),
        ({"only": 1}, "takes true or false, got 1"),
        ({"disable-x": True}, None),
        ({"config": {"a": 1}}, None),
        ({"config": 1}, "takes a mapping, a list or JSON text, got 1"),
        ({"config.anything.goes": 1}, None),
        ({"sizes": [1, 3]}, "has no value '3'; known: 1, 2"),
        ({"word": "c"}, "has no value 'c'; known: a, b"),
        ({"word": {}}, "takes a single value, got {}"),
    ],
)
def test_problems_say_what_to_write(args: Mapping[str, Json], problem: str | None) -> None:
    found = argument_problems(TABLE, args)
    assert found == ({} if problem is None else {next(iter(args)): problem})


def test_a_misspelt_argument_of_the_real_table_is_told() -> None:
    assert VLLM.argument_problems({"max-num-seq": 1}, "0.33.0") == {
        "max-num-seq": "no argument of version 0.33.0 is called max-num-seq; "
        "did you mean max-num-seqs?"
    }


def test_one_argument_by_two_names_is_a_problem() -> None:
    problems = VLLM.argument_problems({"max_num_seqs": 1, "max-num-seqs": 2}, None)
    assert problems == {
        "max-num-seqs": "is max-num-seqs, which max_num_seqs already sets; keep one of them"
    }


def test_problems_are_those_of_the_version() -> None:
    args: dict[str, Json] = {"monokernel": True}
    assert VLLM.argument_problems(args, "0.33.0") == {}
    assert "monokernel" in VLLM.argument_problems(args, "0.32.0")
    assert "monokernel" in VLLM.argument_problems(args, None)
    assert "monokernel" in VLLM.argument_problems(args, "9.9.9")


def test_reserved_arguments_are_found_under_any_name() -> None:
    args: dict[str, Json] = {"tp": 2, "tensor_parallel_size": 2, "max-num-seqs": 1, "dph": True}
    assert VLLM.check_args(args) == ["dph", "tensor_parallel_size", "tp"]


def test_what_versions_share_is_what_all_of_them_take() -> None:
    older = FlagTable.of("1", [Flag("a", "int", default=1), Flag("gone", "int")])
    newer = FlagTable.of(
        "2", [Flag("a", "int", ("alias",), default=2, negatives=("no-a",)), Flag("new", "int")]
    )
    common = shared([older, newer])
    assert common.version == "1, 2"
    assert set(common.flags) == {"a"}
    assert common.flags["a"] == Flag("a", "int", negatives=("no-a",))


def test_an_unknown_version_has_what_the_known_ones_share() -> None:
    assert table_for("vllm", "9.9.9") == table_for("vllm", None)
    assert table_for("vllm", "0.32.0") == load_table("vllm", "0.32.0")
    assert table_for("no-such-engine", None) is None


def test_a_dump_becomes_a_table() -> None:
    rows: list[dict[str, Json]] = [
        {"flag": "model_tag", "action": "_StoreAction"},
        {"flag": "--enable-a", "aliases": ["-a", "--disable-a"], "action": "EnableDisableAction"},
        {"flag": "--disable-b", "action": "BooleanOptionalAction", "default": False},
        {"flag": "--only", "action": "_StoreTrueAction"},
        {"flag": "--n", "action": "_StoreAction", "type": "human_readable_int", "default": 0},
        {"flag": "--c", "action": "_StoreAction", "choices": ["z", None, "a"], "type": "str"},
        {"flag": "--j", "action": "_StoreAction", "type": "parse_dataclass", "default": "J(a=1)"},
        {"flag": "--m", "action": "_AppendAction", "type": "str"},
    ]
    assert table(rows) == {
        "c": {"kind": "text", "choices": ["a", "z"]},
        "disable-b": {"kind": "toggle", "negatives": ["no-disable-b"], "default": False},
        "enable-a": {
            "kind": "toggle", "aliases": ["a"], "negatives": ["disable-a", "no-enable-a"],
        },
        "j": {"kind": "json"},
        "m": {"kind": "list"},
        "n": {"kind": "count", "default": 0},
        "only": {"kind": "switch", "default": False},
    }  # fmt: skip
