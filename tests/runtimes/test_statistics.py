"""Figures of a stage: definitions on records made by hand, percentiles against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.result import LoadResult
from runtimes.measurement import Distribution, Measurement, RequestRecord
from runtimes.slo import LATENCY_METRICS, Slo, SloLimit
from runtimes.statistics import summarise

MS = 1_000_000


def record(
    index: int,
    *,
    sent_ms: float = 0.0,
    chunks_ms: tuple[float, ...] = (),
    end_ms: float = 0.0,
    scheduled_ms: float | None = None,
    prompt: int | None = 10,
    output: int | None = 3,
    requested: int = 3,
    error: str | None = None,
) -> RequestRecord:
    return RequestRecord(
        index=index,
        scheduled_ns=int((sent_ms if scheduled_ms is None else scheduled_ms) * MS),
        sent_ns=int(sent_ms * MS),
        chunk_ns=tuple(int(at * MS) for at in chunks_ms),
        end_ns=int(end_ms * MS),
        prompt_tokens=prompt,
        output_tokens=output,
        requested_output_tokens=requested,
        error=error,
    )


def measure(*records: RequestRecord, slo: Slo | None = None) -> Measurement:
    return summarise(LoadResult(records, 0, 0, 0.0), slo or Slo())


FAST = record(0, sent_ms=1000, chunks_ms=(1100, 1110, 1130), end_ms=1131)
SLOW = record(1, sent_ms=2000, chunks_ms=(2300, 2350, 2400), end_ms=3000)
FAILED = record(2, sent_ms=2500, chunks_ms=(2600, 2900), end_ms=3500, error="cut stream")


def test_every_latency_follows_its_definition() -> None:
    found = measure(FAST, SLOW)
    assert found.ttft_ms is not None
    assert found.tpot_ms is not None
    assert found.itl_ms is not None
    assert found.e2e_ms is not None
    assert (found.ttft_ms.count, found.ttft_ms.mean, found.ttft_ms.max) == (2, 200.0, 300.0)
    assert (found.tpot_ms.count, found.tpot_ms.mean, found.tpot_ms.max) == (2, 32.5, 50.0)
    # Gaps 10, 20, 50, 50 pooled over both requests.
    assert found.itl_ms == Distribution(4, 32.5, 35.0, 50.0, 50.0, 50.0, 50.0)
    assert (found.e2e_ms.p50, found.e2e_ms.max) == (565.5, 1000.0)


def test_failed_requests_count_in_duration_and_errors_only() -> None:
    found = measure(FAST, SLOW, FAILED)
    assert (found.requests_completed, found.requests_failed) == (2, 1)
    assert found.duration_s == 2.5
    assert (found.input_tokens, found.output_tokens, found.requested_output_tokens) == (20, 6, 6)
    assert found.request_throughput == pytest.approx(2 / 2.5)
    assert found.input_throughput == pytest.approx(20 / 2.5)
    assert found.output_throughput == pytest.approx(6 / 2.5)
    assert found.total_throughput == pytest.approx(26 / 2.5)
    assert found.itl_ms is not None
    assert found.itl_ms.max == 50.0
    assert found.flags == ("request_errors",)


def test_duration_starts_with_the_schedule() -> None:
    late = record(0, scheduled_ms=500, sent_ms=900, chunks_ms=(950,), end_ms=1000, output=3)
    assert measure(late).duration_s == 0.5


def test_tokens_are_of_usage_not_of_chunks() -> None:
    """Nine tokens in three chunks: TPOT divides by eight, ITL has two gaps."""
    found = measure(replace(FAST, output_tokens=9, requested_output_tokens=9))
    assert found.tpot_ms is not None
    assert found.itl_ms is not None
    assert found.tpot_ms.mean == pytest.approx(30 / 8)
    assert found.itl_ms.count == 2
    assert found.output_tokens == 9


def test_single_tokens_have_neither_tpot_nor_itl() -> None:
    found = measure(record(0, chunks_ms=(5,), end_ms=6, output=1, requested=1))
    assert found.ttft_ms is not None
    assert (found.tpot_ms, found.itl_ms) == (None, None)


@pytest.mark.parametrize("records", [(), (FAILED,)], ids=["none", "none completed"])
def test_nothing_completed_gives_no_distributions_and_zeros(
    records: tuple[RequestRecord, ...],
) -> None:
    limits = tuple(SloLimit(metric, "p99", 1.0) for metric in LATENCY_METRICS)
    found = measure(*records, slo=Slo(limits))
    assert (found.ttft_ms, found.tpot_ms, found.itl_ms, found.e2e_ms) == (None,) * 4
    assert (found.request_throughput, found.total_throughput, found.goodput) == (0.0, 0.0, 0.0)
    assert [verdict.value_ms for verdict in found.slo] == [None] * 4
    assert not found.slo_met
    assert found.flags == (("request_errors",) if records else ())


VALUES_MS = st.lists(st.integers(0, 10**7).map(lambda value: value / 1000), min_size=1, max_size=60)


@given(ttfts=VALUES_MS, percentile=st.floats(0.1, 99.9).map(lambda value: round(value, 1)))
def test_percentiles_are_numpys(ttfts: list[float], percentile: float) -> None:
    records = [
        record(index, chunks_ms=(ttft,), end_ms=ttft, output=1, requested=1)
        for index, ttft in enumerate(ttfts)
    ]
    slo = Slo((SloLimit("ttft_ms", f"p{percentile}", 1.0), SloLimit("e2e_ms", "mean", 1.0)))
    found = measure(*records, slo=slo)
    assert found.ttft_ms is not None
    expected = {name: np.percentile(ttfts, int(name[1:])) for name in ("p50", "p90", "p95", "p99")}
    for name, value in expected.items():
        assert getattr(found.ttft_ms, name) == pytest.approx(value, abs=1e-5)
    assert found.ttft_ms.mean == pytest.approx(np.mean(ttfts), abs=1e-5)
    assert found.ttft_ms.max == pytest.approx(max(ttfts), abs=1e-5)
    assert found.slo[0].value_ms == pytest.approx(np.percentile(ttfts, percentile), abs=1e-5)
    assert found.slo[1].value_ms == pytest.approx(np.mean(ttfts), abs=1e-5)


def test_a_verdict_for_every_limit_in_order() -> None:
    limits = (
        SloLimit("ttft_ms", "p100", 300.0),
        SloLimit("ttft_ms", "p50", 150.0),
        SloLimit("itl_ms", "mean", 33.0),
        SloLimit("tpot_ms", "p99", 49.0),
        SloLimit("e2e_ms", "p0", 131.0),
    )
    found = measure(FAST, SLOW, slo=Slo(limits))
    assert tuple(verdict.limit for verdict in found.slo) == limits
    assert [verdict.met for verdict in found.slo] == [True, False, True, False, True]
    assert found.slo[3].value_ms == pytest.approx(15 + 0.99 * 35)


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ((), 2),
        ((SloLimit("ttft_ms", "p99", 100.0),), 1),
        ((SloLimit("ttft_ms", "p99", 99.0),), 0),
        ((SloLimit("ttft_ms", "p50", 50.0), SloLimit("ttft_ms", "p90", 300.0)), 2),
        ((SloLimit("ttft_ms", "mean", 1.0),), 2),
        ((SloLimit("tpot_ms", "p99", 15.0),), 1),
        ((SloLimit("itl_ms", "p99", 15.0),), 1),
        ((SloLimit("e2e_ms", "p99", 999.0),), 1),
        ((SloLimit("ttft_ms", "p99", 300.0), SloLimit("e2e_ms", "p99", 100.0)), 0),
    ],
)
def test_good_requests_meet_the_limit_of_the_highest_percentile(
    limits: tuple[SloLimit, ...], good: int
) -> None:
    found = measure(FAST, SLOW, slo=Slo(limits))
    assert found.goodput == pytest.approx(good / found.duration_s)


def test_a_limit_on_what_a_request_cannot_have_passes() -> None:
    single = record(0, chunks_ms=(5,), end_ms=500, output=1, requested=1)
    slo = Slo((SloLimit("tpot_ms", "p99", 1.0), SloLimit("itl_ms", "p99", 1.0)))
    assert measure(single, slo=slo).goodput == pytest.approx(2.0)


def test_failed_requests_are_never_good() -> None:
    assert measure(FAST, FAILED).goodput == pytest.approx(1 / 2.5)


@pytest.mark.parametrize(
    ("records", "flags"),
    [
        ((record(0, end_ms=1, output=99, requested=100),), ()),
        ((record(0, end_ms=1, output=98, requested=100),), ("short_output",)),
        ((record(0, end_ms=1, output=None),), ("usage_missing", "short_output")),
        ((record(0, scheduled_ms=0, sent_ms=10, end_ms=20),), ()),
        ((record(0, scheduled_ms=0, sent_ms=10.1, end_ms=20),), ("client_late",)),
        ((FAST, replace(FAILED, sent_ns=FAILED.scheduled_ns + 50 * MS)), ("request_errors",)),
    ],
    ids=["enough", "short", "no usage", "in time", "late", "late and failed"],
)
def test_flags(records: tuple[RequestRecord, ...], flags: tuple[str, ...]) -> None:
    assert measure(*records).flags == flags
