"""`servetune plan` of layouts that are larger than a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.orchestrator.commands import servetune

EXPERIMENT = {
    "name": "nodes",
    "model": "meta-llama/Llama-3.1-405B",
    "engines": {"vllm": {}, "sglang": {}, "tensorrt_llm": {}},
    "parallel": {"tp": 8, "pp": [1, 2]},
    "cluster": {"kind": "ray", "accelerator": "H200", "gpus_per_node": 8},
}


def write(folder: Path) -> Path:
    path = folder / "nodes.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    return path


def plan(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        servetune("plan", write(folder), "--json", cwd=folder).stdout
    )
    return document


def test_each_node_has_its_command(tmp_path: Path) -> None:
    large = {
        trial["engine"]: trial["processes"]
        for trial in plan(tmp_path)["trials"]
        if trial["gpus"] == 16
    }
    assert large.keys() == {"vllm", "sglang"}
    for processes in large.values():
        assert [process["node"] for process in processes] == [0, 1]
        assert [process["gpus"] for process in processes] == [8, 8]
        for rank, process in enumerate(processes):
            command = process["command"]
            assert command[command.index("--nnodes") + 1] == "2"
            assert command[command.index("--node-rank") + 1] == str(rank)
    assert "--headless" not in large["vllm"][0]["command"]
    assert "--headless" in large["vllm"][1]["command"]


def test_what_fits_a_node_is_one_process(tmp_path: Path) -> None:
    small = [trial for trial in plan(tmp_path)["trials"] if trial["gpus"] == 8]
    assert {trial["engine"] for trial in small} == {"vllm", "sglang", "tensorrt_llm"}
    assert all(len(trial["processes"]) == 1 for trial in small)


def test_an_engine_that_cannot_says_why(tmp_path: Path) -> None:
    (row,) = [row for row in plan(tmp_path)["rules"] if row["engine"] == "tensorrt_llm"]
    assert row["count"] == 1
    assert "2 nodes" in row["reason"]


def test_the_screen_says_that_they_are_not_launched(tmp_path: Path) -> None:
    shown = servetune("plan", write(tmp_path), cwd=tmp_path, COLUMNS="200").stdout
    assert "node 1" in shown
    assert "launches none of them" in shown
