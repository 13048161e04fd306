"""Efficiencies: what was measured, what is derived from it, and that more is never slower."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.node_curves import NodeCurves
from runtimes.quantization import Precision, bits
from search.perfmodel._curves import CurveSet, Floats, Ints, moved, rising_time
from search.perfmodel._measured import GEMM_MBU, GEMM_MFU, MEASURED, PREFILL_ATTENTION_MFU
from search.perfmodel.efficiency import FORMATS, Efficiencies, curves_of, format_index, peak_flops

ALL = tuple(ACCELERATORS.values())
NAMES = [accelerator.name for accelerator in ALL]
BUILT_IN = Efficiencies(ALL)
NODE = NodeCurves(
    accelerator="nvidia_h200_141gb",
    gemm_flops={"bf16": ((16, 2e13), (256, 3e14), (4096, 6e14))},
    gemm_bytes_per_s={"bf16": 4e12},
    copy_bytes_per_s=3.6e12,
    prefill_attention_flops=((1024, 1e14), (8192, 5e14)),
    decode_attention_s=((1e6, 10.25e-6), (1e8, 35e-6), (1e9, 260e-6)),
)


def index(name: str, count: int = 1) -> Ints:
    return np.full(count, NAMES.index(name))


def fmt(name: str, count: int = 1) -> Ints:
    return np.full(count, format_index(name))


def gemm_s(efficiencies: Efficiencies, accelerator: int, number: str, tokens: Floats) -> Floats:
    """Seconds of a GEMM over 1e6 weights of `number`."""
    which, formats = np.full(len(tokens), accelerator), fmt(number, len(tokens))
    rate = efficiencies.peak_flops(which, formats) * efficiencies.gemm_mfu(which, formats, tokens)
    reading = efficiencies.bandwidth(which) * efficiencies.gemm_mbu(which, formats)
    weights = 4 if number == "fp32" else bits(number) / 8
    return np.maximum(2e6 * tokens / rate, 1e6 * weights / reading)


def test_knows_every_precision_and_fp32() -> None:
    assert set(FORMATS) == {"fp32", *get_args(Precision)}
    assert [FORMATS[format_index(name)] for name in FORMATS] == list(FORMATS)


@pytest.mark.parametrize(("name", "number"), GEMM_MFU, ids=str)
def test_reads_the_measured_points_as_they_are(name: str, number: str) -> None:
    tokens, shares = np.asarray(GEMM_MFU[name, number]).T
    count = len(tokens)
    read = BUILT_IN.gemm_mfu(index(name, count), fmt(number, count), tokens)
    # Two of them are rounded such that twice the tokens would take less time.
    assert read == pytest.approx(shares, rel=0.05)
    assert read[3:] == pytest.approx(shares[3:])
    assert BUILT_IN.gemm_mbu(index(name), fmt(number)) == GEMM_MBU[name, number]
    assert BUILT_IN.measured(NAMES.index(name), number)


def test_reads_between_below_and_above_the_measured_points() -> None:
    tokens = np.array([32.0, 64.0, 90.5, 128.0, 8192.0, 1e6])
    shares = BUILT_IN.gemm_mfu(index("H100", 6), fmt("bf16", 6), tokens)
    assert shares == pytest.approx([0.09, 0.18, (0.18 * 0.34) ** 0.5, 0.34, 0.77, 0.77], rel=1e-3)


def test_prefill_attention_reads_the_measured_points() -> None:
    for name in MEASURED:
        tokens, shares = np.asarray(PREFILL_ATTENTION_MFU[name]).T
        read = BUILT_IN.prefill_attention_mfu(index(name, len(tokens)), tokens)
        assert read == pytest.approx(shares)
    half = BUILT_IN.prefill_attention_mfu(index("H100"), np.array([256.0]))
    assert half == pytest.approx([0.08])


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("H100", "bf16", 989e12),
        ("H100", "fp16", 989e12),
        ("H100", "fp32", 989e12 / 2),
        ("H100", "fp8_block", 1979e12),
        ("H100", "int4", 989e12),
        ("H100", "int8", 989e12),
        ("H100", "mxfp4", 989e12),
        ("H100", "nvfp4", 989e12),
        ("A100-80GB", "fp8", 312e12),
        ("B200", "nvfp4", 9000e12),
        ("B200", "mxfp8", 4500e12),
        ("MI355X", "mxfp4", 10_066e12),
        ("MI355X", "nvfp4", 2516e12),
        ("TPU-v6e", "fp8", 918e12),
    ],
)
def test_multiplies_in_what_the_chip_can(name: str, number: str, expected: float) -> None:
    assert BUILT_IN.peak_flops(index(name), fmt(number)) == expected
    assert peak_flops(ACCELERATORS[name], number) == expected


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("H100", None),
        ("H100-PCIE", "H100"),
        ("H100-NVL", "H100"),
        ("A100-40GB", "A100-80GB"),
        ("A100-80GB-PCIE", "A100-80GB"),
        ("B300", "B200"),
        ("GB300", "GB200"),
        ("L4", "L40S"),
        ("A10G", "L40S"),
        ("RTX-4090", "L40S"),
        ("RTX-PRO-6000", "L40S"),
        ("MI300X", "H100"),
        ("TPU-v5p", "H100"),
        ("Gaudi3", "H100"),
    ],
)
def test_says_whose_figures_are_taken(name: str, like: str | None) -> None:
    assert BUILT_IN.stands_for(NAMES.index(name)) == like
    assert BUILT_IN.measured(NAMES.index(name), "bf16") == (like is None)


def test_an_unknown_accelerator_is_taken_for_the_nearest_of_its_generation() -> None:
    mine = replace(ACCELERATORS["H100"], name="GH200", memory_bytes_per_s=4.9e12)
    old = replace(ACCELERATORS["H100"], name="V100", capability=(7, 0))
    efficiencies = Efficiencies([mine, old])
    assert [efficiencies.stands_for(0), efficiencies.stands_for(1)] == ["H200", "A100-80GB"]


def test_a_derived_format_is_not_measured() -> None:
    hopper, blackwell = NAMES.index("H100"), NAMES.index("B200")
    assert BUILT_IN.measured(hopper, "fp16")
    assert BUILT_IN.measured(hopper, "fp8_block")
    assert not BUILT_IN.measured(hopper, "int4")
    assert not BUILT_IN.measured(hopper, "nvfp4")
    assert not BUILT_IN.measured(blackwell, "fp8_block")
    assert not BUILT_IN.measured(blackwell, "mxfp4")


@pytest.mark.parametrize("name", ["A100-80GB", "H100", "L40S"])
def test_weights_of_fewer_bits_are_read_faster_and_multiplied_no_faster(name: str) -> None:
    tokens = np.array([1.0, 16.0, 4096.0])
    wide = gemm_s(BUILT_IN, NAMES.index(name), "bf16", tokens)
    narrow = gemm_s(BUILT_IN, NAMES.index(name), "int4", tokens)
    assert (wide / narrow)[:2] == pytest.approx([3.5, 3.5], rel=0.15)
    assert narrow[2] == pytest.approx(wide[2], rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_tokens_take_as_long_as_one(name: str) -> None:
    for number in FORMATS:
        one, few, more = gemm_s(BUILT_IN, NAMES.index(name), number, np.array([1.0, 8.0, 16.0]))
        assert few == pytest.approx(one, rel=0.01), number
        assert more <= 1.6 * one, number


accelerators = st.sampled_from(ALL)
formats = st.sampled_from(FORMATS)
token_counts = st.floats(0.01, 1e6)


@settings(max_examples=25)
@given(st.floats(0.01, 2))
def test_more_tokens_never_take_less_time(first: float) -> None:
    tokens = np.geomspace(first, first * 1e7, 60)
    for accelerator, number in product(range(len(ALL)), FORMATS):
        times = gemm_s(BUILT_IN, accelerator, number, tokens)
        assert (np.diff(times) >= -1e-9 * times[1:]).all(), (NAMES[accelerator], number)


def test_an_accelerator_of_more_bandwidth_computes_fully_with_fewer_tokens() -> None:
    faster = replace(ACCELERATORS["B200"], memory_bytes_per_s=4 * 7.7e12)
    shares = Efficiencies([faster]).gemm_mfu(
        np.zeros(2, dtype=np.int64), fmt("bf16", 2), np.array([16.0, 32.0])
    )
    assert shares == pytest.approx([0.16, 0.31])


@given(accelerators, formats, token_counts, st.floats(1, 8))
def test_more_bandwidth_is_never_slower(
    accelerator: Accelerator, number: str, tokens: float, factor: float
) -> None:
    faster = replace(accelerator, memory_bytes_per_s=accelerator.memory_bytes_per_s * factor)
    # With other bandwidth it may be nearer to another measured one.
    known = Efficiencies([accelerator, faster])
    assume(known.stands_for(0) == known.stands_for(1))
    sizes = np.array([tokens])
    assert gemm_s(known, 1, number, sizes) <= gemm_s(known, 0, number, sizes) * (1 + 1e-9)


@given(accelerators, formats, token_counts)
def test_shares_are_shares(accelerator: Accelerator, number: str, tokens: float) -> None:
    which, formats, sizes = index(accelerator.name), fmt(number), np.array([tokens])
    fixed, mbu = BUILT_IN.decode_attention(which, formats)
    shares = np.concatenate(
        (
            BUILT_IN.gemm_mfu(which, formats, sizes),
            BUILT_IN.gemm_mbu(which, formats),
            BUILT_IN.prefill_attention_mfu(which, sizes),
            BUILT_IN.copy_mbu(which),
            mbu,
        )
    )
    assert (shares > 0).all()
    assert (shares <= 1).all()
    assert 5e-6 < fixed < 30e-6


@pytest.mark.parametrize(
    ("name", "number", "gib", "share"),
    [
        ("H100", "bf16", 0.5, 0.86),
        ("H100", "bf16", 2.0, 0.91),
        ("H200", "bf16", 0.5, 0.83),
        ("B200", "bf16", 0.5, 0.82),
        ("B200", "bf16", 2.0, 0.93),
        ("H100", "fp8", 0.25, 0.70),
        ("H100", "fp8", 1.0, 0.80),
        ("H200", "fp8", 1.0, 0.61),
        ("A100-80GB", "bf16", 2.0, 0.78),
    ],
)
def test_decode_attention_is_near_the_measured_rows(
    name: str, number: str, gib: float, share: float
) -> None:
    """Share of the bandwidth at 32 or 128 sequences of 4096 tokens (aiconfigurator's tables)."""
    fixed, mbu = BUILT_IN.decode_attention(index(name), fmt(number))
    bandwidth, read = ACCELERATORS[name].memory_bytes_per_s, gib * 2**30
    seconds = fixed + read / (bandwidth * mbu)
    assert read / bandwidth / seconds == pytest.approx([share], rel=0.05)


def test_a_format_without_figures_is_read_like_one_of_as_many_bits() -> None:
    for name, number, expected in (
        ("H100", "int4", 0.66),
        ("H100", "fp8_block", 0.35),
        ("B200", "int4", 0.40),
        ("B200", "int8", 0.46),
        ("A100-80GB", "fp8_block", 0.70),
        ("TPU-v6e", "fp8_block", 0.66),
    ):
        assert BUILT_IN.gemm_mbu(index(name), fmt(number)) == expected, (name, number)


def test_a_cache_of_8_bits_loses_what_it_loses_on_the_measured_part() -> None:
    for name, wide, narrow in (("A100-80GB", 0.79, 0.714), ("B200", 0.93, 0.84)):
        assert BUILT_IN.decode_attention(index(name), fmt("bf16"))[1] == [wide]
        assert BUILT_IN.decode_attention(index(name), fmt("fp8"))[1] == pytest.approx(
            [narrow], rel=0.01
        )


def test_a_nodes_own_curves_replace_the_built_in_ones() -> None:
    part = ACCELERATORS["H200"]
    own, built_in = Efficiencies([part], [NODE]), Efficiencies([part])
    zeros, tokens = np.zeros(3, dtype=np.int64), np.array([16.0, 256.0, 4096.0])
    expected = np.array([2e13, 3e14, 6e14]) / part.bf16_flops
    assert own.gemm_mfu(zeros, fmt("bf16", 3), tokens) == pytest.approx(expected)
    assert own.gemm_mfu(zeros, fmt("fp16", 3), tokens) == pytest.approx(expected)
    one = zeros[:1]
    assert own.gemm_mbu(one, fmt("bf16")) == pytest.approx([4e12 / 4.8e12])
    assert own.copy_mbu(one) == pytest.approx([0.75])
    assert own.prefill_attention_mfu(one, tokens[2:] * 2) == pytest.approx([5e14 / 989e12])
    fixed, mbu = own.decode_attention(one, fmt("bf16"))
    assert fixed == pytest.approx([10e-6])
    assert mbu * 4.8e12 == pytest.approx([4e12])
    for name in ("fp8", "fp8_block"):
        kept = built_in.gemm_mfu(zeros, fmt(name, 3), tokens)
        assert own.gemm_mfu(zeros, fmt(name, 3), tokens) == pytest.approx(kept)


def test_a_nodes_curve_of_one_format_serves_those_multiplied_in_it() -> None:
    node = replace(NODE, gemm_flops={"fp8": ((64, 4e14), (4096, 1.5e15))}, accelerator="B200")
    own = Efficiencies([ACCELERATORS["B200"]], [node])
    tokens, zero = np.array([4096.0]), np.zeros(1, dtype=np.int64)
    for name in ("fp8", "fp8_channel", "fp8_block", "fp8_e5m2"):
        assert own.gemm_mfu(zero, fmt(name), tokens) == pytest.approx([1.5 / 4.5])
    assert own.measured(0, "fp8")


def test_curves_belong_to_an_accelerator_by_any_of_its_names() -> None:
    mine = replace(ACCELERATORS["H100"], name="Some GPU of ours")
    later = replace(NODE, copy_bytes_per_s=1.0)
    assert curves_of(ACCELERATORS["H200"], [NODE, later]) is later
    assert curves_of(ACCELERATORS["H100"], [NODE]) is None
    assert curves_of(mine, [replace(NODE, accelerator=mine.name)]) is not None
    assert Efficiencies([mine], [replace(NODE, accelerator=mine.name)]).stands_for(0) is None


def test_a_line_that_would_start_below_zero_starts_at_zero() -> None:
    node = replace(NODE, decode_attention_s=((1e6, 1e-6), (1e9, 2e-3)))
    fixed, mbu = Efficiencies([ACCELERATORS["H200"]], [node]).decode_attention(
        np.zeros(1, dtype=np.int64), fmt("bf16")
    )
    assert fixed == 0
    assert mbu > 0


points = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1e-3, 1)), min_size=1, max_size=6)


@example([(64.0, 0.5), (128.0, 0.9)], 2 * (1 + 1e-15), 64.0, 2.0)
@given(points, st.floats(0.1, 10), st.floats(0.5, 1e5), st.floats(1, 3))
def test_a_moved_curve_keeps_that_more_work_takes_more_time(
    drawn: list[tuple[float, float]], factor: float, size: float, more: float
) -> None:
    sizes = sorted({round(x, 1) for x, _ in drawn})
    curve = rising_time(tuple(zip(sizes, (y for _, y in drawn), strict=False)))
    rates = CurveSet([moved(curve, factor)], before=1, after=0)
    zero = np.zeros(2, dtype=np.int64)
    first, second = np.array([size, size * more]) / rates(zero, np.array([size, size * more]))
    assert second >= first * (1 - 1e-6)


def test_curves_of_different_lengths_are_read_side_by_side() -> None:
    curves = CurveSet([((4, 1.0),), ((1, 1.0), (4, 16.0), (16, 16.0))], before=1, after=0)
    rows, sizes = np.array([0, 0, 1, 1, 1]), np.array([2.0, 64.0, 2.0, 4.0, 0.5])
    assert curves(rows, sizes) == pytest.approx([0.5, 1.0, 4.0, 16.0, 0.5])
