"""Arrival times: seeded, unclamped, and of the distribution they name."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad, Load, PoissonLoad
from runtimes.workloads.base import Prompt


def prompts(count: int) -> list[Prompt]:
    return [Prompt((1,), 1)] * count


def test_a_closed_loop_has_no_schedule() -> None:
    load = ConcurrencyLoad(8, 100)
    assert load.schedule_ns(7, prompts(1)) is None
    assert (load.kind, load.value, load.requests) == ("concurrency", 8, 100)


@given(rate=st.floats(0.01, 1e5), requests=st.integers(1, 300), seed=st.integers(0, 2**63))
def test_a_schedule_is_ascending_whole_and_a_function_of_its_arguments(
    rate: float, requests: int, seed: int
) -> None:
    load = PoissonLoad(rate, requests)
    schedule = load.schedule_ns(seed, prompts(requests))
    assert len(schedule) == requests
    assert all(type(offset) is int for offset in schedule)
    assert schedule[0] >= 0
    assert list(schedule) == sorted(schedule)
    assert schedule == PoissonLoad(rate, requests).schedule_ns(seed, prompts(requests))
    assert (load.kind, load.value) == ("poisson", rate)


def test_gaps_are_exponential_and_not_clamped() -> None:
    rate, count = 8.0, 200_000
    offsets = np.array(PoissonLoad(rate, count).schedule_ns(7, prompts(count)))
    gaps_s = np.diff(offsets, prepend=0) / 1e9
    # Three standard errors of an exponential's mean, its standard deviation and its tail shares.
    assert gaps_s.mean() == pytest.approx(1 / rate, rel=3 / math.sqrt(count))
    assert gaps_s.std() == pytest.approx(1 / rate, rel=3 * math.sqrt(2 / count))
    for multiple in (0.01, 0.1, 1.0, 3.0, 6.0):
        share = math.exp(-multiple)
        error = 3 * math.sqrt(share * (1 - share) / count)
        assert np.mean(gaps_s > multiple / rate) == pytest.approx(share, abs=error)
    assert gaps_s.max() > 9 / rate


def test_neighbouring_gaps_are_independent() -> None:
    gaps = np.diff(np.array(PoissonLoad(5.0, 100_000).schedule_ns(3, prompts(100_000))))
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 3 / math.sqrt(len(gaps))


def test_seeds_differ_and_a_longer_stage_begins_like_a_shorter_one() -> None:
    assert PoissonLoad(5.0, 10).schedule_ns(1, prompts(10)) != PoissonLoad(5.0, 10).schedule_ns(
        2, prompts(10)
    )
    assert PoissonLoad(5.0, 20).schedule_ns(1, prompts(20))[:10] == PoissonLoad(
        5.0, 10
    ).schedule_ns(1, prompts(10))


@pytest.mark.parametrize("load", [ConcurrencyLoad(8, 100), PoissonLoad(2.5, 10)])
def test_loads_are_plain_values(load: Load) -> None:
    copy = pickle.loads(pickle.dumps(load))
    assert copy == load
    assert hash(copy) == hash(load)


def test_wrong_values_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^value: .* got 0$"):
        ConcurrencyLoad(0, 1)
    with pytest.raises(ValueError, match=r"^requests: .* got 0$"):
        ConcurrencyLoad(1, 0)
    with pytest.raises(ValueError, match=r"^requests: .* got -1$"):
        PoissonLoad(1.0, -1)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^rate: "):
            PoissonLoad(rate, 1)


def test_making_loads_and_workloads_imports_no_numpy() -> None:
    code = (
        "import sys, runtimes, runtimes.load.arrivals as arrivals\n"
        "from runtimes.workloads.base import WORKLOADS, WorkloadContext\n"
        "arrivals.PoissonLoad(1.0, 5)\n"
        "settings = {'input_tokens': 5, 'output_tokens': 5}\n"
        "WORKLOADS.get('synthetic').from_settings(settings, WorkloadContext(1000, 1))\n"
        "sys.exit('numpy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
