"""Kernels' efficiencies and collectives' rates as measured on six accelerators.

Source: aiconfigurator, `systems/data` (Apache-2.0), its tables of vLLM 0.24 (A100: 0.14). GEMMs
are medians over weights of at least 4096 x 4096, attention has 8 heads of keys and values of 128
elements. Efficiencies are shares of the peak figures in `runtimes.hardware`.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.hardware import ACCELERATORS, Accelerator
from runtimes.node_curves import Curve

A100, L40S, H100, H200 = "A100-80GB", "L40S", "H100", "H200"
B200, GB200 = "B200", "GB200"
MEASURED = (A100, L40S, H100, H200, B200, GB200)

_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_GEMM_MFU = {
    (A100, "bf16"): (0.28, 0.48, 0.69, 0.80, 0.84, 0.88, 0.89, 0.92),
    (L40S, "bf16"): (0.11, 0.22, 0.40, 0.62, 0.67, 0.68, 0.63, 0.56),
    (L40S, "fp8"): (0.10, 0.19, 0.33, 0.47, 0.51, 0.52, 0.51, 0.49),
    (H100, "bf16"): (0.18, 0.34, 0.63, 0.81, 0.83, 0.83, 0.80, 0.77),
    (H100, "fp8"): (0.14, 0.26, 0.43, 0.55, 0.57, 0.56, 0.54, 0.64),
    (H100, "fp8_block"): (0.06, 0.12, 0.23, 0.44, 0.54, 0.58, 0.60, 0.60),
    (H200, "bf16"): (0.23, 0.46, 0.73, 0.82, 0.82, 0.82, 0.78, 0.75),
    (H200, "fp8"): (0.18, 0.31, 0.46, 0.59, 0.64, 0.63, 0.60, 0.67),
    (H200, "fp8_block"): (0.06, 0.12, 0.25, 0.45, 0.53, 0.57, 0.59, 0.59),
    (B200, "bf16"): (0.16, 0.31, 0.52, 0.65, 0.68, 0.70, 0.69, 0.68),
    (B200, "fp8"): (0.10, 0.19, 0.28, 0.37, 0.45, 0.48, 0.47, 0.45),
    (B200, "nvfp4"): (0.08, 0.16, 0.25, 0.31, 0.37, 0.41, 0.46, 0.45),
    (GB200, "bf16"): (0.15, 0.29, 0.49, 0.64, 0.68, 0.69, 0.68, 0.47),
    (GB200, "fp8"): (0.09, 0.17, 0.26, 0.34, 0.42, 0.46, 0.48, 0.45),
    (GB200, "nvfp4"): (0.07, 0.14, 0.22, 0.30, 0.34, 0.38, 0.42, 0.44),
}
GEMM_MFU: dict[tuple[str, str], Curve] = {
    key: tuple(zip(_TOKENS, shares, strict=True)) for key, shares in _GEMM_MFU.items()
}
"""By accelerator and format: tokens of the batch → share of the format's peak FLOP/s."""

GEMM_MBU = {
    (A100, "bf16"): 0.70,
    (L40S, "bf16"): 0.80,
    (L40S, "fp8"): 0.68,
    (H100, "bf16"): 0.82,
    (H100, "fp8"): 0.66,
    (H100, "fp8_block"): 0.35,
    (H200, "bf16"): 0.75,
    (H200, "fp8"): 0.57,
    (H200, "fp8_block"): 0.25,
    (B200, "bf16"): 0.73,
    (B200, "fp8"): 0.46,
    (B200, "nvfp4"): 0.40,
    (GB200, "bf16"): 0.73,
    (GB200, "fp8"): 0.46,
    (GB200, "nvfp4"): 0.39,
}
"""By accelerator and format: share of the memory bandwidth at 32 tokens and fewer."""

_PROMPT = (512, 2048, 8192, 16384)
_PREFILL_MFU = {
    A100: (0.24, 0.47, 0.56, 0.57),
    L40S: (0.27, 0.44, 0.50, 0.50),
    H100: (0.16, 0.44, 0.61, 0.62),
    H200: (0.16, 0.44, 0.61, 0.60),
    B200: (0.10, 0.32, 0.51, 0.56),
}
_PREFILL_MFU[GB200] = _PREFILL_MFU[B200]
PREFILL_ATTENTION_MFU: dict[str, Curve] = {
    name: tuple(zip(_PROMPT, shares, strict=True)) for name, shares in _PREFILL_MFU.items()
}
"""Tokens of a prompt → share of the bf16 peak, the causal half of the FLOPs counted. GB200 has no
table of its own and is given the B200's."""


@dataclass(frozen=True, slots=True)
class DecodeAttention:
    """One layer takes `fixed_s` + bytes of keys and values / (bandwidth · `mbu`)."""

    fixed_s: float
    mbu: float


DECODE_ATTENTION = {
    (A100, 16): DecodeAttention(14e-6, 0.79),
    (L40S, 16): DecodeAttention(14e-6, 0.80),
    (H100, 16): DecodeAttention(14e-6, 0.93),
    (H100, 8): DecodeAttention(19e-6, 0.84),
    (H200, 16): DecodeAttention(14e-6, 0.93),
    (H200, 8): DecodeAttention(19e-6, 0.64),
    (B200, 16): DecodeAttention(10e-6, 0.93),
    (GB200, 16): DecodeAttention(10e-6, 0.93),
}
"""By accelerator and bits of the cache: lines through the tables' rows of 1 to 128 sequences of
1k to 16k tokens. L40S is assumed to read its cache as it reads weights, with the A100's fixed
part; GB200 to be a B200; elsewhere 8 bits lose what they lose on H100."""


SMALL_BYTES = 64 * 1024
"""Up to this size an all-reduce takes the same time."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Measured all-reduces by ranks.

    Attributes:
        fixed_s: seconds of `SMALL_BYTES` and less.
        bus: bandwidth at 1 GB in bytes per second: 2(ranks - 1)/ranks · bytes over the time.
    """

    fixed_s: dict[int, float]
    bus: dict[int, float]


ALL_REDUCE = {
    A100: AllReduce({2: 25e-6, 4: 27.5e-6, 8: 30e-6}, {2: 164e9, 4: 190e9, 8: 198e9}),
    L40S: AllReduce({2: 26e-6, 4: 46e-6, 8: 59e-6}, {2: 18e9}),
    H100: AllReduce({2: 12e-6, 4: 13e-6, 8: 14e-6}, {2: 271e9, 4: 307e9, 8: 398e9}),
    H200: AllReduce({2: 13e-6, 4: 13.5e-6, 8: 14e-6}, {2: 287e9, 4: 319e9, 8: 417e9}),
    B200: AllReduce({2: 13.5e-6, 4: 14e-6, 8: 15e-6}, {2: 482e9, 4: 566e9, 8: 641e9}),
    GB200: AllReduce({2: 24.5e-6, 4: 24.5e-6}, {2: 194e9, 4: 507e9}),
}
"""vLLM's custom all-reduce inside a CUDA graph.

Over PCIe that kernel falls to 4 and 2 GB/s among 4 and 8 L40S, where engines use NCCL instead
(vLLM turns its own off among more than two GPUs without NVLink). A ring keeps the bandwidth of
two ranks, and the throughput that TensorRT-LLM publishes of a 70B model on 4 and 8 L40S needs it.
"""


def measured_as(accelerator: Accelerator) -> str:
    """The measured accelerator nearest to `accelerator`: its own name when it is one of them.

    NVIDIA's by generation (compute capability; 8.6 to 8.9 and 12 are the parts with GDDR memory),
    and within one by memory bandwidth. Other vendors' are taken for an H100.
    """
    if accelerator.name in MEASURED:
        return accelerator.name
    if accelerator.capability is None:
        return H100
    major, minor = accelerator.capability
    if major >= 12 or (major == 8 and minor > 0):
        return L40S
    generation = {9: (H100, H200), 10: (B200, GB200), 11: (B200, GB200)}.get(major, (A100,))

    def distance(name: str) -> float:
        ratio = accelerator.memory_bytes_per_s / ACCELERATORS[name].memory_bytes_per_s
        return max(ratio, 1 / ratio)

    return min(generation, key=distance)
