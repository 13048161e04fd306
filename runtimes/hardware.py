"""Facts of accelerators: dense figures, links per direction; no prices, no times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtimes.errors import UnknownNameError
from runtimes.registry import unknown_name

Vendor = Literal["nvidia", "amd", "google", "intel"]

_NVIDIA_SINCE = {"bf16": (8, 0), "fp16": (7, 0), "fp8": (8, 9), "fp4": (10, 0)}
"""Compute capability from which NVIDIA GPUs multiply in a format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator: what one process is given, not a board or a rack.

    Attributes:
        name: as users write it in `cluster.accelerator`.
        memory_bytes: memory an engine can use (what the driver reports, not the marketing figure).
        bf16_flops: peak dense bf16 FLOP/s.
        fp8_flops, fp4_flops, int8_ops: the same in other formats; None where it has no figure.
        memory_bytes_per_s: peak memory bandwidth.
        link_bytes_per_s: bandwidth to its neighbours in the node, per direction.
        link: what connects it to them.
        scale_up: accelerators that such links connect.
        network_bytes_per_s: usual bandwidth to other nodes, per accelerator and direction.
        power_w: design power; None when not published.
        vendor: who makes it.
        capability: CUDA compute capability; None for other vendors.
        source: where the figures come from.
        id: the name it has in published tables of figures; accepted wherever `name` is.
    """

    name: str
    id: str
    vendor: Vendor
    memory_bytes: int
    bf16_flops: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    source: str
    fp8_flops: float | None = None
    fp4_flops: float | None = None
    int8_ops: float | None = None
    link: str = ""
    scale_up: int = 8
    network_bytes_per_s: float = 50e9
    power_w: float | None = None
    capability: tuple[int, int] | None = None

    def supports(self, precision: str) -> bool | None:
        """Whether it multiplies in `precision` (a `runtimes.quantization.Precision`).

        `int8` and `int4` are weights only and run anywhere. None when nothing is known.
        Sources: CUDA C++ programming guide, arithmetic by compute capability (fp8 from 8.9,
        formats of 4 bits and microscaling from 10.0, bf16 from 8.0); AMD's CDNA 4 white paper
        for its microscaling formats, of which `nvfp4` is none.
        """
        if precision in ("int8", "int4"):
            return True
        if self.capability is not None:
            return self.capability >= _NVIDIA_SINCE[_family(precision)]
        if precision in ("bf16", "fp16"):
            return True if precision == "bf16" or self.vendor != "google" else None
        if self.vendor == "amd":
            return self._amd_supports(precision)
        return True if self.fp8_flops is not None and _family(precision) == "fp8" else None

    def _amd_supports(self, precision: str) -> bool:
        if precision == "nvfp4":
            return False
        figure = self.fp8_flops if _family(precision) == "fp8" else self.fp4_flops
        return figure is not None


def _family(precision: str) -> str:
    """The key of `_NVIDIA_SINCE` that `precision` goes with; mxfp8 came with fp4."""
    if precision in _NVIDIA_SINCE:
        return precision
    return "fp8" if precision.startswith("fp8") else "fp4"


_T = 1e12
_NVSWITCH = "NVLink through NVSwitch"
_TABLE = (
    Accelerator(
        name="A100-40GB", id="nvidia_a100_40gb_sxm", vendor="nvidia", capability=(8, 0),
        bf16_flops=312e12, int8_ops=624e12, memory_bytes=42_949_672_960,
        memory_bytes_per_s=1.555 * _T, link_bytes_per_s=300e9, link=_NVSWITCH,
        network_bytes_per_s=25e9, power_w=400,
        source="llm-analysis gpu_configs/a100-sxm-40gb.json; NVIDIA A100 datasheet",
    ),
    Accelerator(
        name="A100-80GB", id="nvidia_a100_80gb_sxm", vendor="nvidia", capability=(8, 0),
        bf16_flops=312e12, int8_ops=624e12, memory_bytes=85_899_345_920,
        memory_bytes_per_s=2.039 * _T, link_bytes_per_s=300e9, link=_NVSWITCH,
        network_bytes_per_s=25e9, power_w=400, source="aiconfigurator systems/a100_sxm.yaml",
    ),
    Accelerator(
        name="A100-80GB-PCIE", id="nvidia_a100_80gb_pcie", vendor="nvidia", capability=(8, 0),
        bf16_flops=312e12, int8_ops=624e12, memory_bytes=85_899_345_920,
        memory_bytes_per_s=1.935 * _T, link_bytes_per_s=32e9, link="PCIe 4",
        network_bytes_per_s=25e9, power_w=300, source="aiconfigurator systems/a100_pcie.yaml",
    ),
    Accelerator(
        name="H100", id="nvidia_h100_80gb", vendor="nvidia", capability=(9, 0),
        bf16_flops=989e12, fp8_flops=1979e12, int8_ops=1979e12, memory_bytes=85_520_809_984,
        memory_bytes_per_s=3.35 * _T, link_bytes_per_s=450e9, link=_NVSWITCH, power_w=700,
        source="aiconfigurator h100_sxm.yaml; memory as nvidia-smi shows it, 81559 MiB",
    ),
    Accelerator(
        name="H100-PCIE", id="nvidia_h100_pcie", vendor="nvidia", capability=(9, 0),
        bf16_flops=756.5e12, fp8_flops=1513e12, int8_ops=1513e12, memory_bytes=85_899_345_920,
        memory_bytes_per_s=2.0 * _T, link_bytes_per_s=64e9, link="PCIe 5", power_w=350,
        source="aiconfigurator h100_pcie.yaml",
    ),
    Accelerator(
        name="H100-NVL", id="nvidia_h100_nvl", vendor="nvidia", capability=(9, 0),
        bf16_flops=835.5e12, fp8_flops=1671e12, int8_ops=1671e12, memory_bytes=100_930_682_880,
        memory_bytes_per_s=3.938 * _T, link_bytes_per_s=300e9, link="NVLink bridge of a pair",
        scale_up=2, power_w=400, source="NVIDIA H100 datasheet, sparse figures halved",
    ),
    Accelerator(
        name="H200", id="nvidia_h200_141gb", vendor="nvidia", capability=(9, 0),
        bf16_flops=989e12, fp8_flops=1979e12, int8_ops=1979e12, memory_bytes=150_754_820_096,
        memory_bytes_per_s=4.8 * _T, link_bytes_per_s=450e9, link=_NVSWITCH, power_w=700,
        source="aiconfigurator h200_sxm.yaml; memory as nvidia-smi shows it, 143771 MiB",
    ),
    Accelerator(
        name="H200-NVL", id="nvidia_h200_nvl", vendor="nvidia", capability=(9, 0),
        bf16_flops=835.5e12, fp8_flops=1671e12, int8_ops=1671e12, memory_bytes=150_754_820_096,
        memory_bytes_per_s=4.8 * _T, link_bytes_per_s=450e9, link="NVLink bridge of up to four",
        scale_up=4, power_w=600, source="NVIDIA H200 datasheet, sparse figures halved",
    ),
    Accelerator(
        name="H20", id="nvidia_h20", vendor="nvidia", capability=(9, 0),
        bf16_flops=148e12, fp8_flops=296e12, int8_ops=296e12, memory_bytes=102_625_181_696,
        memory_bytes_per_s=4.0 * _T, link_bytes_per_s=450e9, link=_NVSWITCH, power_w=400,
        source="InferSim hardware table; memory as nvidia-smi shows it, 97871 MiB",
    ),
    Accelerator(
        name="H800", id="nvidia_h800", vendor="nvidia", capability=(9, 0),
        bf16_flops=989e12, fp8_flops=1979e12, int8_ops=1979e12, memory_bytes=85_520_809_984,
        memory_bytes_per_s=3.35 * _T, link_bytes_per_s=200e9, link=_NVSWITCH, power_w=700,
        source="InferSim hardware table (NVLink 400 GB/s both ways); all else as in an H100",
    ),
    Accelerator(
        name="GH200-96GB", id="nvidia_gh200_96gb", vendor="nvidia", capability=(9, 0),
        bf16_flops=989e12, fp8_flops=1979e12, int8_ops=1979e12, memory_bytes=102_625_181_696,
        memory_bytes_per_s=4.0 * _T, link_bytes_per_s=50e9, link="network between superchips",
        scale_up=1, power_w=900,
        source="NVIDIA GH200 datasheet; memory as nvidia-smi shows it, 97871 MiB",
    ),
    Accelerator(
        name="GH200-144GB", id="nvidia_gh200_144gb", vendor="nvidia", capability=(9, 0),
        bf16_flops=989e12, fp8_flops=1979e12, int8_ops=1979e12, memory_bytes=144_000_000_000,
        memory_bytes_per_s=4.9 * _T, link_bytes_per_s=50e9, link="network between superchips",
        scale_up=1, power_w=900, source="NVIDIA GH200 datasheet, marketing capacity",
    ),
    Accelerator(
        name="B200", id="nvidia_b200", vendor="nvidia", capability=(10, 0),
        bf16_flops=2250e12, fp8_flops=4500e12, fp4_flops=9000e12, int8_ops=4500e12,
        memory_bytes=192_265_846_784, memory_bytes_per_s=7.7 * _T, link_bytes_per_s=900e9,
        link=_NVSWITCH, power_w=1000, source="aiconfigurator b200_sxm.yaml; InferenceX gpu-specs",
    ),
    Accelerator(
        name="GB200", id="nvidia_gb200", vendor="nvidia", capability=(10, 0),
        bf16_flops=2500e12, fp8_flops=5000e12, fp4_flops=10_000e12, int8_ops=5000e12,
        memory_bytes=198_674_743_296, memory_bytes_per_s=8.0 * _T, link_bytes_per_s=900e9,
        link="NVLink through the rack's switch", scale_up=72, network_bytes_per_s=100e9,
        power_w=1200, source="aiconfigurator gb200.yaml; memory by nvidia-smi, 189471 MiB",
    ),
    Accelerator(
        name="B300", id="nvidia_b300", vendor="nvidia", capability=(10, 3),
        bf16_flops=2250e12, fp8_flops=4500e12, fp4_flops=13_500e12, int8_ops=153.5e12,
        memory_bytes=288_400_343_040, memory_bytes_per_s=7.75 * _T, link_bytes_per_s=900e9,
        link=_NVSWITCH, network_bytes_per_s=100e9, power_w=1100,
        source="aiconfigurator b300_sxm.yaml; InferenceX gpu-specs for fp4",
    ),
    Accelerator(
        name="GB300", id="nvidia_gb300", vendor="nvidia", capability=(10, 3),
        bf16_flops=2500e12, fp8_flops=5000e12, fp4_flops=15_000e12, int8_ops=165e12,
        memory_bytes=298_013_687_808, memory_bytes_per_s=8.0 * _T, link_bytes_per_s=900e9,
        link="NVLink through the rack's switch", scale_up=72, network_bytes_per_s=100e9,
        power_w=1400, source="aiconfigurator gb300.yaml; InferenceX gpu-specs",
    ),
    Accelerator(
        name="L4", id="nvidia_l4", vendor="nvidia", capability=(8, 9),
        bf16_flops=121e12, fp8_flops=242e12, int8_ops=242e12, memory_bytes=24_152_899_584,
        memory_bytes_per_s=0.300 * _T, link_bytes_per_s=32e9, link="PCIe 4",
        network_bytes_per_s=25e9, power_w=72,
        source="aiconfigurator l4.yaml; memory as nvidia-smi shows it, 23034 MiB",
    ),
    Accelerator(
        name="L40S", id="nvidia_l40s", vendor="nvidia", capability=(8, 9),
        bf16_flops=362.05e12, fp8_flops=733e12, int8_ops=733e12, memory_bytes=48_305_799_168,
        memory_bytes_per_s=0.864 * _T, link_bytes_per_s=32e9, link="PCIe 4", power_w=350,
        source="aiconfigurator l40s.yaml",
    ),
    Accelerator(
        name="A10G", id="nvidia_a10g", vendor="nvidia", capability=(8, 6),
        bf16_flops=70e12, int8_ops=140e12, memory_bytes=24_152_899_584,
        memory_bytes_per_s=0.600 * _T, link_bytes_per_s=32e9, link="PCIe 4",
        network_bytes_per_s=12.5e9, power_w=300, source="llm-analysis a10g-pcie-24gb.json",
    ),
    Accelerator(
        name="RTX-4090", id="nvidia_rtx_4090", vendor="nvidia", capability=(8, 9),
        bf16_flops=165.2e12, fp8_flops=330.3e12, int8_ops=660.6e12, memory_bytes=25_757_220_864,
        memory_bytes_per_s=1.008 * _T, link_bytes_per_s=32e9, link="PCIe 4, no peer access",
        scale_up=4, network_bytes_per_s=12.5e9, power_w=450,
        source="NVIDIA Ada specifications, fp8 with fp32 accumulation",
    ),
    Accelerator(
        name="RTX-5090", id="nvidia_rtx_5090", vendor="nvidia", capability=(12, 0),
        bf16_flops=209.5e12, fp8_flops=419e12, fp4_flops=1676e12, int8_ops=838e12,
        memory_bytes=34_190_917_632, memory_bytes_per_s=1.792 * _T, link_bytes_per_s=64e9,
        link="PCIe 5", scale_up=4, network_bytes_per_s=12.5e9, power_w=575,
        source="NVIDIA Blackwell specifications, sparse figures halved, fp32 accumulation",
    ),
    Accelerator(
        name="RTX-PRO-6000", id="nvidia_rtx_pro_6000_server", vendor="nvidia", capability=(12, 0),
        bf16_flops=467.8e12, fp8_flops=935.6e12, fp4_flops=1871e12, int8_ops=935.6e12,
        memory_bytes=102_641_958_912, memory_bytes_per_s=1.792 * _T, link_bytes_per_s=64e9,
        link="PCIe 5", power_w=600, source="aiconfigurator rtx_pro_6000_server.yaml",
    ),
    Accelerator(
        name="MI250", id="amd_mi250", vendor="amd",
        bf16_flops=362.1e12, int8_ops=362.1e12, memory_bytes=137_438_953_472,
        memory_bytes_per_s=3.2768 * _T, link_bytes_per_s=150e9, link="Infinity Fabric",
        scale_up=4, network_bytes_per_s=25e9, power_w=500,
        source="AMD MI250 microarchitecture page and MI250 data sheet; both dies of a card",
    ),
    Accelerator(
        name="MI300X", id="amd_mi300x", vendor="amd",
        bf16_flops=1307e12, fp8_flops=2615e12, int8_ops=2615e12, memory_bytes=206_158_430_208,
        memory_bytes_per_s=5.3 * _T, link_bytes_per_s=448e9, link="Infinity Fabric mesh",
        power_w=750, source="InferenceX gpu-specs",
    ),
    Accelerator(
        name="MI325X", id="amd_mi325x", vendor="amd",
        bf16_flops=1307e12, fp8_flops=2615e12, int8_ops=2615e12, memory_bytes=274_877_906_944,
        memory_bytes_per_s=6.0 * _T, link_bytes_per_s=448e9, link="Infinity Fabric mesh",
        power_w=1000, source="InferenceX gpu-specs",
    ),
    Accelerator(
        name="MI350X", id="amd_mi350x", vendor="amd",
        bf16_flops=2300e12, fp8_flops=4600e12, fp4_flops=9200e12, int8_ops=4600e12,
        memory_bytes=309_237_645_312, memory_bytes_per_s=8.0 * _T, link_bytes_per_s=576e9,
        link="Infinity Fabric mesh", power_w=1000,
        source="AMD MI350X data sheet, dense figures; memory and links as in an MI355X",
    ),
    Accelerator(
        name="MI355X", id="amd_mi355x", vendor="amd",
        bf16_flops=2516e12, fp8_flops=5033e12, fp4_flops=10_066e12, int8_ops=5033e12,
        memory_bytes=309_237_645_312, memory_bytes_per_s=8.0 * _T, link_bytes_per_s=576e9,
        link="Infinity Fabric mesh", power_w=1400, source="InferenceX gpu-specs",
    ),
    Accelerator(
        name="TPU-v5e", id="google_tpu_v5e", vendor="google",
        bf16_flops=197e12, int8_ops=393e12, memory_bytes=17_179_869_184,
        memory_bytes_per_s=0.819 * _T, link_bytes_per_s=100e9, link="ICI 2D torus",
        scale_up=256, network_bytes_per_s=3.1e9, source="Google Cloud TPU documentation, v6e page",
    ),
    Accelerator(
        name="TPU-v5p", id="google_tpu_v5p", vendor="google",
        bf16_flops=459e12, int8_ops=918e12, memory_bytes=102_005_473_280,
        memory_bytes_per_s=2.765 * _T, link_bytes_per_s=300e9, link="ICI 3D torus",
        scale_up=8960, network_bytes_per_s=3.1e9, source="GenZ Systems/system_configs.py",
    ),
    Accelerator(
        name="TPU-v6e", id="google_tpu_v6e", vendor="google",
        bf16_flops=918e12, int8_ops=1836e12, memory_bytes=34_359_738_368,
        memory_bytes_per_s=1.64 * _T, link_bytes_per_s=224e9, link="ICI 2D torus",
        scale_up=256, network_bytes_per_s=12.5e9, source="Google Cloud TPU documentation, v6e page",
    ),
    Accelerator(
        name="Gaudi2", id="intel_gaudi2", vendor="intel",
        bf16_flops=432e12, fp8_flops=865e12, memory_bytes=103_079_215_104,
        memory_bytes_per_s=2.45 * _T, link_bytes_per_s=262.5e9, link="RoCE inside the box",
        network_bytes_per_s=37.5e9, power_w=600,
        source="Intel Gaudi 2 white paper; 21 of 24 ports of 100 Gbit/s inside the box",
    ),
    Accelerator(
        name="Max-1550", id="intel_max_1550", vendor="intel",
        bf16_flops=838.9e12, int8_ops=1677.7e12, memory_bytes=137_438_953_472,
        memory_bytes_per_s=3.2768 * _T, link_bytes_per_s=212e9, link="Xe Link",
        network_bytes_per_s=25e9, power_w=600,
        source="Intel Max series technical overview (4096 operations per core and clock, 128 cores "
        "at 1.6 GHz, both stacks of a card; 8 links of 26.5 GB/s)",
    ),
    Accelerator(
        name="Gaudi3", id="intel_gaudi3", vendor="intel",
        bf16_flops=1835e12, fp8_flops=1835e12, memory_bytes=137_438_953_472,
        memory_bytes_per_s=3.7 * _T, link_bytes_per_s=525e9, link="RoCE inside the box",
        network_bytes_per_s=75e9, power_w=900, source="Intel Gaudi 3 product pages",
    ),
)  # fmt: skip
ACCELERATORS = {accelerator.name: accelerator for accelerator in _TABLE}
"""Known accelerators by name."""

SYSTEMS = {
    "nvidia_gb200_single": ("GB200", 1),
    "nvidia_gb200_superchip": ("GB200", 2),
    "nvidia_nvl72_rack": ("GB200", 72),
}
"""Names for one or several: the accelerator, and how many. Boards and racks are sold under one."""


def find_accelerator(name: str) -> Accelerator:
    """The accelerator called `name`, case and separators aside.

    A system of several is named after what it consists of: the answer is one of them.

    Raises:
        UnknownNameError: none is called so; the message lists all.
    """
    wanted = _normal(name)
    for accelerator in _TABLE:
        if wanted in (_normal(accelerator.name), _normal(accelerator.id)):
            return accelerator
    for system, (part, _) in SYSTEMS.items():
        if wanted == _normal(system):
            return ACCELERATORS[part]
    raise UnknownNameError(unknown_name("accelerator", name, list(ACCELERATORS)))


def find_system(name: str) -> tuple[Accelerator, int] | None:
    """What the system called `name` consists of, and how many; None when it is none of several."""
    for system, (part, count) in SYSTEMS.items():
        if _normal(name) == _normal(system) and count > 1:
            return ACCELERATORS[part], count
    return None


def _normal(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
