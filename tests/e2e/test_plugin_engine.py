"""An engine from a separate distribution, found by its entry point, runs a whole study."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e import studies
from tracking.open import open_run

PLUGIN = Path(__file__).with_name("plugin")


INSTALLED = os.pathsep.join([str(studies.ROOT), str(PLUGIN)])
"""PYTHONPATH with which Python finds the distribution, as after `pip install`."""


def file(folder: Path, **cluster: object) -> Path:
    return studies.write(
        folder,
        studies.experiment(
            model="acme/toy",
            engines={"toyserve": {"search": {"depth": [1, 2]}}},
            parallel={"tp": [1, 2, 4]},
            cluster={"simulated_gpus": 4, "accelerator": "cpu", **cluster},
        ),
    )


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param({"kind": "local"}, id="local"),
        pytest.param({"kind": "ray", "address": "local"}, id="ray", marks=pytest.mark.ray),
    ],
)
def test_it_runs_a_study(tmp_path: Path, cluster: dict[str, object]) -> None:
    path, results = file(tmp_path, **cluster), tmp_path / "runs"
    done = studies.servetune("run", path, "--results", results, "--json", PYTHONPATH=INSTALLED)
    assert done.returncode == 0, done.stderr
    trials = open_run(studies.only_run(results)).pandas.trials()
    assert list(trials["state"]) == ["completed"] * 4
    assert set(trials["engine"]) == {"toyserve"}
    assert set(trials["engine_version"]) == {"1.0"}
    assert sorted(zip(trials["gpus"], trials["param_depth"], strict=True)) == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
    assert (trials["output_throughput"] > 0).all()


def test_its_rules_are_counted_by_plan(tmp_path: Path) -> None:
    done = studies.servetune("plan", file(tmp_path, kind="local"), "--json", PYTHONPATH=INSTALLED)
    plan = json.loads(done.stdout)
    assert plan["valid"] == 4
    assert [row["count"] for row in plan["excluded"]] == [2]
    assert "cannot count to tp=4" in plan["excluded"][0]["reason"]


def test_without_the_distribution_the_engine_is_unknown(tmp_path: Path) -> None:
    done = studies.servetune("plan", file(tmp_path, kind="local"))
    assert done.returncode == 2
    assert "toyserve" in done.stderr
    assert "Traceback" not in done.stderr
