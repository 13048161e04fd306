"""`cluster.yaml` is a launcher file that Ray itself accepts, with everything our commands need."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from runtimes.json_types import Json

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster.yaml"

# In a process of its own: importing Ray starts threads and warns.
_VALIDATE = """
import json, sys
from ray.autoscaler._private.util import prepare_config, validate_config
prepared = prepare_config(json.load(sys.stdin))
validate_config(prepared)
json.dump(prepared, sys.stdout)
"""


def prepared_by_ray(config: Mapping[str, Json]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _VALIDATE],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def config() -> dict[str, Json]:
    loaded: dict[str, Json] = yaml.safe_load(CLUSTER.read_text(encoding="utf-8"))
    return loaded


def test_ray_accepts_it(config: dict[str, Json]) -> None:
    done = prepared_by_ray(config)
    assert done.returncode == 0, done.stderr
    prepared = json.loads(done.stdout)
    assert prepared["provider"]["type"] == "local"
    assert prepared["max_workers"] == len(prepared["provider"]["worker_ips"])
    assert prepared["setup_commands"] == config["setup_commands"]


@pytest.mark.parametrize(
    ("key", "value"), [("worker_nodes", {"InstanceType": "x"}), ("setup_comands", ["true"])]
)
def test_ray_refuses_a_broken_one(config: dict[str, Json], key: str, value: Json) -> None:
    broken = {**copy.deepcopy(config), key: value}
    assert prepared_by_ray(broken).returncode != 0


def test_what_it_copies_is_there(config: dict[str, Json]) -> None:
    mounts = config["file_mounts"]
    assert isinstance(mounts, dict)
    for source in mounts.values():
        assert (ROOT / str(source) / "pyproject.toml").is_file()


def test_it_installs_servetune_with_ray_from_what_it_copies(config: dict[str, Json]) -> None:
    mounts, commands = config["file_mounts"], config["setup_commands"]
    assert isinstance(mounts, dict) and isinstance(commands, list)
    (remote,) = (target.removeprefix("~/") for target in mounts)
    assert str(commands[-1]).endswith(f'"$HOME/{remote}[ray]"')


def test_the_commands_in_its_head_name_files_that_are_there() -> None:
    head = CLUSTER.read_text(encoding="utf-8").partition("cluster_name")[0]
    assert "ray submit cluster.yaml examples/driver.py -- servetune/examples/llama-70b.yaml" in head
    assert (ROOT / "examples/driver.py").is_file()
    assert (ROOT / "examples/llama-70b.yaml").is_file()
