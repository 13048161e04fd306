from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtimes.engines._flags import load_table
from runtimes.engines.sglang import SglangEngine
from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.parallel import ParallelLayout as Layout
from runtimes.plan import DeploymentPlan, EngineConfig, Environment
from runtimes.presets import PRECISION_PRESETS, precision_of
from runtimes.quantization import Quantization
from tests.runtimes.sglang_cases import CASES, GOLDEN, MODEL, VERSION, ask_sglang

ENGINE = SglangEngine()
TABLE = load_table("sglang", VERSION)


def plan(
    layout: Layout | None = None, quantization: Quantization | None = None, **fields: Any
) -> DeploymentPlan:
    fields.setdefault("layout", layout or Layout())
    fields.setdefault("quantization", quantization or Quantization())
    return ENGINE.plan(EngineConfig("sglang", MODEL, **fields))


def golden_text() -> str:
    blocks = []
    for name, config in CASES.items():
        processes = ENGINE.plan(config).processes
        commands = "\n".join(shlex.join(process.argv) for process in processes)
        blocks.append(f"# {name} ({sum(process.gpus for process in processes)} GPUs)\n{commands}\n")
    return "\n".join(blocks)


def test_commands_are_the_recorded_ones() -> None:
    assert len(CASES) >= 40
    assert golden_text() == (GOLDEN / "sglang_commands.txt").read_text(encoding="utf-8")


def given(argv: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Arguments of a command and their values, in order."""
    start = argv.index("--model-path")
    name, values = "", list[str]()
    for part in argv[start:]:
        if part.startswith("--"):
            if name:
                yield name, values
            name, equals, value = part.removeprefix("--").partition("=")
            values = [value] if equals else []
        else:
            values.append(part)
    yield name, values


def rows_of_the_facts() -> list[dict[str, Any]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if folder is None:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    path = Path(folder) / "engine-flags" / f"sglang-{VERSION}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize("name", CASES)
def test_every_argument_is_one_of_the_table_and_has_a_value_of_its_kind(name: str) -> None:
    for process in ENGINE.plan(CASES[name]).processes:
        for argument, values in given(process.argv):
            flag = TABLE.find(
                argument.removeprefix("no-") if argument == "no-dllm-fdfo" else argument
            )
            if argument == "no-enable-fused-qk-norm-rope":
                flag = TABLE.find("enable-fused-qk-norm-rope")
            assert flag is not None, argument
            # The full name: argparse would take a beginning of it, or an alias, just as well.
            assert argument in (flag.name, *flag.negatives)
            if flag.kind in ("switch", "toggle"):
                assert values == []
            elif flag.kind != "list":
                assert len(values) == 1, argument
            if flag.kind == "int" and values != ["{port}"]:
                assert values[0].removeprefix("-").isdigit()
            if flag.choices:
                assert set(values) <= {str(choice) for choice in flag.choices}


def test_every_argument_is_one_of_the_facts() -> None:
    rows = {row["flag"].removeprefix("--"): row for row in rows_of_the_facts()}
    for config in CASES.values():
        for process in ENGINE.plan(config).processes:
            for argument, values in given(process.argv):
                row = rows[argument.removeprefix("no-")]
                choices = row.get("choices")
                assert not choices or set(values) <= {str(choice) for choice in choices}
                assert (values == []) == ("True" in row["action"] or "Bool" in row["action"])


def test_the_table_is_that_of_the_facts() -> None:
    rows = {row["flag"].removeprefix("--"): row for row in rows_of_the_facts()}
    assert set(rows) == set(TABLE.flags)
    for name, row in rows.items():
        flag = TABLE.flags[name]
        assert {str(choice) for choice in flag.choices} == {
            str(choice) for choice in row.get("choices") or [] if choice is not None
        }, name
        assert {alias.removeprefix("--") for alias in row.get("aliases", [])} == {
            *flag.aliases, *(flag.negatives if row.get("aliases") else ()),
        }, name  # fmt: skip


@pytest.mark.sglang
def test_the_real_parser_reads_back_what_was_meant(tmp_path: Path) -> None:
    names = {
        "tp": "tp_size", "pp": "pp_size", "dp": "dp_size", "dcp": "dcp_size",
        "attention_dp": "attn_dp_size",
    }  # fmt: skip
    meant, argvs = [], []
    for config in CASES.values():
        for process in ENGINE.plan(config).processes:
            filled = process.command(host="127.0.0.1", port=23456, master_host="h", master_port=9)
            meant.append(config)
            argvs.append(filled[filled.index("--model-path") :])
    read = [*names.values(), "ep_size", "moe_dense_tp_size", "attn_cp_size", "quantization"]
    read += ["kv_cache_dtype", "served_model_name", "port", "nnodes", "enable_metrics", "revision"]
    answers = ask_sglang(argvs, tmp_path, resolve=False, names=read)
    for config, answer in zip(meant, answers, strict=True):
        values = answer["values"]
        for degree, name in names.items():
            assert values[name] == getattr(config.layout, degree)
        assert values["attn_cp_size"] == max(config.layout.cp, config.layout.pcp)
        assert values["moe_dense_tp_size"] == config.layout.moe_dense_tp
        assert values["nnodes"] == config.nodes
        assert (values["served_model_name"], values["port"]) == (config.model, 23456)
        assert values["enable_metrics"] is True
        assert values["revision"] == config.revision
        if "expert-parallel-size" not in config.args:
            assert values["ep_size"] == max(config.layout.ep, config.layout.moe_ep or 1)
        if config.quantization.gemm == "fp8" and not (config.quantization.moe or config.args):
            assert values["quantization"] == "fp8"
        if config.quantization.kv_cache == "fp8":
            assert values["kv_cache_dtype"] == "fp8_e4m3"


@pytest.mark.parametrize(
    ("layout", "gpus"),
    [
        (Layout(), 1),
        (Layout(tp=4), 4),
        (Layout(tp=4, dp=2), 8),
        (Layout(tp=4, attention_dp=2), 4),
        (Layout(tp=4, pp=2), 8),
        (Layout(tp=4, dcp=2), 4),
        (Layout(tp=4, cp=2), 4),
        (Layout(tp=4, pcp=2), 4),
        (Layout(tp=8, ep=8, attention_dp=8, moe_dense_tp=1), 8),
    ],
    ids=str,
)
def test_gpus_are_those_sglang_takes(layout: Layout, gpus: int) -> None:
    assert ENGINE.gpus(layout) == plan(layout).gpus == gpus


def test_precision_presets_have_their_arguments() -> None:
    found = {}
    for preset in PRECISION_PRESETS:
        precision = precision_of(preset, "sglang")
        if isinstance(precision, Quantization):
            found[preset] = " ".join(plan(quantization=precision).argv[11:])
    assert found == {
        "default": "",
        "bf16-stable": "--dtype bfloat16",
        "kv-cache-fp8": "--kv-cache-dtype fp8_e4m3",
        "dynamic-fp8": "--quantization fp8",
    }


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({}, {"args": {"stream-interval": 1, "schedule-policy": "fcfs", "tp_size": None}}),
        ({}, {"args": {"disable-radix-cache": False}}),
        ({}, {"args": {"page-size": None}}),
        ({}, {"args": {"dllm-fdfo": True}}),
        ({"args": {"enable-hicache": True}}, {"args": {"enable_hierarchical_cache": True}}),
        ({"args": {"no-dllm-fdfo": True}}, {"args": {"dllm-fdfo": False}}),
        ({"args": {"context-length": "32k"}}, {"args": {"context_length": 32000}}),
        ({"args": {"max-total-tokens": "1Mi"}}, {"args": {"max-total-tokens": 1 << 20}}),
        ({"args": {"mem-fraction-static": "0.8"}}, {"args": {"mem-fraction-static": 0.8}}),
        ({"args": {"schedule-conservativeness": "1"}}, {}),
        ({"args": {"watchdog-timeout": 60}}, {"args": {"watchdog-timeout": 60.0}}),
        ({"args": {"kv-cache-dtype": "bf16"}}, {"args": {"kv-cache-dtype": "bfloat16"}}),
        ({"quantization": Quantization(gemm="fp16")}, {"args": {"dtype": "half"}}),
        ({"quantization": Quantization(gemm="fp8")}, {"args": {"quantization": "fp8"}}),
        (
            {"quantization": Quantization(gemm="fp8")},
            {"quantization": Quantization(gemm="fp8", moe="fp8")},
        ),
        ({"layout": Layout(tp=8, ep=8)}, {"layout": Layout(tp=8, moe_ep=8)}),
        ({"layout": Layout(tp=8, ep=4)}, {"layout": Layout(tp=8, ep=4, moe_tp=2)}),
        ({"layout": Layout(tp=8, cp=2)}, {"layout": Layout(tp=8, pcp=2)}),
        ({"layout": Layout(tp=8, moe_dense_tp=8)}, {"layout": Layout(tp=8)}),
        (
            {"layout": Layout(tp=8, attention_dp=2)},
            {"layout": Layout(tp=8), "args": {"attention-data-parallel-size": 2}},
        ),
        (
            {"layout": Layout(tp=8, ep=8), "args": {"moe-a2a-backend": "deepep"}},
            {"layout": Layout(tp=8), "args": {"moe-a2a-backend": "deepep"}},
        ),
        (
            {"layout": Layout(pp=2)},
            {"layout": Layout(pp=2), "args": {"disable-overlap-schedule": True}},
        ),
        (
            {"args": {"attention-backend": "flashmla"}},
            {"args": {"attention-backend": "flashmla", "page-size": 64}},
        ),
    ],
)  # fmt: skip
def test_equal_servers_are_one_configuration(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert plan(**left).config_id == plan(**right).config_id
    assert plan(**left).compiles == plan(**right).compiles


@pytest.mark.parametrize(
    "other",
    [
        {"layout": Layout(tp=2)},
        {"layout": Layout(dp=2)},
        {"layout": Layout(tp=8, moe_dense_tp=1)},
        {"args": {"disable-radix-cache": True}},
        {"args": {"page-size": 16}},
        {"env": {"SGLANG_ENABLE_PP_SPEC": "1"}},
        {"dummy_weights": True},
        {"revision": "main"},
        {"environment": Environment("/opt/other/bin/python")},
        {"environment": Environment(wheels=("/opt/other",))},
        {"environment": Environment(container="podman")},
        {"secrets": ("HF_TOKEN",)},
        {"quantization": Quantization(kv_cache="fp8")},
    ],
)
def test_other_servers_are_other_configurations(other: dict[str, Any]) -> None:
    assert plan(**other).config_id != plan().config_id


def test_kernels_are_shared_by_what_only_schedules() -> None:
    base = plan(Layout(tp=2))
    assert plan(Layout(tp=2, dp=2), args={"schedule-policy": "lpm"}).compiles == base.compiles
    assert plan(Layout(tp=4)).compiles != base.compiles
    assert plan(Layout(tp=2), args={"attention-backend": "fa3"}).compiles != base.compiles


def test_arguments_of_the_user_win_and_say_so() -> None:
    made = plan(
        Layout(tp=8, ep=8),
        Quantization(gemm="fp8"),
        args={"expert-parallel-size": 4, "dtype": "half"},
    )
    assert "--ep-size 4" in " ".join(made.argv)
    assert made.notes == ("--ep-size is 4, as the arguments say; layout and precision say 8",)
    assert plan(Layout(tp=8, ep=8), args={"ep-size": 8}).notes == ()


def test_notes_tell_what_sglang_changes_by_itself() -> None:
    assert "divides chunked-prefill-size by 4" in plan(Layout(tp=4, attention_dp=4)).notes[0]
    assert "turns the overlap" in plan(Layout(pp=2)).notes[0]
    made = plan(Layout(tp=8), args={"moe-a2a-backend": "deepep"})
    assert made.notes == ("moe-a2a-backend=deepep: SGLang takes ep=8, all tensor-parallel ranks",)


@pytest.mark.parametrize(
    ("fields", "lossy"),
    [
        ({}, ()),
        ({"quantization": Quantization(gemm="bf16", kv_cache="bf16")}, ()),
        ({"quantization": Quantization(gemm="fp8_channel")}, ("weights in fp8_channel",)),
        (
            {"quantization": Quantization(gemm="nvfp4", kv_cache="fp8")},
            ("weights in nvfp4", "KV cache in fp8"),
        ),
        ({"args": {"kv-cache-dtype": "fp8_e5m2"}}, ("KV cache in fp8_e5m2",)),
        ({"quantization": Quantization(gemm="fp8"), "args": {"quantization": None}}, ()),
        ({"args": {"quantization": "awq"}}, ()),
    ],
)
def test_lossy_parts_are_named(fields: dict[str, Any], lossy: tuple[str, ...]) -> None:
    assert plan(**fields).lossy == lossy


def test_one_node_reserves_the_ports_sglang_derives() -> None:
    assert plan(Layout(tp=2)).processes[0].ports == {"port": (0,)}
    groups = plan(Layout(tp=2, attention_dp=2)).processes[0].ports["port"]
    assert set(groups) == {0, 13, *range(233, 240)}


def test_nodes_meet_at_the_first_one() -> None:
    first, second = plan(Layout(tp=16, attention_dp=2), nodes=2).processes
    assert (first.gpus, second.gpus, first.node, second.node) == (8, 8, 0, 1)
    assert set(first.ports["master_port"]) == {*range(7), 13}
    assert second.ports == {"port": (0,)}
    here = first.command(host="10.0.0.1", port=1, master_host="10.0.0.1", master_port=5000)
    assert "10.0.0.1:5000" in here
    assert [*here[here.index("--node-rank") :][:2]] == ["--node-rank", "0"]


def test_module_entrypoint_needs_an_interpreter() -> None:
    with pytest.raises(UserError, match=r"set environment\.python"):
        plan(options={"entrypoint": "module"})
    with pytest.raises(UserError, match=r"'serve' or 'module', got 'docker'"):
        plan(options={"entrypoint": "docker"})


@pytest.mark.parametrize(
    "argument",
    ["tp-size", "tensor_parallel_size", "model", "nccl-init-addr", "api-key", "config", "port"],
)
def test_arguments_servetune_sets_are_reserved_however_they_are_spelled(argument: str) -> None:
    args: dict[str, Json] = {argument: 1, "page-size": 16}
    assert ENGINE.check_args(args) == [argument]


def test_misspelt_arguments_are_told() -> None:
    problems = ENGINE.argument_problems(
        {"mem-fraction-statc": 0.9, "schedule-policy": "fast", "page-size": 16}, VERSION
    )
    assert set(problems) == {"mem-fraction-statc", "schedule-policy"}
    assert "mem-fraction-static" in problems["mem-fraction-statc"]
