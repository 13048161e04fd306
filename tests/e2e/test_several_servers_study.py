"""A study whose deployments are several servers, through the whole product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e import studies
from tracking.layout import RunLayout
from tracking.open import open_run

ENGINE = Path(__file__).with_name("pair_engine.py")


def test_replicas_without_a_flag_are_servers_behind_one_client(tmp_path: Path) -> None:
    path = studies.write(
        tmp_path,
        studies.experiment(
            engines={"pair": {"startup_s": 0.1}},
            parallel={"tp": [1, 2], "dp": [1, 3]},
            constraints=["tp * dp <= 4"],
            cluster={"kind": "in_process", "simulated_gpus": 4, "accelerator": "H100"},
        ),
    )
    results = tmp_path / "runs"
    done = subprocess.run(
        [sys.executable, str(ENGINE), str(path), str(results)],
        env=studies.environment(SERVETUNE_CACHE=str(tmp_path / "cache")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = studies.only_run(results)
    run = open_run(folder).pandas
    trials = studies.rows(run.trials())
    assert {(row["param_tp"], row["param_dp"]): row["gpus"] for row in trials} == {
        (1, 1): 1,
        (2, 1): 2,
        (1, 3): 3,
    }
    assert {row["state"] for row in trials} == {"completed"}
    stages = {row["number"]: row for row in studies.rows(run.stages())}
    for row in trials:
        servers = row["param_dp"]
        assert len(row["process_ids"]) == 3 * servers
        config = row["engine_config"]
        config = json.loads(config) if isinstance(config, str) else dict(config)
        assert config.get("servetune.servers", "1") == str(servers)
        stage = stages[row["number"]]
        grown = stage["counters_after"]["generation_tokens_total"]
        grown -= stage["counters_before"]["generation_tokens_total"]
        assert grown == stage["output_tokens"] == row["output_tokens"]
        log = RunLayout(folder).log_file(row["number"], row["attempt"]).read_text()
        assert log.count("==> server") == (servers if servers > 1 else 0)
