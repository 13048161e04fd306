"""The command line as its user meets it: real processes, real exit codes, real output."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from runtimes.version import __version__
from search.trial import TrialState
from tests.orchestrator.commands import ROOT, command, environment, servetune
from tests.orchestrator.run_folders import RUN, write_run
from tests.tracking.run_samples import out_of_memory, trial_record
from tracking.lock import RunLock

COMMANDS = ("tune", "plan", "run", "resume", "status", "watch", "report", "grafana")
QUICKSTART = ROOT / "examples" / "quickstart.yaml"
TRIALS = [
    trial_record(0, gpus=2, baseline=True),
    trial_record(1, gpus=4, goodput_per_gpu=9.5),
    trial_record(2, state=TrialState.INFEASIBLE, failure=out_of_memory(), reason="out of memory"),
]


# --- help, versions, mistakes -------------------------------------------------------------------


def test_help_lists_the_commands_and_each_explains_itself(tmp_path: Path) -> None:
    done = servetune("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: servetune [-h]")
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(tmp_path: Path, name: str) -> None:
    done = servetune(name, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: servetune {name} [-h]")
    assert f"\n{name}: " not in done.stdout


def test_version(tmp_path: Path) -> None:
    done = servetune("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"servetune {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("plan",), ("run", "x.yaml", "--bogus")])
def test_a_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = servetune(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: servetune")
    assert "servetune: error: " in done.stderr.replace(" plan:", ":").replace(" run:", ":")


@pytest.mark.parametrize("name", ["resume", "status", "watch", "report"])
@pytest.mark.parametrize(
    ("given", "state"),
    [((), "runs does not exist"), (("empty",), "empty is no run folder and holds none")],
)
def test_a_folder_that_is_no_run(
    tmp_path: Path, name: str, given: tuple[str, ...], state: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = servetune(name, *given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"servetune: no run found: {state}, and no run of that id is in runs. Newest runs there: "
        "none. Name one of them, a run folder, or another results folder with --results.\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_an_experiment_that_is_not_there(tmp_path: Path) -> None:
    done = servetune("run", "absent.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "servetune: absent.yaml: 1 problem\n  - (file): there is no such file\n"
        "      name an experiment file\n"
    )


# --- a reader that leaves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", QUICKSTART),
        ("plan", QUICKSTART, "--json"),
        ("status", "runs"),
        ("report", "runs"),
        ("tune", "Qwen/Qwen3-8B", "--simulate", "H100:2", "--dry-run"),
    ],
    ids=lambda arguments: "-".join(map(str, (arguments[0], *arguments[2:]))),
)
def test_a_reader_that_leaves_is_no_error(
    tmp_path: Path, arguments: tuple[str | Path, ...]
) -> None:
    write_run(tmp_path / "runs", TRIALS)
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, b"")


# --- status and report --------------------------------------------------------------------------


def test_status_of_a_run(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", TRIALS)
    done = servetune("status", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{RUN}: every combination was tried", "2 completed, 1 infeasible"]
    rows = [line.split() for line in lines]
    assert ["1", "completed", "4", "9.50", "300", "30.0", "vllm", "tp=4"] in rows
    assert "infeasible" in done.stdout
    assert "CUDA out of memory. Tried to allocate 3.50 GiB" in done.stdout
    best = next(index for index, line in enumerate(lines) if line.startswith("best so far"))
    assert lines[best] == "best so far: trial 1, 2.43× the engine's defaults (trial 0; no interval)"
    assert lines[best + 1 : best + 3] == [
        "vllm serve meta-llama/Llama-3.1-8B \\",
        "  --tensor-parallel-size 4",
    ]
    assert any(line.startswith("why      trial 0, the runner-up, lost, ") for line in lines)
    (report,) = (line for line in lines if line.startswith("go on "))
    assert f" report runs/{RUN}  # " in report


def test_status_of_a_killed_run_and_of_one_that_is_driven(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "runs", TRIALS, ended="")
    assert f"{RUN}: not running; its driver was killed" in servetune("status", cwd=tmp_path).stdout
    live = {"running": {"3": {"engine": "vllm", "gpus": 2, "phase": "measuring",
                              "completed": 5, "planned": 40}}}  # fmt: skip
    layout.live_status.write_text(json.dumps(live))
    with RunLock(layout.lock):
        lines = servetune("status", layout.root, cwd=tmp_path).stdout.splitlines()
        document = json.loads(servetune("status", RUN, "--json", cwd=tmp_path).stdout)
    assert lines[0] == f"{RUN}: running"
    row = ["3", "measuring", "2", "vllm:", "5", "of", "40", "requests"]
    assert row in [line.split() for line in lines]
    assert (document["state"], document["live"]) == ("running", live)
    again = json.loads(servetune("status", RUN, "--json", cwd=tmp_path).stdout)
    assert (again["state"], again["live"]) == ("interrupted", {})


def test_status_of_a_long_run_is_bounded(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", [trial_record(number) for number in range(100)])
    lines = servetune("status", cwd=tmp_path).stdout.splitlines()
    assert "the latest 40 of 100 trials:" in lines
    assert len(lines) < 60


def test_the_document_of_a_run(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", TRIALS)
    done = servetune("report", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert list(document) == [
        "run", "best", "trials", "ended", "ending", "gains", "why", "flagged", "notes", "go_on",
        "report",
    ]  # fmt: skip
    assert (document["ended"], document["ending"]) == ("every combination was tried", "complete")
    (gain,) = document["gains"]
    assert (gain["trial"], gain["ratio"], gain["low"]) == (0, pytest.approx(2.432), None)
    (loss,) = document["why"]
    assert (loss["trial"], loss["against"], loss["role"]) == (0, 1, "runner_up")
    assert document["run"] == RUN
    assert document["trials"] == {"completed": 2, "infeasible": 1}
    best = document["best"]
    assert (best["trial"], best["objectives"]) == (1, {"goodput_per_gpu": 9.5})
    assert best["parameters"] == {"tp": 4}
    assert best["command"][:2] == ["vllm", "serve"]
    assert Path(tmp_path / document["report"]).is_file()


def test_report_prints_a_summary_and_writes_where_it_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", TRIALS)
    done = servetune("report", RUN, "--out", "here.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{RUN}: 2 completed, 1 infeasible" in done.stdout
    assert "best: trial 1, 4 GPUs" in done.stdout
    assert "report   here.html" in done.stdout
    assert "<html" in (tmp_path / "here.html").read_text(encoding="utf-8")
    done = servetune("report", RUN, "--out", "no/such/folder/x.html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("servetune: --out no/such/folder/x.html: cannot be written")


def test_a_run_in_which_nothing_was_measured_says_why(tmp_path: Path) -> None:
    reason = "needs 8 GPUs, the cluster has 4"
    trials = [trial_record(n, state=TrialState.INFEASIBLE, reason=reason) for n in range(2)]
    write_run(tmp_path / "runs", trials, excluded={"constraint `tp > 8` is false for tp=1": 3})
    lines = servetune("report", cwd=tmp_path).stdout.splitlines()
    assert "Nothing was measured." in lines
    assert "excluded 3 ×  constraint `tp > 8` is false for tp=1" in lines
    assert f"excluded 2 ×  {reason}" in lines


def test_a_study_in_which_everything_is_excluded_ends_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: n\nmodel: m\nengines: {vllm: {search: {seed: [1, 2]}}}\nconstraints: [seed > 2]\n"
        "search: {baseline: false}\ncluster: {kind: in_process, simulated_gpus: 1}\n"
    )
    done = servetune("run", "study.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "excluded 2 ×  constraint `seed > 2` is false for seed=1" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_told_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: n\nmodel: m\nengines: {vllm: {search: {seed: [1, 2]}}}\n"
        "cluster: {kind: in_process, simulated_gpus: 1}\n"
    )
    done = subprocess.run(  # the kernel refuses to write to any file, as it does on a full disk
        ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command("run", "study.yaml")],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "results: runs cannot be written: File too large; name another" in done.stderr
    assert "Traceback" not in done.stderr


# --- grafana ------------------------------------------------------------------------------------


def test_grafana_writes_files_and_says_where(tmp_path: Path) -> None:
    done = servetune("grafana", "--out", "boards", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote boards\nscrapes  127.0.0.1:9100\n")
    assert any((tmp_path / "boards").rglob("*.json"))
    (tmp_path / "file").write_text("")
    done = servetune("grafana", "--out", "file", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("servetune: --out file: cannot be written")
