"""Commands and files of TensorRT-LLM: the recorded ones, and what its lists say of each part."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines._flags import Flag, load_table
from runtimes.engines._trtllm_command import yaml_text
from runtimes.engines._trtllm_settings import everything, flat
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import Quantization
from tests.runtimes.trtllm_cases import CASES, ENGINE, MODEL, MOE, config, golden_text, mixture
from tests.runtimes.vllm_cases import GOLDEN

OPTIONS = load_table("tensorrt_llm", "1.2.1")
KEYS = load_table("tensorrt_llm_yaml", "1.2.1")
IDS = list(CASES)


def test_commands_are_the_recorded_ones() -> None:
    assert len(CASES) >= 40
    recorded = (GOLDEN / "tensorrt_llm_commands.txt").read_text(encoding="utf-8")
    assert golden_text() == recorded


def options_of(argv: tuple[str, ...]) -> list[tuple[Flag, str | None]]:
    """Options after the model, each with its value; None for a bare one."""
    start = argv.index("--host")
    found: list[tuple[Flag, str | None]] = []
    parts = iter(argv[start:])
    for part in parts:
        name, _, attached = part.removeprefix("--").partition("=")
        flag = OPTIONS.find(name)
        assert flag is not None, part
        assert part.startswith("--") and name in (flag.name, *flag.aliases), part
        value = None if flag.kind == "switch" else attached or next(parts)
        found.append((flag, value))
    return found


@pytest.mark.parametrize("name", IDS)
def test_every_option_is_one_and_has_a_value_of_its_kind(name: str) -> None:
    for flag, value in options_of(ENGINE.plan(CASES[name]).argv):
        if flag.kind == "int" and flag.name != "port":
            assert int(str(value)) >= 1
        if flag.choices:
            assert value in flag.choices


@pytest.mark.parametrize("name", IDS)
def test_every_key_of_the_file_is_one(name: str) -> None:
    (text,) = {process.files["trtllm.yaml"] for process in ENGINE.plan(CASES[name]).processes}
    tree = yaml.safe_load(text)
    assert tree["return_perf_metrics"] is True
    assert tree["enable_iter_perf_stats"] is True
    for key, _ in flat(tree):
        section = KEYS.flags.get(key.partition(".")[0])
        assert key in KEYS.flags or (section is not None and section.kind == "json"), key


@pytest.mark.parametrize("name", IDS)
def test_nothing_is_said_twice(name: str) -> None:
    plan = ENGINE.plan(CASES[name])
    listed = [flag.name for flag, _ in options_of(plan.argv) if flag.kind != "list"]
    keys = {key for key, _ in flat(yaml.safe_load(plan.processes[0].files["trtllm.yaml"]))}
    assert len(set(listed)) == len(listed)
    assert not keys & set(listed)


@pytest.mark.parametrize("name", IDS)
def test_gpus_are_those_of_the_mapping(name: str) -> None:
    layout, plan = CASES[name].layout, ENGINE.plan(CASES[name])
    context = max(layout.cp, layout.pcp, layout.dcp)
    assert plan.gpus == layout.tp * layout.pp * context * layout.dp == ENGINE.gpus(layout)
    assert [process.server for process in plan.servers] == list(range(layout.dp))
    assert len({process.gpus for process in plan.processes}) == 1


def test_the_tables_are_those_of_the_facts() -> None:
    facts = facts_of_1_2_1()
    for row in facts["serve"]:
        name = str(row["flag"]).removeprefix("--")
        if name != "MODEL":
            assert OPTIONS.find(name) is not None, name
            aliases = [alias for alias in row["aliases"] if alias.startswith("--")]
            assert all(OPTIONS.find(alias[2:]) is OPTIONS.find(name) for alias in aliases)
    for row in facts["yaml_llm_args"]:
        flag = KEYS.find(str(row["flag"]).removeprefix("yaml:"))
        assert flag is not None, row
        assert list(flag.choices) == (row["choices"] or [])
    dotted = {name.partition(".")[0] for name in KEYS.flags if "." in name}
    assert set(KEYS.flags) == {row["flag"][5:] for row in facts["yaml_llm_args"]} | dotted


def facts_of_1_2_1() -> dict[str, list[dict[str, Any]]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if not folder:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    path = Path(folder) / "engine-flags" / "trtllm-1.2.1.json"
    facts: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return facts


# --- the file -----------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 53), 1 << 53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    st.sampled_from(["yes", "NO", "null", "1e5", "0x1F", "12:30", "a: b", "# c", "- d", "é", ""]),
)
TREES = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=3),
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.parametrize(
    "text",
    ["a\nb: 1", "x: y", "x # c", "a\x85b", "a\u2028b", "\u2029", "\x7f", "\ufeff", "\N{DIGIT ONE}",
     "\N{GRINNING FACE}", "{a: 1}", "*a", "!t", "%s", "---", "null", "", " a "],
)  # fmt: skip
def test_a_text_stays_the_same_text_in_the_file(text: str) -> None:
    tree: dict[str, Json] = {"section": {text: text, "list": [text, {text: text}]}}
    written = yaml_text(tree)
    assert yaml.safe_load(written) == tree
    assert written.splitlines() == written.rstrip("\n").split("\n")


@given(TREES)
def test_the_file_says_what_it_was_given(tree: dict[str, Json]) -> None:
    assert (yaml.safe_load(yaml_text(tree)) or {}) == tree


# --- what a user pastes -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["replicas; KV cache in fp8", "keys of the file, nested"])
def test_the_pasted_command_starts_the_same_servers(name: str, tmp_path: Path) -> None:
    """Run by a real shell, with a `trtllm-serve` that writes down what it is called with."""
    program = tmp_path / "bin" / "trtllm-serve"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "${CUDA_VISIBLE_DEVICES-all}" "$@" >> calls\n')
    program.chmod(0o755)
    plan = ENGINE.plan(CASES[name])
    pasted = shlex.join(plan.deploy).replace("{host}", "127.0.0.1").replace("{port}", "8000")
    subprocess.run(
        ["/bin/sh", "-c", pasted],
        cwd=tmp_path, check=True, timeout=60,
        env={"PATH": f"{program.parent}:{os.defpath}"},
    )  # fmt: skip
    assert (tmp_path / "trtllm.yaml").read_text() == plan.processes[0].files["trtllm.yaml"]
    calls = sorted((tmp_path / "calls").read_text().splitlines())
    gpus = plan.processes[0].gpus
    assert len(calls) == len(plan.processes)
    for index, call in enumerate(calls):
        filled = plan.processes[index].command(host="127.0.0.1", port=8000 + index)
        devices = ",".join(str(index * gpus + device) for device in range(gpus))
        expected = [part.replace("{files}/", "") for part in filled[1:]]
        assert call.split(" ", 1)[0] == (devices if len(calls) > 1 else "all")
        assert call.split(" ", 1)[1] == " ".join(expected)


def test_a_pasted_command_finds_a_command_that_was_built_on_a_node() -> None:
    deploy = ENGINE.plan(CASES["an environment built on the node"]).deploy
    assert "exec trtllm-serve " in deploy[2]
    assert "{bin}" not in deploy[2]


# --- one configuration, however it is written ---------------------------------------------------

ALIKE: list[tuple[EngineConfig, EngineConfig]] = [
    (config(), config(args={"max_batch_size": 2048, "kv_cache_config.dtype": "auto"})),
    (config(), config(args={"free_gpu_memory_fraction": 0.9, "load_format": "auto"})),
    (config(), config(quantization=Quantization(kv_cache="bf16"))),
    (config(args={"max-num-tokens": 4096}), config(args={"max_num_tokens": "4096"})),
    (
        config(args={"kv_cache_config": {"dtype": "fp8"}}),
        config(quantization=Quantization(kv_cache="fp8")),
    ),
    (
        config(args={"kv_cache_free_gpu_memory_fraction": 0.8}),
        config(args={"kv_cache_config.free_gpu_memory_fraction": 0.8}),
    ),
    (config(layout=ParallelLayout(cp=2)), config(layout=ParallelLayout(pcp=2))),
    (
        mixture(layout=ParallelLayout(tp=8, ep=4)),
        mixture(layout=ParallelLayout(tp=8, moe_tp=2)),
    ),
    (
        mixture(layout=ParallelLayout(tp=8)),
        mixture(layout=ParallelLayout(tp=8, moe_tp=8, moe_ep=1)),
    ),
]
APART: list[tuple[EngineConfig, EngineConfig]] = [
    (config(), config(revision="main")),
    (config(), config(dummy_weights=True)),
    (config(), config(layout=ParallelLayout(dp=2))),
    (config(), config(env={"TRTLLM_ENABLE_PDL": "1"})),
    (config(layout=ParallelLayout(cp=2)), config(layout=ParallelLayout(dcp=2))),
    (config(layout=ParallelLayout(tp=8)), config(layout=ParallelLayout(tp=8, attention_dp=8))),
    (mixture(layout=ParallelLayout(tp=8)), mixture(layout=ParallelLayout(tp=8, ep=8))),
    (EngineConfig("tensorrt_llm", MODEL), EngineConfig("tensorrt_llm", MOE)),
]


@pytest.mark.parametrize("pair", ALIKE, ids=[str(index) for index in range(len(ALIKE))])
def test_equal_configurations_are_one_trial(pair: tuple[EngineConfig, EngineConfig]) -> None:
    left, right = map(ENGINE.plan, pair)
    assert left.config_id == right.config_id


@pytest.mark.parametrize("pair", APART, ids=[str(index) for index in range(len(APART))])
def test_different_configurations_are_two(pair: tuple[EngineConfig, EngineConfig]) -> None:
    left, right = map(ENGINE.plan, pair)
    assert left.config_id != right.config_id


def test_kernels_are_named_by_what_they_are_compiled_for() -> None:
    plain = ENGINE.plan(config(layout=ParallelLayout(tp=2)))
    batches = ENGINE.plan(config(layout=ParallelLayout(tp=2), args={"max_batch_size": 8}))
    wider = ENGINE.plan(config(layout=ParallelLayout(tp=4)))
    assert plain.compiles == batches.compiles != wider.compiles


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument",
    [
        "tp_size", "tensor-parallel-size", "host", "port", "config", "extra_llm_api_options",
        "return_perf_metrics", "backend", "cp_config.cp_type",
    ],
)  # fmt: skip
def test_arguments_servetune_sets_are_reserved(argument: str) -> None:
    assert ENGINE.check_args({argument: 1, "max_batch_size": 8}) == [argument]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"max_batch_sise": 8}, "did you mean 'max_batch_size'?"),
        ({"max_batch_size": "many"}, 'takes a whole number, got "many"'),
        ({"kv_cache_config.dtype": "fp7"}, "has no value 'fp7'; known: auto, float16"),
        ({"kv_cache_config": {"enable_block_reuse": "on"}}, "takes true or false"),
        ({"kv_cache_config": 3}, "takes a mapping"),
        ({"max-batch-size": 1, "max_batch_size": 2}, "which max-batch-size already sets"),
    ],
)
def test_arguments_it_would_not_take_are_told(args: dict[str, Json], words: str) -> None:
    problems = ENGINE.argument_problems(args, "1.2.1")
    assert [words in problem for problem in problems.values()] == [True], problems
    refusal = ENGINE.refuse(config(args=args), None, None)
    assert refusal is not None
    assert (refusal.rule, words in refusal.message) == ("known_arguments", True)


def test_keys_that_no_list_has_go_into_the_file() -> None:
    args: dict[str, Json] = {"stream_interval": 4, "speculative_config.max_draft_len": 3}
    assert ENGINE.argument_problems(args, None) == {}
    plan = ENGINE.plan(config(args=args))
    tree = yaml.safe_load(plan.processes[0].files["trtllm.yaml"])
    assert (tree["stream_interval"], tree["speculative_config"]) == (4, {"max_draft_len": 3})
    assert [note for note in plan.notes if note.startswith("stream_interval is in no list")]


def test_options_and_keys_are_one_table() -> None:
    table = ENGINE.flags("1.2.1")
    assert table is not None
    assert {"max_batch_size", "kv_cache_config.dtype"} <= set(table.flags)
    assert table.flags["max_batch_size"].default == 2048
    assert everything("9.9.9").flags.keys() == table.flags.keys()
