"""What every objective keeps; a new file in search/objectives is tried from the start."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from runtimes.measurement import Distribution, Measurement
from search.objectives.base import OBJECTIVES, Objective

_LATENCY = Distribution(
    10,
    mean=10.0,
    p50=9.0,
    p90=12.0,
    p95=14.0,
    p99=18.0,
    max=20.0,
    p0_1=1.0,
    p1=1.5,
    p5=2.0,
    p10=3.0,
    p25=6.0,
    p75=11.0,
    p99_9=19.0,
)
_MEASURED = Measurement(
    requests_completed=10,
    requests_failed=0,
    duration_s=2.0,
    input_tokens=1000,
    output_tokens=500,
    requested_output_tokens=500,
    ttft_ms=_LATENCY,
    tpot_ms=_LATENCY,
    itl_ms=_LATENCY,
    e2e_ms=_LATENCY,
    request_throughput=5.0,
    input_throughput=500.0,
    output_throughput=250.0,
    total_throughput=750.0,
    goodput=4.0,
    ttft_scheduled_ms=_LATENCY,
    e2e_scheduled_ms=_LATENCY,
    slo_attainment=0.8,
    energy_j=1000.0,
)
_NOTHING = replace(
    _MEASURED,
    requests_completed=0,
    input_tokens=0,
    output_tokens=0,
    ttft_ms=None,
    tpot_ms=None,
    itl_ms=None,
    e2e_ms=None,
    request_throughput=0.0,
    input_throughput=0.0,
    output_throughput=0.0,
    total_throughput=0.0,
    goodput=0.0,
    ttft_scheduled_ms=None,
    e2e_scheduled_ms=None,
    slo_attainment=None,
)


@pytest.mark.parametrize("name", OBJECTIVES.names())
class TestObjectiveContract:
    @pytest.fixture
    def objective(self, name: str) -> Objective:
        return OBJECTIVES.get(name)

    def test_it_knows_its_name_unit_and_direction(self, objective: Objective, name: str) -> None:
        assert objective.name == name
        assert objective.unit
        assert objective.direction in ("maximize", "minimize")

    def test_a_measurement_has_a_finite_value(self, objective: Objective, name: str) -> None:
        value = objective.value(_MEASURED, gpus=2, gpu_price_per_hour=3.0)
        assert value is not None
        assert math.isfinite(value)
        assert value > 0

    def test_a_price_is_needed_exactly_when_it_says_so(
        self, objective: Objective, name: str
    ) -> None:
        assert (objective.value(_MEASURED, gpus=2) is None) is objective.requires_price

    def test_an_empty_measurement_gives_none_or_nothing_never_an_error(
        self, objective: Objective, name: str
    ) -> None:
        assert objective.value(_NOTHING, gpus=2, gpu_price_per_hour=3.0) in (None, 0.0)

    def test_a_name_per_gpu_is_its_base_over_the_gpus(
        self, objective: Objective, name: str
    ) -> None:
        base = OBJECTIVES.get(name.removesuffix("_per_gpu"))
        gpus = 4 if name.endswith("_per_gpu") else 1
        whole = base.value(_MEASURED, gpus=4, gpu_price_per_hour=3.0)
        share = objective.value(_MEASURED, gpus=4, gpu_price_per_hour=3.0)
        assert whole is not None
        assert share == pytest.approx(whole / gpus)
