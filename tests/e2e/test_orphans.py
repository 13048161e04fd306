"""Whatever is killed on a real Ray, nothing of an engine's process tree is left within 10 s."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.json_types import Json
from tests.e2e import studies, trees
from tests.e2e.ray_head import Head, ray_head

pytestmark = pytest.mark.ray

OWN: dict[str, Json] = {
    "kind": "ray", "address": "local", "simulated_gpus": 1, "accelerator": "H100",
}  # fmt: skip
ENV = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
STARTING_S = 600.0


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A Ray that outlives the drivers which lease its GPUs one after the other."""
    with ray_head(gpus=1) as started:
        yield started


def joined(head: Head) -> dict[str, Json]:
    return {**OWN, "address": head.address}


@pytest.mark.parametrize(
    ("fault", "startup_s"),
    [
        pytest.param(trees.kill_engines_parents, 0.1, id="engine-parent-killed"),
        pytest.param(trees.kill_outer_guards, 0.1, id="outer-guard-killed"),
        pytest.param(trees.kill_worker, 0.1, id="worker-killed"),
        pytest.param(trees.kill_driver, 0.1, id="driver-killed"),
        pytest.param(trees.interrupt_driver, 0.1, id="interrupted"),
        pytest.param(trees.interrupt_driver, STARTING_S, id="cancelled-while-starting"),
        pytest.param(trees.kill_driver, STARTING_S, id="driver-killed-while-starting"),
    ],
)
def test_nothing_is_left(head: Head, fault: trees.Fault, startup_s: float, tmp_path: Path) -> None:
    check(fault, joined(head), tmp_path, startup_s=startup_s)


def test_nothing_is_left_when_the_raylet_is_killed(tmp_path: Path) -> None:
    check(trees.kill_raylet, OWN, tmp_path)


def check(
    fault: trees.Fault,
    cluster: dict[str, Json],
    folder: Path,
    *,
    count: int = 1,
    startup_s: float = 0.1,
) -> None:
    """Start a study with `count` trees, let `fault` happen, and see that they are gone."""
    with trees.grove(folder, cluster, trees=count, startup_s=startup_s, **ENV) as grove:
        there = grove.processes()
        assert sum(process.alive() for process in there) >= 10 * count
        fault(grove)
        studies.gone(there)
        # Where the driver lives it may have begun another attempt; that ends with it.
        trees.end(grove)
        assert not any(process.alive() for process in grove.processes())
