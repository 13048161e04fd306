"""A study that is scraped waits at its end for the last scrape, and Ctrl-C ends the wait."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from runtimes.json_types import Json
from tests.e2e import studies
from tracking.layout import RunLayout


def _status(results: Path) -> dict[str, Json]:
    found = list(results.glob("*/live/status.json"))
    status: dict[str, Json] = json.loads(found[0].read_text()) if found else {}
    return status


def test_ctrl_c_ends_the_wait_of_a_study_that_is_over(tmp_path: Path) -> None:
    data = studies.experiment(metrics={"linger": "10m"})
    results = tmp_path / "runs"
    with studies.started("run", studies.write(tmp_path, data), "--results", results) as process:
        studies.wait_for(lambda: _status(results).get("metrics"), "the address of the metrics")
        url = str(_status(results)["metrics"])
        layout = RunLayout(studies.only_run(results))

        def ended() -> bool:
            over = any(event.get("kind") == "run_ended" for event in studies.journal(layout.root))
            if not over:
                urllib.request.urlopen(url, timeout=30).close()
            return over

        studies.wait_for(ended, "the end of the study")
        assert process.poll() is None
        assert json.loads(layout.live_targets.read_text())
        studies.interrupt(process)
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert json.loads(layout.live_targets.read_text()) == []
    assert layout.report.exists()
