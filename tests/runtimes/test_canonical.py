"""Counters over restarts, and readings of several servers made one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from runtimes.telemetry.canonical import CounterTrack, merged

TOKENS = "generation_tokens_total"


def counted(track: CounterTrack, value: float) -> float:
    return track.continued({TOKENS: ("engine:tokens", value)})[TOKENS][1]


def test_a_counter_that_falls_goes_on_from_where_it_stood() -> None:
    track = CounterTrack()
    assert [counted(track, value) for value in (5, 9, 2, 2, 4, 1)] == [5, 9, 11, 11, 13, 14]


def test_a_counter_may_be_missing_in_between() -> None:
    track = CounterTrack()
    assert counted(track, 7) == 7
    assert track.continued({}) == {}
    assert counted(track, 3) == 10


def test_gauges_fall_as_they_like() -> None:
    track = CounterTrack()
    for value in (4.0, 1.0):
        reading = {"requests_running": ("engine:running", value)}
        assert track.continued(reading) == reading


def test_what_is_no_finite_number_is_left_out_and_forgotten() -> None:
    track = CounterTrack()
    assert counted(track, 7) == 7
    for value in (math.nan, math.inf):
        assert track.continued({TOKENS: ("engine:tokens", value)}) == {}
    assert counted(track, 8) == 8


@given(st.lists(st.integers(0, 1000)))
def test_a_continued_counter_never_falls(values: list[int]) -> None:
    track = CounterTrack()
    made = [counted(track, value) for value in values]
    assert made == sorted(made)


@given(st.lists(st.lists(st.integers(1, 50), min_size=1), min_size=1))
def test_what_was_counted_is_kept_over_every_restart(lives: list[list[int]]) -> None:
    """Each life counts from 0; a life that ends before it was seen twice cannot be told apart."""
    track = CounterTrack()
    last = 0.0
    for steps in lives:
        counted(track, 0)
        total = 0
        for step in steps:
            total += step
            last = counted(track, total)
    assert last == sum(map(sum, lives))


def test_servers_are_summed_and_the_fullest_cache_counts() -> None:
    readings = [
        {TOKENS: ("engine:tokens", 5.0), "kv_cache_usage_ratio": ("engine:kv", 0.2)},
        {TOKENS: ("engine:tokens", 7.0), "kv_cache_usage_ratio": ("engine:kv", 0.6)},
    ]
    assert merged(readings) == {
        TOKENS: ("engine:tokens", 12.0),
        "kv_cache_usage_ratio": ("engine:kv", 0.6),
    }


def test_a_metric_that_one_server_lacks_is_left_out() -> None:
    assert merged([{TOKENS: ("engine:tokens", 5.0)}, {}]) == {}
    assert merged([{}, {TOKENS: ("engine:tokens", 5.0)}]) == {}
    assert merged([]) == {}
