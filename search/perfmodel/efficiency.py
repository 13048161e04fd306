"""What share of its peak figures an accelerator reaches, by operator, format and size.

Built-in figures are those of `search.perfmodel._measured`; an accelerator without its own is
given the nearest one's, and `Efficiencies.stands_for` says whose. A node's own measurements
replace them. Every method takes arrays of one length, `accelerator` and `fmt` as indices into the
accelerators given and into `FORMATS`, and gives an array of that length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtimes.errors import UnknownNameError
from runtimes.hardware import ACCELERATORS, Accelerator, find_accelerator
from runtimes.node_curves import Curve, NodeCurves
from search.perfmodel._curves import CurveSet, Floats, Ints, moved, rising_time
from search.perfmodel._measured import (
    B200,
    DECODE_ATTENTION,
    GEMM_MBU,
    GEMM_MFU,
    H100,
    PREFILL_ATTENTION_MFU,
    DecodeAttention,
    measured_as,
)

FORMATS: tuple[str, ...] = (
    "fp32", "bf16", "fp16", "fp8", "fp8_block", "fp8_channel", "fp8_e5m2", "int8", "int4", "mxfp8",
    "mxfp4", "nvfp4",
)  # fmt: skip
"""Number formats: `runtimes.quantization.PRECISIONS`, and fp32."""

_BYTES = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "fp8_channel": 1.0,
    "fp8_e5m2": 1.0, "int8": 1.0, "int4": 0.52, "mxfp8": 33 / 32, "mxfp4": 17 / 32, "nvfp4": 9 / 16,
}  # fmt: skip
"""Bytes per weight, scales included."""

_COPY_MBU = 0.8
"""Share of the memory bandwidth of element-wise operators: aiconfigurator's constant."""


def format_index(name: str) -> int:
    """The index of `name` in `FORMATS`. ValueError: it is none."""
    return FORMATS.index(name)


def curves_of(accelerator: Accelerator, curves: Sequence[NodeCurves]) -> NodeCurves | None:
    """The last of `curves` that was measured on `accelerator`; None when none was."""
    own = [curve for curve in curves if _name_of(curve) == accelerator.name]
    return own[-1] if own else None


class Efficiencies:
    """Peak figures and shares of them for a sequence of accelerators.

    Time of a GEMM over weights is the larger of FLOPs / (`peak_flops` · `gemm_mfu`) and
    bytes / (`bandwidth` · `gemm_mbu`); it never falls with more tokens or more bandwidth.
    """

    def __init__(
        self, accelerators: Sequence[Accelerator], curves: Sequence[NodeCurves] = ()
    ) -> None:
        parts = [_Part(one, curves_of(one, curves)) for one in accelerators]
        self._parts = parts
        self._bandwidth = np.array([one.memory_bytes_per_s for one in accelerators])
        self._copy = np.array([part.copy_mbu() for part in parts])
        self._peaks = np.array([peak_flops(one, fmt) for one in accelerators for fmt in FORMATS])
        self._mbu = np.array([part.gemm_mbu(fmt) for part in parts for fmt in FORMATS])
        mfu = [part.gemm_mfu(fmt) for part in parts for fmt in FORMATS]
        self._mfu = CurveSet(mfu, before=1, after=0)
        prefill = [part.prefill_attention_mfu() for part in parts]
        self._prefill = CurveSet(prefill, before=1, after=0)
        decode = [part.decode_attention(fmt) for part in parts for fmt in FORMATS]
        self._decode_fixed = np.array([line.fixed_s for line in decode])
        self._decode_mbu = np.array([line.mbu for line in decode])

    def peak_flops(self, accelerator: Ints, fmt: Ints) -> Floats:
        """Dense FLOP/s at which weights of `fmt` are multiplied; see the function `peak_flops`."""
        figures: Floats = self._peaks[_pair(accelerator, fmt)]
        return figures

    def gemm_mfu(self, accelerator: Ints, fmt: Ints, tokens: Floats) -> Floats:
        """Share of `peak_flops` that a GEMM over `tokens` reaches, in (0, 1].

        Between the measured sizes a power of the tokens, below them proportional to the tokens
        (the weights are what takes the time), above them constant.

        What was measured with few tokens is limited by memory. Where the ratio of FLOPs to bytes
        is another one (weights stored in fewer bits than they are multiplied in; an accelerator
        for which another one stands), the rise of the curve moves with it.
        """
        return self._mfu(_pair(accelerator, fmt), tokens)

    def gemm_mbu(self, accelerator: Ints, fmt: Ints) -> Floats:
        """Share of the memory bandwidth with which weights are read at few tokens (≤ 32).

        Weights of fewer bits than they are multiplied in are read like those of the measured
        format of about as many bits.
        """
        figures: Floats = self._mbu[_pair(accelerator, fmt)]
        return figures

    def prefill_attention_mfu(self, accelerator: Ints, tokens: Floats) -> Floats:
        """Share of the bf16 peak that the attention of a prompt of `tokens` reaches.

        FLOPs are counted with the causal half only.
        """
        return self._prefill(accelerator, tokens)

    def decode_attention(self, accelerator: Ints, fmt: Ints) -> tuple[Floats, Floats]:
        """(fixed_s, mbu): one layer takes fixed_s + bytes / (`bandwidth` · mbu).

        `fmt` is the KV cache's, the bytes those of the keys and values read.
        """
        pair = _pair(accelerator, fmt)
        return self._decode_fixed[pair], self._decode_mbu[pair]

    def bandwidth(self, accelerator: Ints) -> Floats:
        """Peak memory bandwidth in bytes per second."""
        figures: Floats = self._bandwidth[accelerator]
        return figures

    def copy_mbu(self, accelerator: Ints) -> Floats:
        """Share of the memory bandwidth that element-wise operators reach."""
        figures: Floats = self._copy[accelerator]
        return figures

    def measured(self, accelerator_index: int, fmt_name: str) -> bool:
        """Whether GEMMs of that format were measured on that accelerator itself."""
        return self._parts[accelerator_index].measured(fmt_name)

    def stands_for(self, accelerator_index: int) -> str | None:
        """Name of the accelerator whose figures are taken; None when they are its own.

        A node's own curves count as its own, also where they leave something out.
        """
        part = self._parts[accelerator_index]
        own = part.node is not None or part.like == part.accelerator.name
        return None if own else part.like


def peak_flops(accelerator: Accelerator, fmt: str) -> float:
    """Dense FLOP/s at which `accelerator` multiplies weights of `fmt`.

    Formats it cannot multiply in, and `int8` and `int4`, which are weights only, are widened and
    multiplied in bf16. fp32 is taken as TF32, half of bf16 in NVIDIA's data sheets from A100 on;
    for other vendors an assumption.
    """
    kind = _multiplied_in(accelerator, fmt)
    if kind == "nvfp4":
        return accelerator.fp4_flops or accelerator.bf16_flops
    if kind == "fp8":
        return accelerator.fp8_flops or accelerator.bf16_flops
    return accelerator.bf16_flops / 2 if fmt == "fp32" else accelerator.bf16_flops


def _multiplied_in(accelerator: Accelerator, fmt: str) -> str:
    """`bf16`, `fp8` or `nvfp4`: the measured format that GEMMs over weights of `fmt` are like."""
    if fmt in ("fp32", "bf16", "fp16", "int8", "int4") or not accelerator.supports(fmt):
        return "bf16"
    if fmt in ("mxfp4", "nvfp4"):
        return "nvfp4" if accelerator.fp4_flops is not None else "bf16"
    return "fp8" if accelerator.fp8_flops is not None else "bf16"


class _Part:
    """The curves of one accelerator: a node's, its own, or those of the one it is like."""

    def __init__(self, accelerator: Accelerator, node: NodeCurves | None) -> None:
        self.accelerator = accelerator
        self.node = node
        self.like = measured_as(accelerator)

    def gemm_mfu(self, fmt: str) -> Curve:
        kind = _multiplied_in(self.accelerator, fmt)
        peak = peak_flops(self.accelerator, fmt)
        flops = {} if self.node is None else self.node.gemm_flops
        if fmt in flops:
            return _shares(flops[fmt], peak)
        if kind in flops and self._column(fmt, kind)[1] == kind:
            own = _shares(flops[kind], peak_flops(self.accelerator, kind))
            return moved(own, self._intensity(fmt, self.accelerator, kind))
        like, column = self._column(fmt, kind)
        curve = rising_time(GEMM_MFU[like, column])
        return moved(curve, self._intensity(fmt, ACCELERATORS[like], column))

    def gemm_mbu(self, fmt: str) -> float:
        kind = _multiplied_in(self.accelerator, fmt)
        like, column = self._column(fmt, kind)
        stored = "bf16" if _BYTES[fmt] >= 2 else "nvfp4" if _BYTES[fmt] < 0.9 else "fp8"
        names = (fmt, column) if column == fmt else (stored, "fp8", column)
        rates = {} if self.node is None else self.node.gemm_bytes_per_s
        for name in (fmt, *names):
            if name in rates:
                return rates[name] / self.accelerator.memory_bytes_per_s
            if name in names and (like, name) in GEMM_MBU:
                return GEMM_MBU[like, name]
        return GEMM_MBU[like, column]

    def prefill_attention_mfu(self) -> Curve:
        if self.node is not None and self.node.prefill_attention_flops:
            return _shares(self.node.prefill_attention_flops, self.accelerator.bf16_flops)
        return rising_time(PREFILL_ATTENTION_MFU[self.like])

    def decode_attention(self, fmt: str) -> DecodeAttention:
        wide = DECODE_ATTENTION[self.like, 16]
        own = self.node is not None and len(self.node.decode_attention_s) > 1
        if self.node is not None and own:
            wide = _line(self.node.decode_attention_s, self.accelerator.memory_bytes_per_s)
        if _BYTES[fmt] >= 2:
            return wide
        if not own and (self.like, 8) in DECODE_ATTENTION:
            return DECODE_ATTENTION[self.like, 8]
        known, narrow = DECODE_ATTENTION[H100, 16], DECODE_ATTENTION[H100, 8]
        return DecodeAttention(
            wide.fixed_s * narrow.fixed_s / known.fixed_s, wide.mbu * narrow.mbu / known.mbu
        )

    def copy_mbu(self) -> float:
        if self.node is None:
            return _COPY_MBU
        return self.node.copy_bytes_per_s / self.accelerator.memory_bytes_per_s

    def measured(self, fmt: str) -> bool:
        fmt = "bf16" if fmt == "fp16" else fmt
        if self.node is not None and fmt in self.node.gemm_flops:
            return True
        return (self.accelerator.name, fmt) in GEMM_MFU

    def _column(self, fmt: str, kind: str) -> tuple[str, str]:
        """Accelerator and format of the built-in curve for weights of `fmt`."""
        if kind == "fp8" and (self.like, fmt) in GEMM_MFU:
            return self.like, fmt
        if (self.like, kind) in GEMM_MFU:
            return self.like, kind
        return (B200 if kind == "nvfp4" else H100), kind

    def _intensity(self, fmt: str, measured: Accelerator, column: str) -> float:
        """How many times fewer tokens this one needs than `measured` to be limited by compute."""
        weights = _BYTES[column] / _BYTES[fmt]
        theirs = peak_flops(measured, column) / measured.memory_bytes_per_s
        ours = peak_flops(self.accelerator, fmt) / self.accelerator.memory_bytes_per_s
        return weights * theirs / ours


def _shares(curve: Curve, peak: float) -> Curve:
    return rising_time(tuple((size, rate / peak) for size, rate in curve))


def _line(curve: Curve, bandwidth: float) -> DecodeAttention:
    """The line through (bytes, seconds) with the least relative error; no part negative."""
    sizes, seconds = np.asarray(curve, dtype=np.float64).T
    terms = np.stack((1 / seconds, sizes / seconds), axis=1)
    (fixed, per_byte), *_ = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)
    if fixed < 0 or per_byte <= 0:
        fixed, per_byte = 0.0, float(np.median(seconds / sizes))
    return DecodeAttention(float(fixed), 1 / (float(per_byte) * bandwidth))


def _name_of(curve: NodeCurves) -> str:
    try:
        return find_accelerator(curve.accelerator).name
    except UnknownNameError:
        return curve.accelerator


def _pair(accelerator: Ints, fmt: Ints) -> Ints:
    return accelerator * len(FORMATS) + fmt
