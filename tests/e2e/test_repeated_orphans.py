"""The orphan tests, ten times each (`make test-faults`): races show only in numbers.

What leaves Ray standing happens on one Ray, a GPU for each kind of fault; guards are killed ten at
once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtimes.json_types import Json
from tests.e2e import trees
from tests.e2e.ray_head import ray_head
from tests.e2e.test_orphans import OWN, STARTING_S, check, joined

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.timeout(1200)]
TIMES = 10

FAULTS = {
    "worker": (trees.kill_worker, 0.1),
    "driver": (trees.kill_driver, 0.1),
    "interrupt": (trees.interrupt_driver, 0.1),
    "cancel": (trees.interrupt_driver, STARTING_S),
}


def test_workers_drivers_and_cancels(tmp_path: Path) -> None:
    with ray_head(gpus=len(FAULTS)) as head:
        cluster: dict[str, Json] = {**joined(head), "max_gpus": 1}

        def repeat(name: str) -> None:
            fault, startup_s = FAULTS[name]
            for round_ in range(TIMES):
                check(fault, cluster, tmp_path / f"{name}-{round_}", startup_s=startup_s)

        with ThreadPoolExecutor(len(FAULTS)) as pool:
            list(pool.map(repeat, FAULTS))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(trees.kill_engines_parents, id="engine-parents"),
        pytest.param(trees.kill_outer_guards, id="outer-guards"),
    ],
)
def test_guards_of_ten_trees(fault: trees.Fault, tmp_path: Path) -> None:
    check(fault, {**OWN, "simulated_gpus": TIMES}, tmp_path, count=TIMES)


def test_raylets(tmp_path: Path) -> None:
    for round_ in range(TIMES):
        check(trees.kill_raylet, OWN, tmp_path / str(round_))
