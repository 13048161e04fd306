"""What `servetune predict` makes of engine arguments and curves, and what does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtimes.node_curves import NodeCurves, dump_curves
from tests.orchestrator.predicting import LLAMA, asked, documented
from tests.runtimes.model_configs import forget_downloads


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_downloads(monkeypatch, tmp_path / "hub")


def test_arguments_that_change_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = (LLAMA, "--accelerator", "H200", "--tp", "4")
    given = ("cpu-offload-gb=4", "dtype=float32", "max-num-seqs=32", "enforce-eager=true")
    arguments = [part for each in given for part in ("--arg", each)]
    (point,) = documented(capsys, *options, *arguments)
    assert point["arguments_without_effect"] == ["cpu-offload-gb", "dtype"]
    asked(*options, *arguments)
    assert "nothing here depends on cpu-offload-gb, dtype" in capsys.readouterr().out


def test_kernels_launched_one_by_one_take_longer(capsys: pytest.CaptureFixture[str]) -> None:
    options = (LLAMA, "--accelerator", "H200", "--tp", "4", "--concurrency", "8")
    (captured,) = documented(capsys, *options)
    (eager,) = documented(capsys, *options, "--arg", "enforce-eager=true")
    assert eager["tpot_ms"]["value"] > captured["tpot_ms"]["value"] + 80 * 0.06
    assert "kernels launched one by one: 60 µs a layer are assumed" in eager["extrapolates"]


def test_without_a_prefix_cache_nothing_of_a_prompt_is_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (LLAMA, "--accelerator", "H200", "--tp", "4", "--arg", "enable-prefix-caching=false")
    (whole,) = documented(capsys, *options)
    (hits,) = documented(capsys, *options, "--prefix-hit", "0.9")
    assert whole["ttft_ms"] == hits["ttft_ms"]
    assert (whole["arguments_without_effect"], hits["arguments_without_effect"]) == (
        ["enable-prefix-caching"],
        [],
    )


def test_curves_of_what_is_not_asked_about_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "curves.json"
    path.write_text(
        dump_curves(
            NodeCurves(
                accelerator="A100-80GB",
                gemm_flops={"bf16": ((64, 1e13), (4096, 1e14))},
                gemm_bytes_per_s={"bf16": 1e12},
                copy_bytes_per_s=1e12,
            )
        ),
        encoding="utf-8",
    )
    assert asked(LLAMA, "--accelerator", "H200", "--tp", "4", "--curves", str(path)) == 2
    assert "measured on A100-80GB, and what is asked runs on H200" in capsys.readouterr().err


def test_what_does_not_fit_says_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(LLAMA, "--accelerator", "H100") == 2
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    lacking = re.search(
        r"Does not fit: weights of 131\.4 GiB and one request of 131,072 tokens \(max-model-len\) "
        r"with 40\.0 GiB of KV cache are ([\d.]+) GiB per GPU more than vllm has left of 79\.6",
        words,
    )
    assert lacking is not None
    assert 50 < float(lacking[1]) < 120
    assert "asks for less" not in words  # the weights alone are too large
    assert asked(LLAMA, "--accelerator", "H100", "--tp", "2", "--concurrency", "1,2,4") == 2
    several = " ".join(capsys.readouterr().out.split())
    assert "Do not fit, 1 deployment:" in several  # requests in flight change nothing about one
    assert several.endswith("--arg max-model-len=N asks for less")
    assert asked(LLAMA, "--accelerator", "H100", "--tp", "2", "--arg", "max-model-len=2000") == 0
    assert re.search(r"capacity +79\.6", shown)
    assert "time to first token" not in shown
