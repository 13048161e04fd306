"""The figures each objective makes of a measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimes.errors import UnknownNameError
from runtimes.measurement import Distribution, Measurement
from search.objectives.base import OBJECTIVES
from tracking.parquet.columns import LATENCIES, STATISTICS

MEASURED = Measurement(
    requests_completed=100,
    requests_failed=0,
    duration_s=10.0,
    input_tokens=8000,
    output_tokens=2000,
    requested_output_tokens=2000,
    ttft_ms=Distribution(100, mean=1.0, p50=2.0, p90=3.0, p95=4.0, p99=5.0, max=6.0, p99_9=5.5),
    tpot_ms=Distribution(100, mean=11.0, p50=12.0, p90=13.0, p95=14.0, p99=15.0, max=16.0),
    itl_ms=Distribution(100, mean=21.0, p50=22.0, p90=23.0, p95=24.0, p99=25.0, max=26.0),
    e2e_ms=Distribution(100, mean=31.0, p50=32.0, p90=33.0, p95=34.0, p99=35.0, max=36.0),
    request_throughput=10.0,
    input_throughput=800.0,
    output_throughput=200.0,
    total_throughput=1000.0,
    goodput=8.0,
    ttft_scheduled_ms=Distribution(100, mean=1.5, p50=2.5, p90=3.5, p95=4.5, p99=5.5, max=6.5),
    slo_attainment=0.8,
    energy_j=5000.0,
)


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("request_throughput", 10.0, "requests/s"),
        ("request_throughput_per_gpu", 2.5, "requests/s/GPU"),
        ("input_throughput", 800.0, "tokens/s"),
        ("input_throughput_per_gpu", 200.0, "tokens/s/GPU"),
        ("output_throughput", 200.0, "tokens/s"),
        ("output_throughput_per_gpu", 50.0, "tokens/s/GPU"),
        ("total_throughput", 1000.0, "tokens/s"),
        ("total_throughput_per_gpu", 250.0, "tokens/s/GPU"),
        ("goodput", 8.0, "requests/s"),
        ("goodput_per_gpu", 2.0, "requests/s/GPU"),
    ],
)
def test_rates_are_of_the_deployment_or_of_a_gpu(name: str, value: float, unit: str) -> None:
    objective = OBJECTIVES.get(name)
    assert objective.value(MEASURED, gpus=4) == value
    assert (objective.name, objective.unit, objective.direction) == (name, unit, "maximize")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ttft_mean_ms", 1.0),
        ("ttft_p50_ms", 2.0),
        ("ttft_p99_ms", 5.0),
        ("ttft_p99_9_ms", 5.5),
        ("ttft_scheduled_mean_ms", 1.5),
        ("ttft_scheduled_p99_ms", 5.5),
        ("tpot_mean_ms", 11.0),
        ("tpot_p90_ms", 13.0),
        ("itl_p95_ms", 24.0),
        ("itl_p99_ms", 25.0),
        ("e2e_p50_ms", 32.0),
        ("e2e_p99_ms", 35.0),
    ],
)
def test_latencies_are_statistics_in_ms(name: str, value: float) -> None:
    objective = OBJECTIVES.get(name)
    assert objective.value(MEASURED, gpus=4) == value
    assert (objective.unit, objective.direction) == ("ms", "minimize")


def test_a_latency_nobody_had_has_no_value() -> None:
    silent = replace(MEASURED, tpot_ms=None)
    assert OBJECTIVES.get("tpot_p99_ms").value(silent, gpus=1) is None
    assert OBJECTIVES.get("ttft_p99_ms").value(silent, gpus=1) == 5.0


def test_cost_is_the_price_of_a_million_tokens() -> None:
    cost = OBJECTIVES.get("cost_per_million_tokens")
    assert cost.requires_price
    # 4 GPUs at 3.6 an hour are 0.004 a second; a million tokens take 1000 s.
    assert cost.value(MEASURED, gpus=4, gpu_price_per_hour=3.6) == pytest.approx(4.0)
    assert cost.value(MEASURED, gpus=4) is None
    assert cost.value(replace(MEASURED, total_throughput=0.0), gpus=4, gpu_price_per_hour=1) is None


def test_rates_of_tokens_that_nobody_counted_have_no_value() -> None:
    unknown = replace(
        MEASURED,
        output_tokens=None,
        output_throughput=None,
        total_throughput=None,
    )
    names = ("output_throughput", "output_throughput_per_gpu", "total_throughput")
    for name in (*names, "energy_per_token_j", "cost_per_million_tokens"):
        found = OBJECTIVES.get(name).value(unknown, gpus=4, gpu_price_per_hour=3.6)
        assert found is None
    assert OBJECTIVES.get("input_throughput").value(unknown, gpus=4) == 800.0


def test_only_cost_needs_a_price() -> None:
    needing = [name for name, entry in OBJECTIVES.entries().items() if entry.requires_price]
    assert needing == ["cost_per_million_tokens"]


def test_every_latency_has_every_statistic_that_is_recorded() -> None:
    expected = {
        f"{latency}_{statistic}_ms"
        for latency in LATENCIES
        for statistic in STATISTICS
        if statistic not in ("min", "max")
    }
    assert expected <= set(OBJECTIVES.names())
    assert len(expected) == 6 * 12


def test_energy_is_per_output_token_and_only_where_it_was_counted() -> None:
    energy = OBJECTIVES.get("energy_per_token_j")
    assert energy.value(MEASURED, gpus=4) == 2.5
    assert (energy.unit, energy.direction) == ("J/token", "minimize")
    assert energy.value(replace(MEASURED, energy_j=None), gpus=4) is None
    assert energy.value(replace(MEASURED, output_tokens=0), gpus=4) is None


def test_attainment_is_a_share_and_more_is_better() -> None:
    attainment = OBJECTIVES.get("slo_attainment")
    assert attainment.value(MEASURED, gpus=4) == 0.8
    assert (attainment.unit, attainment.direction) == ("ratio", "maximize")
    assert attainment.value(replace(MEASURED, slo_attainment=None), gpus=4) is None


def test_an_unknown_objective_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'goodput_per_gpu'"):
        OBJECTIVES.get("goodput_per_gpus")
