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


def _whole(index: int) -> RequestRecord:
    """Three tokens that came in one read."""
    return record(
        index, sent_ms=index, chunks_ms=(index + 9, index + 9, index + 9), end_ms=index + 9
    )


@pytest.mark.parametrize("metric", ["tpot_ms", "itl_ms"])
def test_an_answer_that_came_whole_has_no_time_per_token(metric: str) -> None:
    assert _whole(0).tpot_ms is None
    found = measure(_whole(0), _whole(1), slo=Slo((SloLimit(metric, "p99", 1e6),)))
    assert (found.tpot_ms, found.itl_ms) == (None, None)
    assert (found.goodput, found.slo_attainment, found.slo_met) == (0.0, 0.0, False)
    assert found.ttft_ms is not None and found.flags == ("not_streamed",)


@pytest.mark.parametrize(("whole", "flagged"), [(1, False), (2, True)])
def test_a_few_answers_that_came_whole_are_left_out(whole: int, flagged: bool) -> None:
    """Of twenty of several tokens; those of one token have nothing to stream."""
    single = record(99, chunks_ms=(5,), end_ms=6, output=1, requested=1)
    others = [_whole(index) for index in range(whole)]
    slo = Slo((SloLimit("tpot_ms", "p99", 50.0),))
    found = measure(*evenly(20 - whole), *others, *[single] * 5, slo=slo)
    assert found.tpot_ms is not None and found.tpot_ms.count == 20 - whole
    assert ("not_streamed" in found.flags, found.slo_met) == (flagged, not flagged)
    assert found.slo_attainment == pytest.approx((25 - whole) / 25)


def test_what_nobody_counted_meets_no_limit_on_its_tokens() -> None:
    slo = Slo((SloLimit("tpot_ms", "p99", 1e6),))
    assert measure(replace(FAST, output_tokens=None), slo=slo).slo_attainment == 0.0


def test_what_a_hopeless_stage_abandoned_meets_no_limit() -> None:
    limits = (SloLimit("ttft_ms", "p99", 300.0), SloLimit("e2e_ms", "p50", 800.0))
    survivors = LoadResult((FAST, SLOW), 0, 0, 0.0, stopped_by="hopeless")
    assert measure(FAST, SLOW, slo=Slo(limits)).slo_met
    found = summarise(survivors, Slo(limits))
    assert [verdict.value_ms for verdict in found.slo] == [None, None]
    assert not found.slo_met
    broken = summarise(survivors, Slo((limits[0], SloLimit("e2e_ms", "p50", 500.0))))
    assert [verdict.value_ms for verdict in broken.slo] == pytest.approx([298.0, 565.5])
