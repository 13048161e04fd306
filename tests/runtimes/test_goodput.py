"""Which requests goodput, attainment and verdicts are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.result import LoadResult
from runtimes.measurement import RequestRecord
from runtimes.slo import Slo, SloLimit
from runtimes.statistics import summarise
from tests.runtimes.stage_records import FAST, MS, SLOW, evenly, measure, record


def _bursty(stay_ms: float) -> tuple[RequestRecord, ...]:
    """400 arrivals of a gamma process (CV 2) at 10 a second that all stay as long; the first 40,
    on a server that is cold, three times as long.
    """
    sends = np.cumsum(np.random.default_rng(5).gamma(0.25, 400.0, 400)).tolist()
    stays = [3 * stay_ms] * 40 + [stay_ms] * 360
    return tuple(
        record(index, sent_ms=sent, chunks_ms=(sent + stay,), end_ms=sent + stay, output=3)
        for index, (sent, stay) in enumerate(zip(sends, stays, strict=True))
    )


def test_a_slower_engine_is_not_credited_the_backlog_it_carries_into_its_window() -> None:
    """The same arrivals: the slow one's window begins elsewhere, and by ends with more of them."""
    slo = Slo((SloLimit("e2e_ms", "p99", 30_000.0),))
    slow, fast = measure(*_bursty(2500.0), slo=slo), measure(*_bursty(50.0), slo=slo)
    assert slow.window is not None and fast.window is not None
    assert slow.window.start_s != fast.window.start_s
    assert slow.slo_attainment == fast.slo_attainment == 1.0
    assert slow.goodput == pytest.approx(fast.goodput, rel=1e-9)
    for found in (slow, fast):
        assert found.intervals["goodput"].low < found.goodput < found.intervals["goodput"].high


def test_in_an_open_loop_the_requests_scheduled_in_the_window_are_judged() -> None:
    """The last two end after the window and are bad; the latencies of the window hold them too."""
    late = [replace(one, end_ns=one.end_ns + 900 * MS) for one in evenly(40)[-2:]]
    slo = Slo((SloLimit("e2e_ms", "p99", 150.0),))
    found = measure(*evenly(40)[:-2], *late, slo=slo)
    assert found.slo_attainment == pytest.approx(38 / 40)
    assert found.goodput == pytest.approx(10.0 * 38 / 40)


def test_in_a_closed_loop_the_requests_that_end_in_the_window_are_judged() -> None:
    records = [
        record(4 * turn + slot, sent_ms=1000 * turn + slot, end_ms=1000 * turn + 1000 + slot)
        for turn in range(10)
        for slot in range(4)
    ]
    records[-1] = replace(records[-1], end_ns=records[-1].end_ns + 500 * MS)
    slo = Slo((SloLimit("e2e_ms", "p99", 1000.0),))
    found = summarise(LoadResult(tuple(records), 0, 0, 0.0), slo, ConcurrencyLoad(4, 40))
    assert found.slo_attainment == 1.0
    assert found.goodput == found.request_throughput == pytest.approx(36 / 9.003)


def test_what_a_hopeless_stage_abandoned_meets_no_limit() -> None:
    limits = (SloLimit("ttft_ms", "p99", 300.0), SloLimit("e2e_ms", "p50", 800.0))
    survivors = LoadResult((FAST, SLOW), 0, 0, 0.0, stopped_by="hopeless")
    assert measure(FAST, SLOW, slo=Slo(limits)).slo_met
    found = summarise(survivors, Slo(limits))
    assert [verdict.value_ms for verdict in found.slo] == [None, None]
    assert not found.slo_met
    broken = summarise(survivors, Slo((limits[0], SloLimit("e2e_ms", "p50", 500.0))))
    assert [verdict.value_ms for verdict in broken.slo] == pytest.approx([298.0, 565.5])
