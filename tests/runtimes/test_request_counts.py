"""Counts that travel instead of requests: buckets, sums and limits are those of the records."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.latencies import good_requests
from runtimes.request_columns import RequestColumns
from runtimes.request_counts import COUNTED, Bucketed, RequestCounts, bucket_bounds
from runtimes.slo import LATENCY_METRICS, Slo, SloLimit
from tests.tracking.metric_samples import counts, request

BOUNDS = (1.0, 2.5, 10.0)


@given(st.lists(st.floats(0, 20) | st.sampled_from(BOUNDS)))
def test_a_bucket_holds_what_is_above_the_bound_before_it_and_not_above_its_own(
    values: list[float],
) -> None:
    found = Bucketed.of(np.sort(np.array(values)), BOUNDS)
    assert sum(found.counts) == len(values)
    assert found.total == pytest.approx(sum(values))
    for index, bound in enumerate(BOUNDS):
        assert sum(found.counts[: index + 1]) == sum(value <= bound for value in values)
    for largest, count in zip(found.largest, found.counts, strict=True):
        assert (largest is None) == (count == 0)
        assert largest is None or largest in values
    if values:
        assert max(value for value in found.largest if value is not None) == max(values)


def test_every_limit_is_a_bound() -> None:
    limits = [SloLimit(metric, "p99", 33.3) for metric in LATENCY_METRICS]
    bounds = bucket_bounds(Slo((*limits, SloLimit("ttft_ms", "mean", 17.0))))
    for metric in LATENCY_METRICS:
        assert 33.3 / 1e3 in bounds[metric]
    assert 17.0 / 1e3 in bounds["ttft_ms"]
    assert bounds.keys() == set(COUNTED)
    for values in bounds.values():
        assert list(values) == sorted(set(values))


def test_failed_requests_are_counted_and_show_no_latency() -> None:
    found = counts(request(0), request(1, error="timeout"), request(2, tokens=1))
    assert (found.completed, found.failed) == (2, 1)
    assert {name: sum(one.counts) for name, one in found.values.items()} == {
        "ttft_ms": 2,
        "tpot_ms": 1,
        "itl_ms": 2,
        "e2e_ms": 2,
        "input_tokens": 2,
        "output_tokens": 2,
    }
    assert found.values["ttft_ms"].total == pytest.approx(0.2)
    assert found.values["itl_ms"].total == pytest.approx(0.04)
    assert found.values["output_tokens"].total == 4


def test_requests_that_came_at_any_time_count() -> None:
    found = counts(*(request(index) for index in range(100)))
    assert sum(found.values["e2e_ms"].counts) == 100


def test_each_limit_is_the_strictest_of_its_latency_and_failures_meet_none() -> None:
    limits = (
        SloLimit("ttft_ms", "p50", 10.0),
        SloLimit("ttft_ms", "p99", 100.0),
        SloLimit("tpot_ms", "p99", 20.0),
        SloLimit("e2e_ms", "mean", 1.0),
    )
    found = counts(
        request(0),
        request(1, ttft_ms=101.0),
        request(2, tpot_ms=21.0),
        request(3, error="http 500"),
        slo=Slo(limits),
    )
    assert [(one.limit, one.evaluated, one.met) for one in found.limits] == [
        ("ttft p99 ≤ 100 ms", 4, 2),
        ("tpot p99 ≤ 20 ms", 4, 2),
    ]


@given(st.lists(st.tuples(st.floats(1, 200), st.floats(1, 40), st.integers(1, 4), st.booleans())))
def test_one_limit_alone_is_met_by_the_requests_that_goodput_counts(
    shapes: list[tuple[float, float, int, bool]],
) -> None:
    records = [
        request(index, ttft_ms=ttft, tpot_ms=tpot, tokens=tokens, error=None if ok else "timeout")
        for index, (ttft, tpot, tokens, ok) in enumerate(shapes)
    ]
    for metric in LATENCY_METRICS:
        slo = Slo((SloLimit(metric, "p90", 50.0),))
        (limit,) = RequestCounts.of(records, slo).limits
        good = good_requests(RequestColumns.of(records), slo.request_limits_ms())
        assert limit.met == good.sum()


def test_no_request_at_all_is_no_error() -> None:
    found = RequestCounts.of([], Slo((SloLimit("ttft_ms", "p99", 100.0),)))
    assert (found.completed, found.failed) == (0, 0)
    assert [limit.evaluated for limit in found.limits] == [0]


def test_they_stay_small_however_many_requests_there_are() -> None:
    few = pickle.dumps(counts(*(request(index) for index in range(20))))
    many = pickle.dumps(counts(*(request(index) for index in range(5000))))
    assert len(many) < len(few) + 1000
