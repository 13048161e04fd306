"""`max_under_slo` finds the capacity of the simulated engine, which is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtimes.load.arrivals import PoissonLoad
from runtimes.load.capacity import requests_of_stage
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
P99_SLO = Slo((SloLimit("ttft_ms", "p99", 150.0), SloLimit("tpot_ms", "p99", 30.0)))
CAPACITY = 64.65
"""Requests per second up to which the first two hold in the long run, by `scan` in steps of 1 %."""
P99_CAPACITY = 66.6
"""The third one's, by a line through ln(p99) of 400,000 requests each at 60, 62, … 70/s."""


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


def sweep_requests(program: MaxUnderSloProgram, first: float, capacity: float) -> int:
    """Requests of a linear sweep of the same resolution.

    It starts at the same rate and goes in steps of the resolution of the capacity, up to the first
    rate above it, in stages as long as the longest of the search.
    """
    return program.requests * (math.ceil((capacity - first) / (RESOLUTION * capacity)) + 1)


@dataclass(frozen=True)
class Found:
    """What one search came to: its requests over a sweep's, and whether its interval is right."""

    ratio: float
    covered: bool


def found(
    engine: Resolved, program: MaxUnderSloProgram, seed: int, capacity: float = CAPACITY
) -> Found:
    done = search(engine, program, seed)
    decided = done[program.deciding(done)]
    assert decided.load.value == pytest.approx(capacity, rel=0.05), seed
    assert decided.measurement.slo_met
    sent = sum(o.measurement.requests_completed for o in done)
    ratio = sent / sweep_requests(program, done[1].load.value, capacity)
    assert ratio < 1, seed
    bounds = program.bracket(done)
    assert bounds.low is not None and bounds.high is not None
    return Found(ratio, bounds.low <= capacity <= bounds.high)


def by_default(slo: Slo) -> MaxUnderSloProgram:
    """As long as an experiment file gets its stages without a word of `requests`."""
    requests = max(map(requests_of_stage, slo.limits))
    return MaxUnderSloProgram(slo, requests, resolution=RESOLUTION)


def test_the_capacity_is_the_known_one(engine: Resolved) -> None:
    for slo in (MEAN_SLO, P90_SLO):
        assert stage(engine, 0.96 * CAPACITY, 8000, slo, seed=1).slo_met
        assert not stage(engine, 1.04 * CAPACITY, 8000, slo, seed=1).slo_met


@pytest.mark.parametrize("seed", range(3))
def test_it_is_found(engine: Resolved, seed: int) -> None:
    found(engine, MaxUnderSloProgram(MEAN_SLO, 1000, resolution=RESOLUTION), seed)


def test_a_p99_takes_longer_stages_and_is_found(engine: Resolved) -> None:
    program = by_default(P99_SLO)
    assert program.requests == 4000
    found(engine, program, 0, P99_CAPACITY)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("program", "capacity", "most_ratio"),
    [
        (MaxUnderSloProgram(MEAN_SLO, 1000, resolution=RESOLUTION), CAPACITY, 0.7),
        (MaxUnderSloProgram(P90_SLO, 2000, resolution=RESOLUTION), CAPACITY, 0.6),
        (by_default(P99_SLO), P99_CAPACITY, 0.7),
    ],
    ids=["mean", "p90", "p99"],
)
def test_it_is_found_in_twenty_of_twenty_seeds(
    engine: Resolved, program: MaxUnderSloProgram, capacity: float, most_ratio: float
) -> None:
    searches = [found(engine, program, seed, capacity) for seed in range(20)]
    assert sum(one.ratio for one in searches) / len(searches) < most_ratio
    assert sum(one.covered for one in searches) >= 0.85 * len(searches)


@pytest.mark.faults
@pytest.mark.parametrize("slo", [MEAN_SLO, P90_SLO], ids=["mean", "p90"])
def test_a_dense_scan_finds_the_known_capacity(engine: Resolved, slo: Slo) -> None:
    held = list(scan(engine, slo, 40_000))
    highest = max(rate for rate, met in held if met)
    lowest = min(rate for rate, met in held if not met)
    assert highest == pytest.approx(CAPACITY, rel=0.02)
    assert lowest == pytest.approx(CAPACITY, rel=0.02)
