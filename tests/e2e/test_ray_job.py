"""`ray job submit` runs a study on a running cluster, and no secret of it is seen anywhere."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import studies
from tests.e2e.ray_head import RAY, ray_head
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

HF_TOKEN = "hf_planted" + "Abcdefghij1234567890"
API_KEY = "sk-planted" + "-0987654321zyxwvuts"
SEED = 73019
"""Of the engines of this job, to tell their command lines from those of other tests."""


@dataclass(frozen=True)
class Job:
    """A finished job: its run folder, its output, what Ray tells of it, command lines seen."""

    run: Path
    output: str
    information: str
    command_lines: str
    ray_logs: str


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("job")
    work = folder / "work"
    work.mkdir()
    engines = {
        "simulated": {
            "startup_s": 0.2,
            "env": {"HF_TOKEN": {"from_env": "HF_TOKEN"}, "VLLM_API_KEY": API_KEY},
            "args": {"seed": SEED},
            "search": {"max-num-seqs": [4, 8]},
        }
    }
    cluster = {"kind": "ray", "address": "auto", "simulated_gpus": 4, "accelerator": "H100"}
    studies.write(work, studies.experiment(engines=engines, cluster=cluster))
    results = folder / "runs"
    with ray_head(gpus=4, HF_TOKEN=HF_TOKEN) as head, watched_command_lines() as seen:
        submit = [
            *(str(RAY), "job", "submit", "--address", head.dashboard, "--working-dir", str(work)),
            *("--", *studies.command("run", "experiment.yaml", "--results", results)),
        ]
        done = submitted(submit, head.env, work)
        assert done.returncode == 0, done.stdout + done.stderr
        with urllib.request.urlopen(f"{head.dashboard}/api/jobs/", timeout=10) as answer:
            information = answer.read().decode()
        logs = "".join(
            path.read_text(errors="replace")
            for path in Path(head.env["HOME"]).glob("r/session_latest/logs/**/*")
            if path.is_file()
        )
        yield Job(studies.only_run(results), done.stdout, information, "\n".join(seen), logs)


def submitted(
    argv: list[str], env: Mapping[str, str], work: Path
) -> subprocess.CompletedProcess[str]:
    """Submit the job and wait for its end; a head whose agent is not up yet is asked again."""
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run(
            argv, env=dict(env), cwd=work, capture_output=True, text=True, timeout=200, check=False
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


class watched_command_lines:  # noqa: N801  # used as a function
    """Every command line of the machine, sampled while the block runs."""

    def __enter__(self) -> set[str]:
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self._seen

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self._seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue  # it ended between the listing and the reading


def test_the_job_runs_the_study(job: Job) -> None:
    rows = read_trials(RunLayout(job.run))
    assert [row.state.value for row in rows] == ["completed", "completed"]
    assert "best on a simulated engine" in job.output
    assert json.loads(job.information)[0]["status"] == "SUCCEEDED"
    engines = [line for line in job.command_lines.splitlines() if "runtimes.simulator" in line]
    assert any(f"--seed {SEED}" in line for line in engines)


@pytest.mark.parametrize("secret", [HF_TOKEN, API_KEY], ids=["from-env", "literal"])
def test_a_planted_secret_is_found_nowhere(job: Job, secret: str) -> None:
    assert secret not in everything_in(job.run)
    assert secret not in job.output
    assert secret not in job.information
    assert secret not in job.command_lines
    assert secret not in job.ray_logs


def test_the_secret_reached_the_engine(job: Job) -> None:
    # The simulated engine asks for the key like the real one: without it, requests get 401.
    rows = read_trials(RunLayout(job.run))
    assert all(row.env["VLLM_API_KEY"] == "***" for row in rows)
    assert all(row.env["HF_TOKEN"] == "***" for row in rows)
    assert all(row.measurement is not None for row in rows)
    experiment = (job.run / "experiment.yaml").read_text()
    assert "from_env: VLLM_API_KEY" in experiment


def everything_in(run: Path) -> str:
    """All text of a run folder, Parquet files decoded."""
    import pandas as pd

    parts = []
    for path in sorted(run.rglob("*")):
        if path.suffix == ".parquet":
            parts.append(pd.read_parquet(path).astype(str).to_json())
        elif path.is_file():
            parts.append(path.read_bytes().decode(errors="replace"))
    assert len(parts) > 10
    return "\n".join(str(part) for part in parts)
