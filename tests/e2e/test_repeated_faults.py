"""The kill of a driver, many times over (`make test-faults`): races show only in numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import studies
from tests.e2e.test_interrupted_study import LOCAL, RAY, identity, kill_and_resume, slow
from tracking.layout import RunLayout
from tracking.parquet.read import read_trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]


def test_ten_killed_drivers_each_on_ray_and_local(tmp_path: Path) -> None:
    done = studies.servetune("run", studies.write(tmp_path, slow(LOCAL)), "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    unbroken = {identity(row) for row in read_trials(RunLayout(studies.only_run(tmp_path)))}
    for round_ in range(10):
        for name, cluster in (("local", LOCAL), ("ray", RAY)):
            folder = tmp_path / f"{name}-{round_}"
            folder.mkdir()
            kill_and_resume(cluster, folder, unbroken)
