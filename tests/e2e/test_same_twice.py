"""Configurations compared over HTTP, as a study does it: one with itself, one with a slower one."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.job import LoadJob
from runtimes.load.workers import LoadWorkers, Server
from runtimes.slo import Slo
from runtimes.statistics import summarise
from runtimes.workloads.base import WORKLOADS, WorkloadContext
from search.analysis.differences import Sample, Verdict, compare, sample
from search.objectives.base import OBJECTIVES
from tests.runtimes.test_simulator_process import simulator

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PAIRS = 30
LOAD = ConcurrencyLoad(32, 160)
FIGURES = ("output_throughput", "e2e_mean_ms")
SEQS = (32, 24)
"""Sequences at once: with 24 for 32 streams the engine's throughput is about 10 % less."""


async def stages(port: int, count: int) -> list[dict[str, Sample]]:
    """The same load again and again on one running engine; a short one first warms it up."""
    context = WorkloadContext(vocab=128_256, seed=7)
    lengths = {"input_tokens": 128, "output_tokens": 32}
    workload = WORKLOADS.get("synthetic").from_settings(lengths, context)
    found = []
    async with LoadWorkers([Server("127.0.0.1", port)], processes=1) as workers:
        for number in range(-1, count):
            prompts = workload.prompts(str(number), LOAD.requests)
            job = LoadJob(prompts, LOAD, MODEL, {}, number + 1, 60.0, 60.0, stagger_s=0.3)
            measurement = summarise(await workers.run(job), Slo(), LOAD)
            assert measurement.requests_completed == LOAD.requests
            samples = {
                name: sample(OBJECTIVES.get(name), measurement, closed_loop=True)
                for name in FIGURES
            }
            found.append({name: value for name, value in samples.items() if value is not None})
    return found[1:]


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_ten_per_cent_are_found_and_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = []
        for seqs in SEQS:
            folder = tmp_path / str(seqs)
            folder.mkdir()
            argv = ("--max-num-seqs", str(seqs), "--max-model-len", "4096")
            own = ("--jitter", "0.03")
            servers.append(stack.enter_context(simulator(folder, *argv, own=own, model=MODEL)))
        same = asyncio.run(stages(servers[0].port, 2 * PAIRS))
        slower = asyncio.run(stages(servers[1].port, PAIRS))
    for name in FIGURES:
        direction = OBJECTIVES.get(name).direction
        equal = Counter(
            compare([same[2 * pair][name]], [same[2 * pair + 1][name]], direction).verdict
            for pair in range(PAIRS)
        )
        different = Counter(
            compare([slower[pair][name]], [same[2 * pair][name]], direction).verdict
            for pair in range(PAIRS)
        )
        assert equal[Verdict.BETTER] <= 0.05 * PAIRS, (name, equal)
        assert different[Verdict.BETTER] >= 0.9 * PAIRS, (name, different)
