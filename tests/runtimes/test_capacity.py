"""`max_under_slo` finds the capacity of the simulated engine, which is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from runtimes.load.arrivals import PoissonLoad
from runtimes.load.max_under_slo import MaxUnderSloProgram
from runtimes.load.program import StageOutcome
from runtimes.measurement import Measurement
from runtimes.simulator.resolve import Resolved
from runtimes.slo import Slo, SloLimit
from runtimes.statistics import summarise
from runtimes.workloads.base import Prompt
from tests.runtimes.virtual_engine import VirtualEngine, resolved

RESOLUTION = 0.05
TTFT = SloLimit("ttft_ms", "p99", 300.0)
MEAN_SLO = Slo((TTFT, SloLimit("tpot_ms", "mean", 15.0)))
P90_SLO = Slo((TTFT, SloLimit("tpot_ms", "p90", 20.0)))
CAPACITY = 64.65
"""Requests per second up to which either SLO holds in the long run, by `scan` in steps of 1 %."""


@pytest.fixture(scope="module")
def engine() -> Resolved:
    """Llama 3.1 8B on one H100, with a noise of 3 % in every step."""
    argv = ("--max-num-seqs", "256", "--max-model-len", "4096", "--no-enable-prefix-caching")
    return resolved(*argv, model="meta-llama/Llama-3.1-8B-Instruct", accelerator="H100")


def prompts(count: int) -> list[Prompt]:
    return [Prompt((1,) * 512, 32)] * count


def stage(engine: Resolved, rate: float, requests: int, slo: Slo, seed: int) -> Measurement:
    load = PoissonLoad(rate, requests)
    played = VirtualEngine(engine, seed=seed).run(load, prompts(requests), seed=seed)
    return summarise(played, slo, load)


def scan(engine: Resolved, slo: Slo, requests: int) -> Iterator[tuple[float, bool]]:
    """Whether the SLO holds at rates of every 1 % around the capacity."""
    for percent in range(-4, 5):
        rate = CAPACITY * (1 + percent / 100)
        yield rate, stage(engine, rate, requests, slo, seed=100 + percent).slo_met


def search(engine: Resolved, program: MaxUnderSloProgram, seed: int) -> list[StageOutcome]:
    """One trial: arrivals and noise are functions of the seed and the stage's number."""
    virtual = VirtualEngine(engine, seed=seed)
    done: list[StageOutcome] = []
    while (load := program.next_stage(done)) is not None:
        played = virtual.run(
            load, prompts(load.requests), seed=1000 * seed + len(done), slo=program.slo
        )
        done.append(StageOutcome(load, summarise(played, program.slo, load)))
    return done


def sweep_requests(program: MaxUnderSloProgram, done: list[StageOutcome]) -> int:
    """Requests of a linear sweep of the same resolution.

    It starts at the same rate and goes in steps of the resolution of the capacity, up to the first
    rate above it.
    """
    first = done[1].load.value
    return program.requests * (math.ceil((CAPACITY - first) / (RESOLUTION * CAPACITY)) + 1)


def assert_found(engine: Resolved, program: MaxUnderSloProgram, seed: int) -> float:
    """Check one search; its requests over those of a linear sweep."""
    done = search(engine, program, seed)
    decided = done[program.deciding(done)]
    assert decided.load.value == pytest.approx(CAPACITY, rel=0.05), seed
    assert decided.measurement.slo_met
    sent = sum(o.measurement.requests_completed for o in done)
    ratio = sent / sweep_requests(program, done)
    assert ratio < 1, seed
    return ratio


def test_the_capacity_is_the_known_one(engine: Resolved) -> None:
    for slo in (MEAN_SLO, P90_SLO):
        assert stage(engine, 0.96 * CAPACITY, 8000, slo, seed=1).slo_met
        assert not stage(engine, 1.04 * CAPACITY, 8000, slo, seed=1).slo_met


@pytest.mark.parametrize("seed", range(3))
def test_it_is_found(engine: Resolved, seed: int) -> None:
    assert_found(engine, MaxUnderSloProgram(MEAN_SLO, 1000, resolution=RESOLUTION), seed)


@pytest.mark.faults
def test_it_is_found_in_twenty_of_twenty_seeds(engine: Resolved) -> None:
    program = MaxUnderSloProgram(P90_SLO, 2000, resolution=RESOLUTION)
    ratios = [assert_found(engine, program, seed) for seed in range(20)]
    assert sum(ratios) / len(ratios) < 0.6


@pytest.mark.faults
@pytest.mark.parametrize("slo", [MEAN_SLO, P90_SLO], ids=["mean", "p90"])
def test_a_dense_scan_finds_the_known_capacity(engine: Resolved, slo: Slo) -> None:
    held = list(scan(engine, slo, 40_000))
    highest = max(rate for rate, met in held if met)
    lowest = min(rate for rate, met in held if not met)
    assert highest == pytest.approx(CAPACITY, rel=0.02)
    assert lowest == pytest.approx(CAPACITY, rel=0.02)
