"""Engines that fail to start, crash, hang or refuse: recorded, explained, and the study goes on."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtimes.failure import FailureKind
from search.trial import TrialState
from tests.e2e import studies
from tracking.layout import RunLayout
from tracking.open import open_run
from tracking.parquet.read import read_trials
from tracking.records import TrialRecord

FAULTS = ["none", "start", "crash", "hang", "oom", "http-500", "start-hang"]


@dataclass(frozen=True)
class FaultyStudy:
    """One study with every fault: its folder, rows by fault, what it printed to stdout."""

    folder: Path
    rows: dict[str, TrialRecord]
    stdout: str


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyStudy:
    folder = tmp_path_factory.mktemp("faults")
    engines = {
        "simulated": {"startup_s": 0.1, "env": {studies.FAULT: list(FAULTS)}},
    }
    # Few warm-up requests, so that some are measured before the fault comes.
    workload = {
        "input_tokens": 32,
        "output_tokens": 8,
        "load": {"kind": "concurrency", "value": 2, "requests": 12},
        "warmup_requests": 1,
    }
    data = studies.experiment(
        engines=engines, workload=workload, timeouts={"stall": "3s", "start": "6s", "stop": "2s"}
    )
    done = studies.servetune("run", studies.write(folder, data), "--results", folder, "--json")
    assert done.returncode == 0, done.stderr
    run = studies.only_run(folder)
    rows = {str(row.params[f"env.{studies.FAULT}"]): row for row in read_trials(RunLayout(run))}
    return FaultyStudy(run, rows, done.stdout)


@pytest.mark.parametrize(
    ("fault", "state", "kind"),
    [
        ("start", TrialState.FAILED, FailureKind.INVALID_CONFIG),
        ("crash", TrialState.FAILED, FailureKind.CRASHED),
        ("hang", TrialState.FAILED, FailureKind.HUNG),
        ("oom", TrialState.INFEASIBLE, FailureKind.OOM_WEIGHTS),
        ("http-500", TrialState.FAILED, FailureKind.REQUESTS_FAILED),
        ("start-hang", TrialState.FAILED, FailureKind.START_TIMEOUT),
    ],
)
def test_a_fault_is_recorded_with_its_kind_and_log_tail(
    faulty: FaultyStudy,
    fault: str,
    state: TrialState,
    kind: FailureKind,
) -> None:
    row = faulty.rows[fault]
    assert row.state is state
    assert row.failure is not None
    assert row.failure.kind is kind
    assert row.failure.remedy
    assert "[simulator]" in row.failure.log_tail or "Error" in row.failure.log_tail


def test_the_study_finishes_around_the_faults(
    faulty: FaultyStudy,
) -> None:
    rows, stdout = faulty.rows, faulty.stdout
    assert set(rows) == set(FAULTS)
    document = json.loads(stdout)
    assert document["trials"] == {"completed": 1, "failed": 5, "infeasible": 1}
    assert document["best"]["trial"] == rows["none"].number


def test_requests_measured_before_a_crash_are_kept(
    faulty: FaultyStudy,
) -> None:
    row = faulty.rows["crash"]
    assert row.measurement is None
    requests = open_run(faulty.folder).pandas.requests(row.number)
    assert requests["error"].notna().any()
    assert requests["error"].isna().any()


def test_no_process_of_a_failed_trial_lives(
    faulty: FaultyStudy,
) -> None:
    for row in faulty.rows.values():
        for pid in row.process_ids:
            assert not Path(f"/proc/{pid}").exists() or _is_somebody_else(pid)


def _is_somebody_else(pid: int) -> bool:
    """A recycled pid does not run our guard or simulator."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return "runtimes" not in text


def test_a_failed_start_is_on_the_screen_with_cause_tail_and_remedy(tmp_path: Path) -> None:
    engines = {"simulated": {"startup_s": 0.1, "env": {studies.FAULT: "start"}}}
    path = studies.write(tmp_path, studies.experiment(engines=engines))
    seen: list[tuple[float, str]] = []
    with studies.started("run", path, "--results", tmp_path) as process:
        assert process.stderr is not None
        stream = process.stderr

        def read() -> None:
            for line in stream:
                seen.append((time.monotonic(), line))

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(timeout=60)
        process.wait(timeout=60)
    text = "".join(line for _, line in seen)
    started_s = next(at for at, line in seen if re.search(r"trial +0 +started", line))
    failed_s = next(at for at, line in seen if re.search(r"trial +0 +failed", line))
    assert failed_s - started_s < 10
    assert "must be divisible by tensor parallel size" in text
    assert "Traceback" in text or "ValidationError" in text
    assert "remedy:" in text
    assert process.returncode == 1
