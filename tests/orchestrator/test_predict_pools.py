"""`servetune predict --prefill … --decode …`: prompts on some engines, answers on others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.orchestrator.predicting import LLAMA, asked, documented
from tests.runtimes.model_configs import forget_downloads

H200 = (LLAMA, "--accelerator", "H200")


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_downloads(monkeypatch, tmp_path / "hub")


def test_one_is_a_report_of_both_pools(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(*H200, "--prefill", "tp=4,replicas=2", "--decode", "tp=8") == 0
    shown = capsys.readouterr().out
    assert "vllm, H200, 2 × tp4 → 1 × tp8, precision default, 16 GPUs" in shown
    assert re.search(r"prefill +at most [\d.]+ requests/s, the slower pool\n", shown)
    assert re.search(r"decode +at most [\d.]+ requests/s\n", shown)
    assert re.search(r"KV cache +[\d.]+ GiB a request and rank, [\d.]+ ms on its way", shown)
    assert re.search(r"balance +[\d.]+ engines for prompts per engine that decodes", shown)
    for pool, weights in (("prefill", 32), ("decode", 16)):
        assert re.search(rf"{pool}: memory of a GPU .*\nweights +{weights}\.\d", shown)
    assert "prefill and decode are predicted apart" in shown


def test_the_document_has_what_each_pool_sustains(capsys: pytest.CaptureFixture[str]) -> None:
    (point,) = documented(
        capsys, LLAMA, "--prefill", "tp=4,replicas=3,accelerator=h100",
        "--decode", "accelerator=H200,tp=4,pp=2", "--rate", "2",
    )  # fmt: skip
    assert point["prefill_pool"] == {"layout": {"tp": 4}, "replicas": 3, "accelerator": "H100"}
    assert point["decode_pool"]["layout"] == {"tp": 4, "pp": 2}
    assert (point["accelerator"], point["gpus"]) == ("H100 → H200", 20)
    assert point["request_throughput"] == pytest.approx(2)
    assert point["output_throughput_per_gpu"]["value"] == pytest.approx(2 * 256 / 20)
    pools = point["pools"]
    slower = min(("prefill", "decode"), key=lambda name: pools[f"{name}_requests_per_s"])
    assert pools["limited_by"] == slower
    per_engine = pools["decode_requests_per_s"] / (pools["prefill_requests_per_s"] / 3)
    assert pools["prefill_engines_per_decode_engine"] == pytest.approx(per_engine)
    assert pools["transfer_ms"] > 0
    assert pools["prefill_memory_per_gpu"]["capacity_bytes"] < 90e9
    assert pools["decode_memory_per_gpu"]["capacity_bytes"] > 140e9


def test_every_pair_of_pools_is_a_row_the_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    pools = ("--prefill", "tp=4,replicas=2", "--prefill", "tp=2,replicas=4", "--decode", "tp=8",
             "--decode", "tp=1", "--decode", "tp=3")  # fmt: skip
    assert asked(*H200, *pools, "--saturated") == 0
    shown = capsys.readouterr().out
    assert "2 × tp4 → 1 × tp8" in shown
    assert "     2  vllm: decode: tp=3 does not divide 64 attention heads" in shown
    assert "4 × tp2 → 1 × tp1: weights of " in shown
    points = documented(capsys, *H200, *pools, "--saturated")
    assert [point["fits"] for point in points] == [True, True, False, False, False, False]
    figures = [point["output_throughput_per_gpu"]["value"] for point in points[:2]]
    assert figures == sorted(figures, reverse=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prefill", "tp=4"), "--decode: is missing; two pools take --prefill and --decode"),
        (("--decode", "tp=4"), "--prefill: is missing"),
        (("--prefill", "tp=4", "--decode", "8"), "--decode '8': write NAME=VALUE"),
        (("--prefill", "tp=4", "--decode", "tp="), "--decode 'tp=': write NAME=VALUE"),
        (("--prefill", "tp=4", "--decode", "replica=2"), "did you mean 'replicas'?"),
        (("--prefill", "tp=4,tp=8", "--decode", "tp=4"), "tp stands twice"),
        (("--prefill", "tp=0", "--decode", "tp=4"), "--prefill tp '0': takes whole numbers"),
        (("--prefill", "replicas=x", "--decode", "tp=4"), "--prefill replicas 'x'"),
        (("--prefill", "accelerator=H2000", "--decode", "tp=4"), "did you mean 'H200'?"),
        (("--prefill", "tp=4", "--decode", "tp=4", "--tp", "8"), "--tp: each pool has its own"),
        (
            ("--prefill", "tp=4", "--decode", "tp=4", "--accelerator", "H100,H200"),
            "give --accelerator one name, or each pool its own",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_pools(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(*H200, *options) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert not captured.out
