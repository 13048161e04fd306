"""Files of curves: written, read back, and refused with the place that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import UserError
from runtimes.node_curves import NodeCurves, dump_curves, load_curves

CURVES = NodeCurves(
    accelerator="H200",
    gemm_flops={"bf16": ((1.0, 4e12), (8192.0, 7e14)), "fp8": ((1.0, 6e12),)},
    gemm_bytes_per_s={"bf16": 4e12, "fp8": 3e12},
    copy_bytes_per_s=4.1e12,
    prefill_attention_flops=((512.0, 1.6e14),),
    all_reduce_s={2: ((16384.0, 1.3e-5),), 8: ((16384.0, 1.4e-5), (65536.0, 2e-5))},
    software={"torch": "2.11.0"},
    measured_at="2026-01-02T03:04:05+00:00",
    missing={"all-reduce 4": "“no” such GPUs"},
)
_SIZE = st.floats(min_value=1, max_value=1e15)
_RATE = st.floats(min_value=1e3, max_value=1e20)
_TIME = st.floats(min_value=1e-9, max_value=1e6)


def written(folder: Path, **changes: Any) -> Path:
    data = json.loads(dump_curves(CURVES)) | changes
    path = folder / "curves.json"
    path.write_text(json.dumps({key: value for key, value in data.items() if value != "absent"}))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_text(dump_curves(CURVES), encoding="utf-8")
    assert load_curves(path) == CURVES
    assert len(path.read_text().splitlines()) == 13  # a line a key


@given(
    rates=st.dictionaries(_SIZE, _RATE, min_size=1, max_size=9),
    times=st.dictionaries(_SIZE, _TIME, min_size=1, max_size=9),
    copied=_RATE,
)
def test_figures_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    rates: dict[float, float],
    times: dict[float, float],
    copied: float,
) -> None:
    curve, took = tuple(sorted(rates.items())), tuple(sorted(times.items()))
    curves = NodeCurves(
        accelerator="x", gemm_flops={"bf16": curve}, gemm_bytes_per_s={"bf16": copied},
        copy_bytes_per_s=copied, decode_attention_s=took, all_reduce_s={4: took},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("curves") / "curves.json"
    path.write_text(dump_curves(curves))
    assert load_curves(path) == curves


def test_what_may_be_left_out(tmp_path: Path) -> None:
    optional = ("prefill_attention_flops", "decode_attention_s", "all_reduce_s", "software",
                "measured_at", "missing")  # fmt: skip
    curves = load_curves(written(tmp_path, **dict.fromkeys(optional, "absent")))
    assert (curves.all_reduce_s, curves.missing) == ({}, {})
    assert curves.gemm_flops == CURVES.gemm_flops


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version: this servetune reads 1"),
        ({"version": True}, "version: this servetune reads 1"),
        ({"gemm": {}}, "gemm: is no key of a file of curves"),
        ({"copy_bytes_per_s": "absent"}, "copy_bytes_per_s: is missing"),
        ({"copy_bytes_per_s": 0}, "copy_bytes_per_s: takes a number from 1000 to 1e+20 (got '0')"),
        ({"copy_bytes_per_s": "fast"}, "copy_bytes_per_s: takes a number (got 'fast')"),
        ({"copy_bytes_per_s": True}, "copy_bytes_per_s: takes a number (got 'True')"),
        ({"copy_bytes_per_s": float("nan")}, "copy_bytes_per_s: takes a number from"),
        ({"copy_bytes_per_s": 10**400}, "copy_bytes_per_s: takes a number from"),
        ({"accelerator": ""}, "accelerator: takes text (got '')"),
        ({"gemm_flops": {}}, "gemm_flops: is empty"),
        ({"gemm_flops": []}, "gemm_flops: takes keys with values (got '[]')"),
        ({"gemm_flops": {"bf16": []}}, "gemm_flops.bf16: takes a list of [size, figure]"),
        ({"gemm_flops": {"bf16": [[1, 2, 3]]}}, "gemm_flops.bf16[0]: takes [size, figure]"),
        ({"gemm_flops": {"bf16": [[1, -2]]}}, "gemm_flops.bf16[0][1]: takes a number from"),
        (
            {"gemm_flops": {"bf16": [[2, 1e9], [2, 1e9]]}},
            "gemm_flops.bf16[1]: sizes have to ascend",
        ),
        ({"gemm_bytes_per_s": {"bf16": 1e12}}, "gemm_bytes_per_s: takes the formats of gemm_flops"),
        ({"decode_attention_s": {}}, "decode_attention_s: takes a list of [size, figure]"),
        ({"all_reduce_s": {"two": [[1, 1]]}}, "all_reduce_s: takes numbers of ranks from 2"),
        ({"all_reduce_s": {"1": [[1, 1]]}}, "all_reduce_s: takes numbers of ranks from 2"),
        (
            {"all_reduce_s": {"2": [[1, 1]], "02": [[1, 1]]}},
            "all_reduce_s: takes numbers of ranks from 2 as keys (got '02')",
        ),
        ({"gemm_flops": {"bf61": [[1, 1e9]]}}, "gemm_flops.bf61: is no number format; known are"),
        (
            {"decode_attention_s": [[size, 1e-3] for size in range(1, 1026)]},
            "decode_attention_s: holds 1,025 points, at most 1,024 do",
        ),
        ({"decode_attention_s": [[1e300, 1]]}, "decode_attention_s[0][0]: takes a number from 1 "),
        ({"software": {"torch": 2}}, "software.torch: takes text (got '2')"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        load_curves(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "servetune calibrate" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_file_of_curves(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "curves.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is no (file of curves|JSON|text)"):
        load_curves(path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_curves(tmp_path / "absent.json")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_curves(tmp_path)
