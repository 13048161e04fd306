"""What one node was measured to reach: kernels' rates by size, as `servetune calibrate` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Curve = tuple[tuple[float, float], ...]
"""(size, figure) pairs, sizes ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCurves:
    """Rates of one accelerator of a node, each the median of repeated runs.

    Attributes:
        accelerator: its name in `runtimes.hardware`, or as the driver calls it.
        gemm_flops: by number format (`bf16`, `fp8` …): batch tokens → FLOP/s of a square GEMM
            large enough to fill the device.
        gemm_bytes_per_s: by number format: bytes of weights read per second at few tokens.
        copy_bytes_per_s: bytes read and written per second by a large copy.
        prefill_attention_flops: tokens of a prompt → FLOP/s, the causal half counted.
        decode_attention_s: bytes of keys and values → seconds of one layer.
        all_reduce_s: by ranks: bytes of the tensor → seconds.
        software: what it was measured with, by name (`torch` → version).
        measured_at: when, in ISO 8601.
    """

    accelerator: str
    gemm_flops: Mapping[str, Curve]
    gemm_bytes_per_s: Mapping[str, float]
    copy_bytes_per_s: float
    prefill_attention_flops: Curve = ()
    decode_attention_s: Curve = ()
    all_reduce_s: Mapping[int, Curve] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    measured_at: str = ""
