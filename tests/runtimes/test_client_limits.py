"""When the client counts as the limit, and how it says so."""

from __future__ import annotations

import pytest

from runtimes.client_limits import limits_exceeded
from runtimes.measurement import ClientHealth


@pytest.mark.parametrize(
    "health",
    [
        ClientHealth(),
        ClientHealth(cpu_share=0.8, lag_p99_ms=5.0, held_ratio=0.98, send_lateness_p99_ms=10.0),
        ClientHealth(lag_max_ms=400.0, connections_opened=500, chunks_per_read=30.0),
    ],
    ids=["fresh", "at every limit", "without a limit"],
)
def test_a_client_within_its_limits_has_none_exceeded(health: ClientHealth) -> None:
    assert limits_exceeded(health, 50.0) == []
    assert limits_exceeded(health, None) == []


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (
            ClientHealth(cpu_share=0.97),
            "its busiest process used 97% of a core (limit 80%)",
        ),
        (ClientHealth(lag_p99_ms=7.25), "event loop lag p99 7.2 ms (limit 5.0 ms)"),
        (
            ClientHealth(held_ratio=0.4258),
            "held 42.58% of the requests in flight (limit 98%)",
        ),
        (ClientHealth(send_lateness_p99_ms=33.33), "sent late, p99 33.3 ms (limit 10.0 ms)"),
    ],
    ids=["cpu", "lag", "held", "late"],
)
def test_each_limit_says_what_was_found_and_what_is_allowed(
    health: ClientHealth, words: str
) -> None:
    assert limits_exceeded(health, None) == [words]


def test_several_limits_are_all_named() -> None:
    health = ClientHealth(cpu_share=1.0, lag_p99_ms=80.0, held_ratio=0.5, send_lateness_p99_ms=90.0)
    assert len(limits_exceeded(health, 10.0)) == 4


def test_what_a_slow_engine_hides_is_no_limit() -> None:
    """5 % of a median TTFT of 2 s are 100 ms."""
    health = ClientHealth(lag_p99_ms=99.0, send_lateness_p99_ms=99.0)
    assert limits_exceeded(health, 2000.0) == []
    assert len(limits_exceeded(health, 1900.0)) == 2


def test_a_long_queue_hides_no_lag_between_chunks() -> None:
    health = ClientHealth(lag_p99_ms=40.0, send_lateness_p99_ms=99.0)
    assert limits_exceeded(health, 2000.0, 80.0) == []
    assert limits_exceeded(health, 2000.0, 20.0) == ["event loop lag p99 40.0 ms (limit 10.0 ms)"]
    assert limits_exceeded(ClientHealth(lag_p99_ms=5.0), 2000.0, 1.0) == []
