"""The stored fit: whose it is, what it was made of, and that its figures are sane."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from runtimes.hardware import ACCELERATORS
from search.perfmodel.fit import Spreads, generic_overheads, overhead_keys, stored_fit
from search.perfmodel.overheads import NAMES, EngineOverheads, Scales
from tests.search.perfmodel.deployments import ENGINES, EXPERTS, LLAMA, deployment

FIT = stored_fit()


def test_carries_the_hash_and_number_of_its_rows() -> None:
    assert re.fullmatch("[0-9a-f]{64}", FIT.data_sha256)
    assert FIT.rows > 1000


def test_has_every_engine_and_spreads_for_all_that_it_has() -> None:
    assert set(ENGINES) <= set(FIT.engines)
    assert set(FIT.engines) == set(FIT.spreads)
    assert generic_overheads() == FIT.engines["vllm"]


@pytest.mark.parametrize("key", FIT.engines)
def test_figures_are_positive_and_factors_near_one(key: str) -> None:
    overheads = FIT.engines[key]
    assert all(getattr(overheads, name) >= 0 for name in NAMES)
    for name in ("gemm", "attention", "reading", "experts", "expert_reading", "communication"):
        assert 0.4 < getattr(overheads, name) < 2.5, name
    assert overheads.imbalance >= 1
    assert 0.5 < overheads.routing <= 1.05
    assert overheads.layer_s < 1e-3
    assert overheads.step_s < 0.1


@pytest.mark.parametrize("key", FIT.spreads)
def test_intervals_have_a_low_and_a_high_end(key: str) -> None:
    spreads = FIT.spreads[key]
    for low, high in (spreads.ttft, spreads.tpot, spreads.throughput):
        assert 0 < low < high
        assert low < 1.2
        assert high > 0.8


def test_each_thing_extrapolated_widens_both_ends() -> None:
    spreads = Spreads((0.5, 2.0), (0.8, 1.25), (0.9, 1.1))
    assert spreads.wider(0) == spreads
    once, twice = spreads.wider(1), spreads.wider(2)
    for before, after in ((spreads, once), (once, twice)):
        for old, new in zip(
            (before.ttft, before.tpot, before.throughput),
            (after.ttft, after.tpot, after.throughput),
            strict=True,
        ):
            assert new[0] < old[0]
            assert new[1] > old[1]


def test_the_narrowest_key_that_is_known_counts() -> None:
    dense, experts = deployment(LLAMA), deployment(EXPERTS)
    assert overhead_keys(dense)[-1] == overhead_keys(experts)[-1] == "vllm"
    assert overhead_keys(experts)[0] == "vllm/moe"
    amd = deployment(accelerator="MI300X")
    assert overhead_keys(amd)[0] == f"vllm/{ACCELERATORS['MI300X'].vendor}"
    assert FIT.overheads(experts) == FIT.engines["vllm/moe"]
    assert FIT.overheads(deployment(engine="toy")) == FIT.engines["vllm"]


def test_scales_are_the_overheads_side_by_side() -> None:
    found = Scales.of([EngineOverheads(), EngineOverheads(gemm=2.0, step_s=0.5)])
    assert found.gemm.tolist() == [1.0, 2.0]
    assert found.step_s.tolist() == [EngineOverheads().step_s, 0.5]
    assert all(getattr(found, name).shape == (2,) for name in NAMES)
    keys = set(chain.from_iterable(overhead_keys(deployment(engine=name)) for name in ENGINES))
    assert keys <= set(FIT.engines)
