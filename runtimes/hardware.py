"""Facts of accelerators: dense figures, links per direction; no prices, no times."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.errors import UnknownNameError
from runtimes.registry import unknown_name


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator.

    Attributes:
        name: as users write it in `cluster.accelerator`.
        memory_bytes: memory an engine can use (what the driver reports, not the marketing figure).
        bf16_flops: peak dense bf16 FLOP/s.
        memory_bytes_per_s: peak memory bandwidth.
        link_bytes_per_s: bandwidth to its neighbours in the node, per direction.
        source: where the figures come from.
    """

    name: str
    memory_bytes: int
    bf16_flops: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    source: str


_TABLE = (
    Accelerator("A100-40GB", 42_949_672_960, 312e12, 1.555e12, 300e9, "NVIDIA A100 datasheet"),
    Accelerator("A100-80GB", 85_899_345_920, 312e12, 2.039e12, 300e9, "aiconfigurator a100_sxm"),
    Accelerator("H100", 85_520_809_984, 989e12, 3.35e12, 450e9, "aiconfigurator h100_sxm"),
    Accelerator("H200", 150_754_820_096, 989e12, 4.8e12, 450e9, "aiconfigurator h200_sxm"),
    Accelerator("B200", 192_265_846_784, 2250e12, 7.7e12, 900e9, "aiconfigurator b200_sxm"),
    Accelerator("L4", 24_152_899_584, 121e12, 0.3e12, 32e9, "aiconfigurator l4"),
    Accelerator("L40S", 48_305_799_168, 362.05e12, 0.864e12, 32e9, "aiconfigurator l40s"),
    Accelerator("A10G", 24_152_899_584, 70e12, 0.6e12, 32e9, "llm-analysis a10g-pcie-24gb"),
    Accelerator("MI300X", 206_158_430_208, 1307e12, 5.3e12, 448e9, "InferenceX gpu-specs"),
)
ACCELERATORS = {accelerator.name: accelerator for accelerator in _TABLE}
"""Known accelerators by name."""


def find_accelerator(name: str) -> Accelerator:
    """The accelerator called `name`, case and separators aside.

    Raises:
        UnknownNameError: none is called so; the message lists all.
    """
    wanted = _normal(name)
    for accelerator in _TABLE:
        if _normal(accelerator.name) == wanted:
            return accelerator
    raise UnknownNameError(unknown_name("accelerator", name, list(ACCELERATORS)))


def _normal(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
