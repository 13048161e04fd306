"""Figures of a stage: definitions on records made by hand, percentiles against numpy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.load.arrivals import ConcurrencyLoad
from runtimes.load.result import LoadResult
from runtimes.measurement import (
    PERCENTILES,
    ClientHealth,
    RequestRecord,
    percentile_name,
)
from runtimes.request_columns import RequestColumns
from runtimes.slo import LATENCY_METRICS, Slo, SloLimit
from runtimes.statistics import summarise
from tests.runtimes.stage_records import FAILED, FAST, MS, SLOW, evenly, measure, record


def test_every_latency_follows_its_definition() -> None:
    found = measure(FAST, SLOW)
    assert found.ttft_ms is not None
    assert found.tpot_ms is not None
    assert found.itl_ms is not None
    assert found.e2e_ms is not None
    assert (found.ttft_ms.count, found.ttft_ms.mean, found.ttft_ms.max) == (2, 200.0, 300.0)
    assert (found.tpot_ms.count, found.tpot_ms.mean, found.tpot_ms.max) == (2, 32.5, 50.0)
    # Gaps 10, 20, 50, 50 pooled over both requests.
    assert (found.itl_ms.count, found.itl_ms.mean, found.itl_ms.p50) == (4, 32.5, 35.0)
    assert (found.itl_ms.min, found.itl_ms.p25, found.itl_ms.p99) == (10.0, 17.5, 50.0)
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


def test_a_gap_before_several_tokens_is_several_gaps() -> None:
    """Chunks of 2, 0, 4 and 1 tokens: the one that holds none is passed over."""
    chunks = record(0, chunks_ms=(100, 110, 140, 150), end_ms=151, output=7, requested=7)
    found = measure(replace(chunks, chunk_tokens=(2, 0, 4, 1)))
    assert found.itl_ms is not None
    assert (found.itl_ms.count, found.itl_ms.mean) == (5, 10.0)
    assert found.tokens_per_chunk == 7 / 4
    # A count for each chunk, or none at all.
    assert measure(replace(chunks, chunk_tokens=(2, 1))).itl_ms == measure(chunks).itl_ms


@st.composite
def _streams(draw: st.DrawFn) -> list[RequestRecord]:
    """Requests of up to six chunks, some of whose servers count the tokens of each."""
    found = []
    for index in range(draw(st.integers(1, 6))):
        gaps = draw(st.lists(st.integers(1, 50), max_size=6))
        counts = draw(st.lists(st.integers(0, 3), min_size=len(gaps), max_size=len(gaps)))
        at_ms = tuple(np.cumsum(gaps).tolist())
        plain = record(index, chunks_ms=at_ms, end_ms=400, output=9, requested=9)
        failed = draw(st.sampled_from([None, None, "cut stream"]))
        told = draw(st.sampled_from([None, counts]))
        found.append(replace(plain, error=failed, chunk_tokens=told))
    return found


def _gaps_by_hand(single: RequestRecord) -> list[float]:
    tokens = single.chunk_tokens or [1] * len(single.chunk_ns)
    holding = [
        (at_ns, count) for at_ns, count in zip(single.chunk_ns, tokens, strict=True) if count
    ]
    gaps = []
    for (before_ns, _), (at_ns, count) in pairwise(holding):
        gaps += [(at_ns - before_ns) / count / MS] * count
    return gaps


@given(_streams())
def test_gaps_are_pooled_over_completed_requests(records: list[RequestRecord]) -> None:
    gaps = [gap for each in records if each.error is None for gap in _gaps_by_hand(each)]
    found = measure(*records).itl_ms
    assert (found.count if found is not None else 0) == len(gaps)
    if found is not None:
        assert found.mean == pytest.approx(np.mean(gaps))
        assert found.p95 == pytest.approx(np.percentile(gaps, 95))
    columns = RequestColumns.of(records)
    assert columns.gap_counts().tolist() == [len(_gaps_by_hand(each)) for each in records]


def test_latencies_are_reported_from_the_schedule_as_well() -> None:
    late = record(0, scheduled_ms=900, sent_ms=905, chunks_ms=(1000, 1010), end_ms=1020)
    found = measure(late)
    assert found.ttft_ms is not None
    assert found.ttft_scheduled_ms is not None
    assert found.e2e_scheduled_ms is not None
    assert (found.ttft_ms.mean, found.ttft_scheduled_ms.mean) == (95.0, 100.0)
    assert found.e2e_scheduled_ms.mean == 120.0


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
    assert (found.slo_met, found.window) == (False, None)
    assert not measure(*records).slo_met  # nor where there is nothing to be met
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
    for each in PERCENTILES:
        value = getattr(found.ttft_ms, percentile_name(each))
        assert value == pytest.approx(np.percentile(ttfts, each), abs=1e-5)
    assert found.ttft_ms.mean == pytest.approx(np.mean(ttfts), abs=1e-5)
    assert (found.ttft_ms.min, found.ttft_ms.max) == pytest.approx(
        (min(ttfts), max(ttfts)), abs=1e-5
    )
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
        ((record(0, end_ms=1, output=101, requested=100),), ()),
        ((record(0, end_ms=1, output=102, requested=100),), ("long_output",)),
        ((record(0, end_ms=1, output=None),), ("usage_missing",)),
        ((record(0, end_ms=1, prompt=None),), ("usage_missing",)),
        (
            (record(0, end_ms=1, output=None), record(1, end_ms=1, output=2)),
            ("usage_missing", "short_output"),
        ),
        ((record(0, end_ms=1, chunks_ms=(1, 1, 1)),), ("not_streamed",)),
        ((record(0, scheduled_ms=0, sent_ms=10, end_ms=20),), ()),
        ((record(0, scheduled_ms=0, sent_ms=10.1, end_ms=20),), ("client_limited",)),
        ((FAST, replace(FAILED, sent_ns=FAILED.scheduled_ns + 50 * MS)), ("request_errors",)),
    ],
    ids=[
        *("enough", "short", "hardly more", "long", "no output counted", "no prompt counted"),
        *("one counted and short", "whole", "in time", "late", "late and failed"),
    ],
)
def test_flags(records: tuple[RequestRecord, ...], flags: tuple[str, ...]) -> None:
    assert measure(*records).flags == flags


def test_throughputs_are_of_the_window_and_counts_of_the_whole_stage() -> None:
    found = measure(*evenly(40), slo=Slo((SloLimit("ttft_ms", "p99", 50.0),)))
    assert found.window is not None
    assert (found.window.rule, found.window.start_s, found.window.end_s) == ("tail", 0.0, 3.9)
    assert (found.requests_completed, found.input_tokens, found.output_tokens) == (40, 400, 120)
    assert found.duration_s == 4.05
    # By 3.9 s, 38 requests have ended, and two of the three chunks of another have come.
    assert found.request_throughput == pytest.approx((38 + 2 / 3) / 3.9)
    # All 40 were scheduled by then and good; 39 gaps between them took 3.9 s.
    assert found.goodput == pytest.approx(10.0)
    assert found.input_throughput == pytest.approx(10 * (38 + 2 / 3) / 3.9)
    assert found.output_throughput == pytest.approx(116 / 3.9)
    assert found.total_throughput == pytest.approx((116 + 1160 / 3) / 3.9)
    assert found.slo_attainment == 1.0


def test_tokens_count_where_their_chunk_comes() -> None:
    """The last request's first chunk comes by the last arrival and holds most of its tokens."""
    records = evenly(40)
    last = record(40, sent_ms=0, chunks_ms=(3900, 4000), end_ms=4000, output=50, requested=50)
    even = measure(*records, last)
    told = measure(*records, replace(last, chunk_tokens=(40, 10)))
    assert even.output_throughput == pytest.approx((116 + 25) / 3.9)
    assert told.output_throughput == pytest.approx((116 + 40) / 3.9)
    # What the chunks say is scaled to what `usage` says in the end.
    scaled = measure(*records, replace(last, chunk_tokens=(32, 8)))
    assert scaled.output_throughput == pytest.approx((116 + 40) / 3.9)
    silent = replace(last, chunk_ns=(), end_ns=3900 * MS)
    assert measure(*records, silent).output_throughput == pytest.approx((116 + 50) / 3.9)


def test_a_closed_loop_ends_with_the_last_request_that_replaces_another() -> None:
    """Four streams, each of ten requests of one second: the last four only drain."""
    records = [
        record(4 * turn + stream, sent_ms=1000 * turn + stream, end_ms=1000 * turn + 1000 + stream)
        for turn in range(10)
        for stream in range(4)
    ]
    result = LoadResult(tuple(records), 0, 0, 0.0)
    found = summarise(result, Slo(), ConcurrencyLoad(4, 40))
    assert found.window is not None
    assert (found.window.rule, found.window.end_s) == ("tail", 9.003)
    assert found.request_throughput == pytest.approx(36 / 9.003)
    told = summarise(replace(result, last_arrival_ns=8000 * MS), Slo(), ConcurrencyLoad(4, 40))
    assert told.window is not None
    assert told.window.end_s == 8.0


def test_later_turns_are_no_arrivals() -> None:
    """A turn follows from the turn before; the load's own last arrival was earlier."""
    records = evenly(40)
    turn = replace(record(40, sent_ms=9000, chunks_ms=(9050,), end_ms=9100), session=3, turn=1)
    found = measure(*records, turn)
    assert found.window is not None
    assert found.window.end_s == 3.9
    # Nor are its latencies those of the window: all others took 150 ms.
    assert found.requests_completed == 41
    assert found.e2e_ms is not None
    assert (found.e2e_ms.count, found.e2e_ms.min) == (40, 150.0)


def test_prompt_tokens_are_counted_as_sent_as_meant_and_as_found() -> None:
    known = [
        replace(each, sent_tokens=9, shared_tokens=4, cached_tokens=cached)
        for each, cached in zip(evenly(3), (None, 3, 4), strict=True)
    ]
    found = measure(*known)
    assert (found.sent_prompt_tokens, found.shared_prompt_tokens) == (27, 12)
    assert (found.cached_prompt_tokens, found.prompt_token_excess) == (7, 3)
    as_text = measure(*evenly(3))
    assert (as_text.cached_prompt_tokens, as_text.prompt_token_excess) == (None, None)


def test_tokens_that_were_not_counted_are_not_zero() -> None:
    found = measure(FAST, replace(SLOW, output_tokens=None))
    assert (found.input_tokens, found.output_tokens) == (20, None)
    assert (found.output_throughput, found.total_throughput) == (None, None)
    assert found.input_throughput == pytest.approx(20 / 2.0)
    assert found.achieved_output_ratio is None
    assert not {"output_throughput", "total_throughput"} & found.intervals.keys()
    assert found.request_throughput == pytest.approx(1.0)
    unknown = measure(*(replace(each, prompt_tokens=None, sent_tokens=9) for each in evenly(12)))
    assert (unknown.input_tokens, unknown.prompt_token_excess) == (None, None)
    assert {"request_throughput", "output_throughput"} <= unknown.intervals.keys()


def test_the_template_is_what_the_shortest_chat_has_beyond_its_contents() -> None:
    chats = [
        replace(each, prompt_tokens=100 + template, content_tokens=100)
        for each, template in zip(evenly(3), (22, 12, 17), strict=True)
    ]
    assert measure(*chats).template_tokens == 12
    assert measure(*chats, replace(FAILED, prompt_tokens=1)).template_tokens == 12
    assert measure(*evenly(3)).template_tokens is None


def test_a_client_that_was_the_limit_is_said_to_be_so() -> None:
    slow = ClientHealth(cpu_share=0.9)
    found = summarise(LoadResult(tuple(evenly(5)), 0, 0, 0.0, slow, "duration"), Slo())
    assert found.client == slow
    assert found.stopped_by == "duration"
    assert found.flags == ("client_limited",)
    assert found.client_limits == ("its busiest process used 90% of a core (limit 80%)",)


def _noisy(count: int, seed: int = 1) -> tuple[RequestRecord, ...]:
    """Poisson arrivals at 20 a second, each of five chunks."""
    random = np.random.default_rng(seed)
    sends = np.cumsum(random.exponential(50.0, count))
    found = []
    for index, sent in enumerate(sends.tolist()):
        at = (sent + 20 + np.cumsum(random.gamma(4.0, 5.0, 5))).tolist()
        found.append(
            record(index, sent_ms=sent, chunks_ms=tuple(at), end_ms=at[-1], output=5, requested=5)
        )
    return tuple(found)


def test_every_figure_has_an_interval_around_it() -> None:
    found = measure(*_noisy(1000), slo=Slo((SloLimit("ttft_ms", "p90", 45.0),)))
    rates = ("request_throughput", "input_throughput", "output_throughput", "total_throughput")
    for name in (*rates, "goodput", "slo_attainment"):
        interval = found.intervals[name]
        assert interval.low < getattr(found, name) < interval.high
    for latency in ("ttft", "ttft_scheduled", "tpot", "itl", "e2e", "e2e_scheduled"):
        for statistic in ("mean", "p50", "p90", "p95", "p99"):
            interval = found.intervals[f"{latency}_{statistic}_ms"]
            value = getattr(getattr(found, f"{latency}_ms"), statistic)
            assert interval.low <= value <= interval.high
            assert interval.high - interval.low < 0.4 * value
    assert measure(*_noisy(1000)).intervals["itl_p99_ms"] == found.intervals["itl_p99_ms"]


def test_few_requests_have_no_intervals_but_of_their_share() -> None:
    assert set(measure(*evenly(9)).intervals) == {"slo_attainment"}
    assert measure().intervals == {}
    hundred = measure(*_noisy(100)).intervals
    assert "ttft_p90_ms" in hundred
    assert "ttft_p99_ms" not in hundred  # the largest of a hundred is no bound for it
