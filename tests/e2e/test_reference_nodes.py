"""One configuration measured on every node shows the node that is not well: two real raylets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.load_run import load_run
from runtimes.simulator.faults import FAULT_VARIABLE, SLOWER, Fault
from tests.e2e import studies
from tests.e2e.ray_head import RAY, Head, ray_head
from tests.runtimes.free_ports import free_ports
from tracking.layout import RunLayout
from tracking.nodes import node_caveats, node_checks

pytestmark = pytest.mark.ray
SLOW = "servetune-slow-node"


@contextmanager
def slow_node(head: Head, folder: Path) -> Iterator[None]:
    """A second raylet of the head's Ray with a host name of its own, and slow engines."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed; it gives a second node a name of its own")
    as_root = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    named = [unshare, *as_root, "--uts", "sh", "-c", f'hostname {SLOW} && exec "$@"', "sh"]
    if subprocess.run([*named, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a namespace for another host name")
    agent, agent_grpc = free_ports(2)
    argv = [
        *(*named, str(RAY), "start", f"--address={head.address}", "--block"),
        *("--num-cpus=4", "--num-gpus=2", "--node-ip-address=127.0.0.1"),
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
    ]
    env = {**head.env, FAULT_VARIABLE: Fault.SLOW.value}
    with (folder / "node.log").open("w") as log:
        process = subprocess.Popen(
            argv, env=env, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def test_a_node_that_is_slow_is_told_by_the_reference(tmp_path: Path) -> None:
    results = tmp_path / "runs"
    with ray_head(gpus=2) as head, slow_node(head, tmp_path):
        path = studies.write(
            tmp_path,
            studies.experiment(
                workload={
                    "input_tokens": 64,
                    "output_tokens": 32,
                    "load": {"kind": "concurrency", "value": 4, "requests": 240},
                },
                search={"sampler": "grid", "baseline": True, "reference_per_node": True},
                budget={"trials": 4},
                objectives=[{"minimize": "tpot_mean_ms"}],
                cluster={
                    "kind": "ray",
                    "address": head.address,
                    "simulated_gpus": 2,
                    "accelerator": "H100",
                },
            ),
        )
        studies.wait_for(lambda: _nodes(head) == 2, "the second node")
        done = subprocess.run(
            studies.command("run", path, "--results", results),
            env=dict(head.env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    data = load_run(RunLayout(studies.only_run(results)))
    references = [trial for trial in data.trials if trial.reference]
    assert [trial.number for trial in references] == [1, 2]
    assert {trial.node for trial in references} > {SLOW}
    assert {trial.config_id for trial in references} == {data.trials[0].config_id}
    assert data.best() not in references
    tpot_ms = {trial.node: trial.objectives["tpot_mean_ms"] for trial in references}
    (usual_ms,) = (value for node, value in tpot_ms.items() if node != SLOW)
    assert tpot_ms[SLOW] / usual_ms == pytest.approx(SLOWER, abs=0.2)
    if any(trial.doubts for trial in references):
        return  # on a machine this busy nothing is told by what was measured, as it should be
    checks = {check.node: check for check in node_checks(data)}
    assert checks[SLOW].difference.relative == pytest.approx(SLOWER - 1, abs=0.2)
    assert [check.off for check in checks.values()] == [True, True]
    assert any(SLOW in caveat for caveat in node_caveats(data))
    assert f"Node {SLOW} is off" in done.stdout


def _nodes(head: Head) -> int:
    listed = subprocess.run(
        [str(RAY), "status", f"--address={head.address}"],
        env=dict(head.env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return listed.stdout.count("node_")
