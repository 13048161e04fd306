"""`servetune predict`: what-if questions on the command line, and what is said of wrong ones."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from orchestrator.cli.options import engine_arguments, layouts, precisions
from orchestrator.what_if import WhatIf, what_if
from runtimes.errors import UserError
from runtimes.hardware import ACCELERATORS
from runtimes.json_types import Json
from runtimes.node_curves import NodeCurves, dump_curves
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig
from runtimes.quantization import Quantization
from search.perfmodel.configure import configuration_of
from search.perfmodel.question import Load
from tests.orchestrator.commands import ROOT, command, environment, servetune
from tests.orchestrator.predicting import LLAMA, asked, documented
from tests.runtimes.model_configs import forget_downloads, known

LOAD = Load(input_tokens=1024, output_tokens=256, concurrency=16)


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_downloads(monkeypatch, tmp_path / "hub")


def test_one_point_is_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(LLAMA, "--accelerator", "H200", "--tp", "4") == 0
    shown = capsys.readouterr().out
    assert "70.6 B parameters" in shown
    assert "1,024 tokens in, 256 out, 64 requests in flight" in shown
    assert re.search(r"time to first token +[\d,]+ +ms +[\d,]+ – [\d,]+", shown)
    assert re.search(r"time per output token +[\d.]+ +ms", shown)
    assert re.search(r"output per GPU +[\d,]+ +tokens/s", shown)
    assert re.search(r"weights +32\.\d", shown)
    assert re.search(r"KV cache +\d\.\d+ +of \d+\.\d that the engine's rule leaves", shown)
    assert re.search(r"one prompt +\d[\d.]* ms: (compute|memory)", shown)
    assert re.search(r"one decode step \d[\d.]* ms: \w+ \d+%, ", shown)
    assert "running         64 requests" in shown


def test_several_points_are_a_table_with_the_best_per_gpu_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (LLAMA, "--accelerator", "H200,h100", "--tp", "2,4,8", "--dp", "1,2")
    assert asked(*options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "vllm, precision default"
    header = next(index for index, line in enumerate(lines) if line.startswith("accelerator"))
    rows = lines[header + 1 : header + 11]
    per_gpu = [float(row.split()[-3].replace(",", "")) for row in rows]
    assert per_gpu == sorted(per_gpu, reverse=True)
    assert "precision" not in lines[header]
    assert "Do not fit, 2 deployments:" in lines
    assert any("H100, tp2: weights of 65.7 GiB and one request" in line for line in lines)
    points = documented(capsys, *options)
    served = [point for point in points if point["fits"]]
    figures = [point["output_throughput_per_gpu"]["value"] for point in served]
    assert len(points) == 12
    assert figures == sorted(figures, reverse=True)
    assert asked(*options, "--limit", "2") == 0
    assert "… and 8 more; --limit or --json shows them" in capsys.readouterr().out


def test_the_document_has_figures_with_bounds_units_and_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (point,) = documented(
        capsys, LLAMA, "--accelerator", "H200", "--tp", "4", "--quantization", "kv-cache-fp8",
        "--arg", "max-num-seqs=32", "--prefix-hit", "0.5",
    )  # fmt: skip
    assert point["layout"] == {"tp": 4}
    assert point["quantization"] == "kv-cache-fp8"
    assert point["load"]["prefix_hit"] == 0.5
    assert (point["gpus"], point["fits"], point["refused"], point["stable"]) == (
        4,
        True,
        None,
        True,
    )
    for name in ("ttft_ms", "tpot_ms", "e2e_ms", "output_throughput"):
        figure = point[name]
        assert 0 < figure["low"] < figure["value"] < figure["high"], name
    per_gpu = point["output_throughput_per_gpu"]["value"]
    assert per_gpu == pytest.approx(point["output_throughput"]["value"] / 4)
    assert point["running"] <= 32
    memory = point["memory_per_gpu"]
    assert memory["weights_bytes"] == pytest.approx(70.6e9 * 2 / 4, rel=0.01)
    assert memory["capacity_bytes"] == ACCELERATORS["H200"].memory_bytes
    for phase in ("prefill", "decode"):
        assert sum(point[phase]["shares"].values()) == pytest.approx(1)
        assert point[phase]["bottleneck"] == next(iter(point[phase]["shares"]))


def test_what_the_engine_refuses_is_told_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert asked(LLAMA, "--accelerator", "H200", "--tp", "3") == 2
    assert "Refused: tp=3 does not divide 64 attention heads" in capsys.readouterr().out
    assert asked(LLAMA, "--accelerator", "H200", "--tp", "3,4", "--dp", "1,2") == 0
    shown = capsys.readouterr().out
    assert "Refused, 2 combinations:" in shown
    assert "     2  vllm: tp=3 does not divide" in shown
    preset = ("--quantization", "dynamic-fp8", "--engine", "tensorrt_llm")
    assert asked(LLAMA, "--accelerator", "H200", "--tp", "4", *preset) == 2
    assert "quantised beforehand" in capsys.readouterr().out


def test_a_request_longer_than_the_model_takes_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (LLAMA, "--accelerator", "H200", "--tp", "8", "--arg", "max-model-len=1000")
    assert asked(*options) == 2
    assert "takes 1,280 tokens, and the longest is 1,000" in capsys.readouterr().out


def test_more_arrives_than_can_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    options = (LLAMA, "--accelerator", "H200", "--tp", "4")
    asked(*options, "--rate", "5000")
    shown = capsys.readouterr().out
    assert re.search(r"Cannot keep up: 5,000 requests arrive a second and [\d.]+ can", shown)
    assert re.search(r"time to first token +∞", shown)
    asked(*options, "--rate", "0.5,5000")
    shown = capsys.readouterr().out
    assert shown.index(" 0.5 ") < shown.index("5,000 ")
    assert "∞ requests arrive faster than they can be served" in shown
    slow, fast = documented(capsys, *options, "--rate", "0.5,5000")
    assert (slow["stable"], fast["stable"]) == (True, False)
    assert fast["ttft_ms"]["value"] is None


def test_speculation_says_what_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    drafts = 'speculative-config={"method": "ngram", "num_speculative_tokens": 3}'
    options = (LLAMA, "--accelerator", "H200", "--tp", "4", "--arg", drafts)
    asked(*options)
    assert "assumes  70% of drafted tokens are accepted" in capsys.readouterr().out
    (few,) = documented(capsys, *options, "--acceptance", "0.1")
    (many,) = documented(capsys, *options, "--acceptance", "0.9")
    assert few["draft_tokens"] == 3
    assert many["tpot_ms"]["value"] < few["tpot_ms"]["value"]


def test_accelerators_models_and_curves_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text(
        "accelerators: {slow: {like: H200, memory_bytes_per_s: 1e12}}\n"
        f"models: {{mine: {{like: {LLAMA}, layers: 40}}}}\n",
        encoding="utf-8",
    )
    own = ("--tp", "4", "--hardware", str(facts), "--models", str(facts))
    (slow,) = documented(capsys, "mine", "--accelerator", "slow", *own)
    (fast,) = documented(capsys, "mine", "--accelerator", "H200", *own)
    assert slow["accelerator"] == "slow"
    assert slow["tpot_ms"]["value"] > fast["tpot_ms"]["value"]
    assert fast["memory_per_gpu"]["weights_bytes"] < 0.6 * 70.6e9 * 2 / 4
    curves = tmp_path / "curves.json"
    slower = NodeCurves(
        accelerator="H200",
        gemm_flops={"bf16": ((64, 1e13), (4096, 1e14))},
        gemm_bytes_per_s={"bf16": 1e12},
        copy_bytes_per_s=1e12,
    )
    curves.write_text(dump_curves(slower), encoding="utf-8")
    measured = ("--accelerator", "H200", *own, "--curves", str(curves))
    (point,) = documented(capsys, "mine", *measured)
    assert point["tpot_ms"]["value"] > fast["tpot_ms"]["value"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give one of MODEL, --batch, --serve (got none)"),
        ((LLAMA, "--serve"), "(got MODEL and --serve)"),
        (("--serve", "--tp", "2"), "--tp says nothing to --serve"),
        (("--batch", "rows.csv"), "name it with --out"),
        (("--batch", "rows.csv", "--out", "o", "--rate", "2"), "--rate says nothing to --batch"),
        ((LLAMA, "--out", "o"), "--out says nothing to MODEL"),
        ((LLAMA,), "--accelerator: name what it runs on"),
        ((LLAMA, "--accelerator", "H2000"), "did you mean 'H200'?"),
        (("acme/unheard-of", "--accelerator", "H200"), "nothing is known of the model"),
        ((LLAMA, "--accelerator", "H200", "--tp", "2,x"), "--tp 'x': takes whole numbers from 1"),
        ((LLAMA, "--accelerator", "H200", "--tp", "0"), "--tp '0'"),
        ((LLAMA, "--accelerator", "H200,"), "--accelerator 'H200,': a name is empty"),
        ((LLAMA, "--accelerator", "H200", "--engine", "vlm"), "Did you mean 'vllm'?"),
        ((LLAMA, "--accelerator", "H200", "--engine", "external"), "the server runs already"),
        ((LLAMA, "--accelerator", "H200", "--rate", "-1"), "--rate '-1': takes numbers above 0"),
        ((LLAMA, "--accelerator", "H200", "--prefix-hit", "1"), "takes a share below 1"),
        ((LLAMA, "--accelerator", "H200", "--rate", "1e308"), "up to 1,000,000,000"),
        ((LLAMA, "--accelerator", "H200", "--concurrency", ""), "--concurrency: is empty"),
        ((LLAMA, "--accelerator", "H200", "--input-tokens", ""), "--input-tokens: is empty"),
        ((LLAMA, "--accelerator", "H200", "--acceptance", ""), "--acceptance: is empty"),
        ((LLAMA, "--accelerator", "H200", "--engine", ""), "--engine: is empty"),
        (("--serve", "--host", ""), "--host: is empty"),
        (("--serve", "--port", ""), "--port: is empty"),
        (("", "--accelerator", "H200"), "MODEL: is empty"),
        (("meta-llama/Lama-3.1-70B", "--accelerator", "H200"),
         "did you mean 'meta-llama/Llama-3.1-70B'?"),
        ((LLAMA, "--accelerator", "H200", "--arg", "block-size=0"), "--arg block-size=0: takes"),
        ((LLAMA, "--accelerator", "H200", "--arg", "max-model-len=0"), "--arg max-model-len=0:"),
        ((LLAMA, "--accelerator", "H200", "--input-tokens", "1,2"), "takes one number"),
        ((LLAMA, "--accelerator", "H200", "--limit", "0"), "--limit '0'"),
        ((LLAMA, "--accelerator", "H200", "--kv-cache", "fp9"), "did you mean 'fp8'?"),
        ((LLAMA, "--accelerator", "H200", "--quantization", "defalt"), "did you mean 'default'?"),
        (
            (LLAMA, "--accelerator", "H200", "--gemm", "fp8", "--quantization", "default"),
            "--gemm and --quantization both name a precision",
        ),
        ((LLAMA, "--accelerator", "H200", "--arg", "max-num-seqs"), "write NAME=VALUE"),
        ((LLAMA, "--accelerator", "H200", "--arg", "max-num-seq=3"), "did you mean max-num-seqs?"),
        ((LLAMA, "--accelerator", "H200", "--arg", "port=3"), "servetune sets it"),
        ((LLAMA, "--accelerator", "H200", "--hardware", "absent.yaml"), "a file of accelerators"),
        ((LLAMA, "--accelerator", "H200", "--curves", "absent.json"), "absent.json: cannot be"),
        (("--serve", "--port", "70000"), "--port '70000'"),
        (
            (LLAMA, "--accelerator", "H200", "--tp", ",".join(map(str, range(1, 2000))),
             "--pp", ",".join(map(str, range(1, 101)))),
            "199,900 combinations are more than the 100,000",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_questions(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(*options) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert not captured.out


def test_options_become_layouts_precisions_and_arguments() -> None:
    assert layouts({"--tp": "2,4", "--attention-dp": "2", "--pp": None}) == [
        ParallelLayout(tp=2, attention_dp=2),
        ParallelLayout(tp=4, attention_dp=2),
    ]
    assert layouts({}) == [ParallelLayout()]
    assert precisions(None, {"gemm": None, "kv_cache": None}) == ["default"]
    assert precisions(None, {"gemm": "fp8", "kv_cache": None}) == [Quantization(gemm="fp8")]
    assert precisions("default,kv-cache-fp8,default", {}) == ["default", "kv-cache-fp8"]
    assert engine_arguments(["--max_num_seqs=4", "a=x=y", "b=true", "c=NaN", "d="]) == {
        "max-num-seqs": 4,
        "a": "x=y",
        "b": True,
        "c": "NaN",
        "d": "",
    }
    with pytest.raises(UserError, match="stands twice"):
        engine_arguments(["a-b=1", "a_b=2"])


def test_every_engine_answers_the_same_question() -> None:
    question = WhatIf(
        name=LLAMA,
        model=known(LLAMA),
        accelerators=[ACCELERATORS["H100"]],
        engines=["vllm", "sglang", "tensorrt_llm", "simulated"],
        layouts=[ParallelLayout(tp=4), ParallelLayout(tp=8)],
        loads=[LOAD],
        acceptance=0.7,
    )
    points = what_if(question)
    assert question.size == len(points) == 8
    assert all(point.serves for point in points)
    assert [point.rank for point in points] == sorted(point.rank for point in points)
    predictions = {
        (point.engine, point.gpus): point.prediction for point in points if point.prediction
    }
    assert predictions["simulated", 8] == predictions["vllm", 8]
    assert all(found.gpus == gpus for (_, gpus), found in predictions.items())


@pytest.mark.parametrize(
    ("engine", "arguments", "precision"),
    [
        ("vllm", {"kv_cache_dtype": "fp8_e4m3"}, Quantization(kv_cache="fp8")),
        ("vllm", {"quantization": "fp8"}, Quantization(gemm="fp8")),
        ("simulated", {"kv-cache-dtype": "fp8_e5m2"}, Quantization(kv_cache="fp8_e5m2")),
        ("sglang", {"kv-cache-dtype": "fp8_e4m3"}, Quantization(kv_cache="fp8")),
        ("sglang", {"kv-cache-dtype": "bfloat16"}, Quantization(kv_cache="bf16")),
        ("sglang", {"quantization": "w8a8_fp8"}, Quantization(gemm="fp8_channel")),
        ("tensorrt_llm", {"kv_cache_config.dtype": "fp8"}, Quantization(kv_cache="fp8")),
        ("tensorrt_llm", {"kv_cache_config": {"dtype": "auto"}}, Quantization()),
    ],
)
def test_arguments_say_a_precision_too(
    engine: str, arguments: dict[str, Json], precision: Quantization
) -> None:
    model, accelerator = known(LLAMA), ACCELERATORS["H100"]
    config = EngineConfig(engine, LLAMA, args=arguments)
    assert configuration_of(config, model, accelerator).quantization == precision


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt_llm"])
@pytest.mark.parametrize(
    "precision", [Quantization(), Quantization(kv_cache="fp8"), Quantization(gemm="bf16")]
)
def test_a_neutral_precision_comes_through_the_engines_words(
    engine: str, precision: Quantization
) -> None:
    model, accelerator = known(LLAMA), ACCELERATORS["H100"]
    config = EngineConfig(engine, LLAMA, quantization=precision)
    assert configuration_of(config, model, accelerator).quantization == precision


def test_a_table_is_as_wide_as_the_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    options = (LLAMA, "--accelerator", "H200,H100", "--tp", "4,8", "--pp", "1,2")
    process = subprocess.Popen(
        command("predict", *options, "--quantization", "default,dynamic-fp8"),
        cwd=tmp_path,
        env=environment(COLUMNS="80", TERM="dumb"),
        stdout=slave,
    )
    os.close(slave)
    text = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        text += read
    os.close(master)
    assert process.wait() == 0
    lines = text.decode().splitlines()
    rows = [line for line in lines if line.startswith("H200")]
    assert len(rows) == 8
    assert all(len(row) <= 80 for row in rows)
    assert sum("dynamic-fp8" in row for row in rows) == 4


def test_serve_answers_until_it_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("predict", "--serve", "--port", "0"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    listening = re.match(r"listening on (http://127\.0\.0\.1:\d+)\b", line)
    try:
        assert listening is not None, line
        with urllib.request.urlopen(f"{listening[1]}/openapi.json", timeout=30) as answer:
            assert "/config/system-metrics" in json.load(answer)["paths"]
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")


def test_serve_without_its_extra_names_it(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')",
        encoding="utf-8",
    )
    found = servetune(
        "predict", "--serve", cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert found.returncode == 2
    assert found.stderr == (
        "servetune: --serve needs fastapi, which is not installed; pip install 'servetune[web]'\n"
    )
