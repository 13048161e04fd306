"""Facts of accelerators, against the table they were taken from."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from runtimes.errors import UnknownNameError
from runtimes.hardware import ACCELERATORS, SYSTEMS, Accelerator, find_accelerator, find_system
from runtimes.quantization import PRECISIONS

FIGURES = {
    "bf16_tflops_dense": ("bf16_flops", 1e12),
    "fp8_tflops_dense": ("fp8_flops", 1e12),
    "fp4_tflops_dense": ("fp4_flops", 1e12),
    "int8_tops_dense": ("int8_ops", 1e12),
    "mem_bytes_usable": ("memory_bytes", 1),
    "mem_bw_tb_s": ("memory_bytes_per_s", 1e12),
    "intra_node_gb_s_per_dir": ("link_bytes_per_s", 1e9),
    "inter_node_gb_s_per_gpu_default": ("network_bytes_per_s", 1e9),
    "scale_up_size": ("scale_up", 1),
    "tdp_w": ("power_w", 1),
}
"""Column of the table → attribute, and what one unit of the column is."""

PER_UNIT = {
    "bf16_flops", "fp8_flops", "fp4_flops", "int8_ops", "memory_bytes", "memory_bytes_per_s",
}  # fmt: skip
"""What grows with the number of accelerators in a system."""


def rows() -> list[dict[str, str]]:
    folder = os.environ.get("SERVETUNE_FACTS")
    if folder is None:
        pytest.skip("SERVETUNE_FACTS names no folder of facts")
    with (Path(folder) / "hardware.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_every_figure_is_that_of_the_table() -> None:
    table = rows()
    assert len(table) == 26
    for row in table:
        accelerator = find_accelerator(row["id"])
        _, units = SYSTEMS.get(row["id"], ("", 1))
        for column, (attribute, factor) in FIGURES.items():
            if units > 1 and attribute not in PER_UNIT:
                continue
            figure = getattr(accelerator, attribute)
            if not row[column]:
                assert figure is None, (row["id"], attribute)
            else:
                expected = float(row[column]) * factor
                assert figure * units == pytest.approx(expected, rel=1e-12), (row["id"], attribute)
        assert accelerator.vendor == row["vendor"]


def test_every_accelerator_says_where_its_figures_come_from() -> None:
    assert all(known.source and known.link for known in ACCELERATORS.values())
    assert len({known.id for known in ACCELERATORS.values()}) == len(ACCELERATORS)
    assert all((a.capability is None) == (a.vendor != "nvidia") for a in ACCELERATORS.values())


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("h200", "H200"),
        ("NVIDIA_H200_141GB", "H200"),
        ("a100 80gb", "A100-80GB"),
        ("nvidia_nvl72_rack", "GB200"),
        ("nvidia_gb200_single", "GB200"),
        ("nvidia_gb200_superchip", "GB200"),
        ("rtx 4090", "RTX-4090"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    assert find_accelerator(written).name == name


def test_a_system_is_several_of_one() -> None:
    assert find_system("NVIDIA-NVL72-Rack") == (find_accelerator("GB200"), 72)
    assert find_system("nvidia_gb200_single") is None
    assert find_system("GB200") is None


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown accelerator 'B210'\. Did you mean 'B200'"):
        find_accelerator("B210")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("A10G", {"fp8", "fp8_block", "fp8_channel", "fp8_e5m2", "mxfp8", "mxfp4", "nvfp4"}),
        ("A100-80GB", {"fp8", "fp8_block", "fp8_channel", "fp8_e5m2", "mxfp8", "mxfp4", "nvfp4"}),
        ("L40S", {"mxfp8", "mxfp4", "nvfp4"}),
        ("H200", {"mxfp8", "mxfp4", "nvfp4"}),
        ("B200", set()),
        ("RTX-5090", set()),
        ("MI300X", {"mxfp8", "mxfp4", "nvfp4"}),
        ("MI355X", {"nvfp4"}),
    ],
)
def test_what_each_generation_multiplies_in(name: str, missing: set[str]) -> None:
    device = find_accelerator(name)
    assert {precision for precision in PRECISIONS if device.supports(precision) is False} == missing
    assert all(device.supports(precision) is not None for precision in PRECISIONS)


def test_a_device_before_bf16() -> None:
    turing = Accelerator(
        name="T4", id="nvidia_t4", vendor="nvidia", memory_bytes=1, bf16_flops=1,
        memory_bytes_per_s=1, link_bytes_per_s=1, source="", capability=(7, 5),
    )  # fmt: skip
    assert turing.supports("bf16") is False
    assert turing.supports("fp16") is True


def test_what_nobody_has_said_is_unknown() -> None:
    tpu = find_accelerator("TPU-v6e")
    assert (tpu.supports("bf16"), tpu.supports("fp8"), tpu.supports("nvfp4")) == (True, None, None)
    assert find_accelerator("Gaudi3").supports("fp8") is True
