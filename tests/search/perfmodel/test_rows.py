"""Rows of tables as questions: names, layouts, formats, loads, and what is never read."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.perfmodel.row_names import row_accelerator, row_engine, row_model
from search.perfmodel.rows import COLUMNS, RowKind, RowQuestion, Unpredictable, read_row
from search.perfmodel.spread import Spread

MEASURED = ("throughput_tok_s_total_or_output", "ttft_ms", "tpot_ms")
SILICON = {
    "source": "aic-silicon-sample", "engine": "vllm", "model": "Qwen/Qwen3-32B", "quant": "bf16?",
    "gpu": "H100-SXM", "num_gpus": "8", "tp": "8", "pp": "1", "dp": "1", "ep": "1", "isl": "4096",
    "osl": "128", "concurrency_or_max": "64",
    "note": "NVIDIA own sweep; agg moe_tp=1 moe_ep=1 batch_size(per dp rank)=64",
}  # fmt: skip


def asked(**cells: str) -> RowQuestion:
    found = read_row({**SILICON, **cells})
    assert isinstance(found, RowQuestion), found
    return found


def spread(**cells: str) -> Spread:
    return asked(**cells).question.configuration.spread


def reason(**cells: str) -> str:
    found = read_row({**SILICON, **cells})
    assert isinstance(found, Unpredictable)
    return found.reason


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA H200-SXM-141GB", "H200"),
        ("Virtualized NVIDIA H200-SXM-141GB", "H200"),
        ("NVIDIA H200-NVL-141GB", "H200-NVL"),
        ("H100-SXM", "H100"),
        ("NVIDIA H100-SXM-80GB", "H100"),
        ("H100-SXM-powercapped", "H100"),
        ("B200-SXM-180GB", "B200"),
        ("NVIDIA B300-SXM-270GB", "B300"),
        ("GB300", "GB300"),
        ("GB200 NVL72", "GB200"),
        ("A100-SXM-80GB", "A100-80GB"),
        ("A100", "A100-80GB"),
        ("GH200", "GH200-96GB"),
        ("RTX-PRO-6000-Server", "RTX-PRO-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("AMD Instinct MI300X 192GB HBM3", "MI300X"),
        ("AMD Instinct MI355X 288GB HBM3e (Power Cap 1000 W)", "MI355X"),
        ("AMD Instinct MI355X 288GB HBM3e (x87)", "MI355X"),
        ("Habana Gaudi2", "Gaudi2"),
        ("Intel Max 1550", "Max-1550"),
        ("Intel PVC", "Max-1550"),
    ],
)
def test_accelerators_are_found_however_tables_write_them(written: str, name: str) -> None:
    found = row_accelerator(written)
    assert found is not None
    assert found.accelerator.name == name
    assert bool(found.caveat) == ("cap" in written.lower())


@pytest.mark.parametrize(
    "written",
    ["", "SambaNova SN40L", "MI300X (x32), MI325X (x16)", "NVIDIA RTX PRO 4500 Blackwell"],
)
def test_other_accelerators_are_not_taken_for_known_ones(written: str) -> None:
    assert row_accelerator(written) is None


@pytest.mark.parametrize(
    ("written", "parameters"),
    [
        ("nvidia/Llama-3.1-8B-Instruct-FP8", 8.03e9),
        ("Llama-3.3-70B", 70.55e9),
        ("llama3.1-405b", 405.85e9),
        ("llama2-70b-99.9", 68.98e9),
        ("Llama-1/2 7B", 6.74e9),
        ("meta-llama/Llama-2-7b-hf", 6.74e9),
        ("deepseek-r1-0528-fp4-v2", 671e9),
        ("amd/DeepSeek-R1-0528-MXFP4-Preview", 671e9),
        ("zhipuai/GLM-5", 744e9),
        ("Llama-4-Maverick", 400e9),
        ("Mixtral 8x7B", 46.7e9),
        ("bloom-176b", 176.2e9),
        ("GPT-J 6B", 6.05e9),
        ("gpt-oss-120b", 116.8e9),
    ],
)
def test_models_are_found_however_tables_write_them(written: str, parameters: float) -> None:
    found = row_model(written)
    assert found is not None
    assert found.parameters == pytest.approx(parameters, rel=0.02)


@pytest.mark.parametrize("written", ["", "Deci/DeciLM-7B", "Qwen3", "GLM-5.9", "llama", "../x"])
def test_other_models_are_not_taken_for_known_ones(written: str) -> None:
    assert row_model(written) is None


def test_unknown_names_say_so_and_what_is_near() -> None:
    assert reason(model="Qwen/Qwen3-33B") == (
        "unknown model 'Qwen/Qwen3-33B'; did you mean 'Qwen/Qwen3-32B'?"
    )
    assert reason(gpu="MI305X") == "unknown accelerator 'MI305X'; did you mean 'MI355X'?"
    assert reason(gpu="") == "the row names no accelerator"


@pytest.mark.parametrize(
    ("written", "engine", "known"),
    [
        ("trtllm", "tensorrt_llm", True),
        ("TensorRT 10.11; CUDA 12.9", "tensorrt_llm", True),
        ("tensorrt-llm+triton", "tensorrt_llm", True),
        ("dynamo-trt", "tensorrt_llm", True),
        ("dynamo-sglang", "sglang", True),
        ("vLLM 0.6.5.dev964+mlperf50", "vllm", True),
        ("atom", "vllm", False),
        ("llama.cpp", "vllm", False),
        ("", "vllm", False),
    ],
)
def test_engines_are_the_nearest_we_know(written: str, engine: str, known: bool) -> None:
    found, caveat = row_engine(written)
    assert found == engine
    assert (caveat == "") == known


def sweep(ident: str, experts: str) -> str:
    return f"id={ident}; InferenceX-derived; agg {experts} batch_size(per dp rank)=16"


MOE = {"model": "deepseek-ai/DeepSeek-R1", "quant": "fp8", "gpu": "B200"}


def test_an_import_that_multiplies_degrees_reads_as_the_one_that_does_not() -> None:
    right = spread(
        **MOE, engine="sglang", ep="8",
        note=sweep("x_tp8_0_ep8_0_1", "moe_tp=1 moe_ep=8"), concurrency_or_max="16",
    )  # fmt: skip
    multiplied = spread(
        **MOE, engine="sglang", num_gpus="64", tp="64", ep="8",
        note=sweep("x_tp8_ep8_1", "moe_tp=8 moe_ep=8"), concurrency_or_max="16",
    )  # fmt: skip
    assert right == multiplied
    assert (right.gpus, right.tp, right.expert_ep) == (8, 8, 8)


@pytest.mark.parametrize("ident", ["x_tp8_ep8_1", "x_cfg183"])
def test_multiplied_attention_groups_are_those_of_the_ranks(ident: str) -> None:
    found = spread(
        **MOE, engine="trtllm", num_gpus="64", tp="1", dp="64", ep="8",
        note=sweep(ident, "moe_tp=8 moe_ep=8"), concurrency_or_max="64",
    )  # fmt: skip
    assert (found.gpus, found.tp, found.groups, found.expert_ep) == (8, 1, 8, 8)


def test_vllm_multiplies_into_data_parallelism() -> None:
    found = spread(
        model="moonshotai/Kimi-K2.5", quant="fp4", gpu="B200", num_gpus="16", tp="4", dp="4",
        ep="16", note=sweep("x_cfg635", "moe_tp=1 moe_ep=16"),
    )  # fmt: skip
    assert (found.gpus, found.tp, found.groups, found.expert_ep) == (4, 4, 1, 4)


def test_the_batch_per_group_tells_of_groups_and_of_copies() -> None:
    note = "agg moe_tp=1 moe_ep=8 batch_size(per dp rank)=56"
    groups = spread(**MOE, engine="trtllm", ep="8", note=note, concurrency_or_max="448")
    assert (groups.tp, groups.groups, groups.replicas) == (1, 8, 1)
    note = "agg moe_tp=1 moe_ep=1 batch_size(per dp rank)=13"
    copies = spread(num_gpus="2", tp="2", note=note, concurrency_or_max="416")
    assert (copies.tp, copies.groups, copies.replicas) == (2, 1, 32)


def test_gpus_of_several_roles_added_up_are_no_layout() -> None:
    note = sweep("x_tp72_ep1_1", "moe_tp=72 moe_ep=1")
    assert "adds up the GPUs" in reason(**MOE, num_gpus="72", tp="72", note=note)
    assert "128 attention heads" in reason(**MOE, source="other", num_gpus="12", tp="12", note="")


def test_spare_gpus_are_replicas() -> None:
    assert spread(source="other", num_gpus="8", tp="2", note="").replicas == 4
    assert "no multiple" in reason(source="other", num_gpus="6", tp="4", note="")


@pytest.mark.parametrize(
    ("cells", "linear", "experts_only", "kv_cache"),
    [
        ({"model": "deepseek-ai/DeepSeek-R1", "quant": "fp8"}, "fp8_block", False, None),
        ({"model": "Qwen/Qwen3-235B-A22B-FP8", "quant": "fp8"}, "fp8_block", False, None),
        ({"model": "nvidia/DeepSeek-R1-0528-FP4-V2", "quant": "fp4", "gpu": "B200"}, "nvfp4",
         True, None),
        ({"model": "amd/DeepSeek-R1-0528-MXFP4-Preview", "quant": "fp4", "gpu": "MI355X"}, "mxfp4",
         True, None),
        ({"model": "moonshotai/Kimi-K2.5", "quant": "int4"}, "int4", True, None),
        ({"model": "gpt-oss-120b", "quant": "fp8"}, "mxfp4", True, None),
        ({"source": "trtllm-perf-overview", "engine": "tensorrt-llm", "quant": "fp4",
          "model": "Llama-3.3-70B", "gpu": "B200"}, "nvfp4", False, "fp8"),
        ({"source": "trtllm-perf-overview", "engine": "tensorrt-llm", "quant": "fp8",
          "model": "Qwen3-235B-A22B"}, "fp8", False, "fp8"),
    ],
)  # fmt: skip
def test_formats_are_those_of_the_checkpoints(
    cells: dict[str, str], linear: str, experts_only: bool, kv_cache: str | None
) -> None:
    configuration = asked(**cells).question.configuration
    stored = configuration.model.quantization
    assert stored is not None
    assert (stored.weights, stored.experts_only) == (linear, experts_only)
    assert configuration.quantization.kv_cache == kv_cache


def test_sixteen_bits_undo_what_a_checkpoint_is_stored_in() -> None:
    assert asked(**{**MOE, "quant": "bf16"}).question.configuration.model.quantization is None
    assert reason(quant="fp3") == "unknown precision 'fp3'"


def test_a_sweep_draws_lengths_below_the_nominal_ones() -> None:
    load = asked(**MOE, note=sweep("x", "moe_tp=8 moe_ep=1")).question.load
    assert (load.input_tokens, load.output_tokens) == (4096 * 0.9, 128 * 0.9)
    assert asked().question.load.input_tokens == 4096


def test_a_rate_is_an_open_loop_and_an_endless_one_is_all_at_once() -> None:
    rated = asked(source="trtllm-online-serving", concurrency_or_max="qps=8", note="")
    assert (rated.kind, rated.question.load.request_rate) == (RowKind.OPEN_LOOP, 8)
    note = "open loop, 500 requests"
    endless = asked(source="trtllm-online-serving", concurrency_or_max="qps=INF", note=note)
    assert (endless.kind, endless.question.load.concurrency) == (RowKind.OFFLINE, 500)
    told = asked(
        source="llmservingsim", concurrency_or_max="poisson ~10 sessions/s, max_num_seqs=9"
    )
    assert told.question.configuration.limits.max_num_seqs == 9


def test_offline_tables_send_so_many_requests_with_so_much_room() -> None:
    row = asked(
        source="trtllm-perf-overview", engine="tensorrt-llm", engine_version="0.20a-nograph",
        model="Llama-3.1-70B", quant="fp8", num_gpus="1", tp="1", isl="128", osl="2048",
        concurrency_or_max="max", note="",
    )  # fmt: skip
    limits = row.question.configuration.limits
    assert row.question.load.concurrency == 3000
    assert (limits.max_num_seqs, limits.max_num_batched_tokens) == (64, 2048)
    assert not limits.compiled_graphs


def test_roles_are_read_and_an_untold_number_of_engines_is_a_reason() -> None:
    cells = {**MOE, "gpu": "GB200", "engine": "dynamo-trt", "num_gpus": "36"}
    note = "spec_decoding=mtp; DISAGG prefill 1x tp4 ep4 (4 gpus) decode 4x tp8 ep8 (32 gpus)"
    row = asked(**cells, source="inferencemax-raw-disagg", note=note)
    assert row.kind is RowKind.DISAGGREGATED
    assert row.prefill is not None
    assert (row.prefill.spread.gpus, row.question.configuration.spread.gpus) == (4, 32)
    assert row.question.configuration.speculation is not None
    assert "drafted" in " ".join(row.extrapolates)
    note = "DISAGG prefill ?x(tp4,pp1,dp1,moe_tp4,ep1) decode 1x(tp8,pp1,dp1,moe_tp8,ep1)"
    assert "how many engines do prefill" in reason(
        **cells, source="aic-silicon-sample-disagg", note=note
    )


def test_a_scenario_has_the_lengths_of_its_dataset_and_the_fewest_gpus_per_engine() -> None:
    cells = {
        "source": "mlperf-inference-v5.1", "model": "llama2-70b-99", "quant": "fp8", "tp": "",
        "pp": "", "dp": "", "ep": "", "isl": "", "osl": "", "note": "", "gpu": "H200",
    }  # fmt: skip
    server = asked(**cells, concurrency_or_max="Server")
    assert (server.kind, server.tpot_limit_ms) == (RowKind.UNDER_LIMITS, 200)
    assert server.question.load.output_tokens == 294
    assert server.question.configuration.spread.replicas == 8
    assert "Burst" in reason(**cells, concurrency_or_max="Burst")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(max_size=12)))
def test_any_cell_is_a_question_or_a_reason(cells: dict[str, str]) -> None:
    assert isinstance(read_row({**SILICON, **cells}), RowQuestion | Unpredictable)


NUMBERS = st.sampled_from(["", "0", "-1", "1.5", "nan", "inf", "1e400", "8", "1000000000", "x"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(("num_gpus", "tp", "pp", "dp", "ep", "isl", "osl",
                                        "concurrency_or_max")), NUMBERS))  # fmt: skip
def test_any_number_is_a_question_or_a_reason(cells: dict[str, str]) -> None:
    found = read_row({**SILICON, **cells, "source": "other"})
    if isinstance(found, Unpredictable):
        assert found.reason


def rows_of_facts() -> list[dict[str, str]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if not folder:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    with gzip.open(Path(folder) / "groundtruth.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_was_measured_changes_nothing() -> None:
    for row in rows_of_facts()[::23]:
        other = {**row, **dict.fromkeys(MEASURED, "123.4")}
        without = {column: row[column] for column in COLUMNS}
        assert read_row(row) == read_row(other) == read_row(without)


def test_published_rows_are_read_but_for_those_that_say_too_little() -> None:
    reasons: Counter[str] = Counter()
    rows = rows_of_facts()
    for row in rows:
        found = read_row(row)
        if isinstance(found, Unpredictable):
            reasons[row["source"]] += 1
    assert reasons["aic-silicon-sample"] == 55
    assert reasons["trtllm-perf-overview"] == reasons["inferencemax-raw"] == 0
    assert reasons["inferencemax-raw-disagg"] == reasons["trtllm-online-serving"] == 0
    assert len(rows) - reasons.total() > 0.8 * len(rows)
