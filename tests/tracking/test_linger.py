"""The exporter stays up for whoever scrapes it to fetch the last figures, and for nobody else."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from orchestrator.spec.models import MetricsSpec
from tests.tracking import exported
from tracking.exporter import Exporter

_LONG_S = 60.0


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = exported.exporter()
    yield made
    made.close()


def _scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_it_waits_for_nobody_who_never_came(exporter: Exporter) -> None:
    exporter.serve("127.0.0.1", 0)
    assert not exporter.linger(_LONG_S)


def test_it_waits_for_who_scrapes_to_come_again(exporter: Exporter) -> None:
    url = exporter.serve("127.0.0.1", 0)
    _scrape(url)
    exporter.queued(7)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(exporter.linger, _LONG_S)
        assert "servetune_trials_queued 7.0" in _scrape(url)
        while not waiting.done():
            _scrape(url)
        assert waiting.result()


def test_it_waits_for_the_list_of_targets_to_be_read_again_too(exporter: Exporter) -> None:
    url = exporter.serve("127.0.0.1", 0, targets=lambda: "[]")
    targets_url = url.replace("/metrics", "/sd")
    _scrape(url)
    _scrape(targets_url)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(exporter.linger, _LONG_S)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            _scrape(url)
        while not waiting.done():
            _scrape(targets_url)
        assert waiting.result()


def test_to_read_the_targets_is_no_scrape(exporter: Exporter) -> None:
    url = exporter.serve("127.0.0.1", 0, targets=lambda: "[]")
    _scrape(url.replace("/metrics", "/sd"))
    assert not exporter.linger(0.3)


def test_it_gives_up_on_a_list_that_nobody_reads_again(exporter: Exporter) -> None:
    url = exporter.serve("127.0.0.1", 0, targets=lambda: "[]")
    _scrape(url)
    _scrape(url.replace("/metrics", "/sd"))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(exporter.linger, 1.0)
        while not waiting.done():
            _scrape(url)
        assert waiting.result()


def test_it_gives_up(exporter: Exporter) -> None:
    _scrape(exporter.serve("127.0.0.1", 0))
    assert not exporter.linger(0.3)


def test_a_wish_to_stop_ends_it(exporter: Exporter) -> None:
    _scrape(exporter.serve("127.0.0.1", 0))
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(exporter.linger, _LONG_S, stop.is_set)
        assert not waiting.done()
        stop.set()
        assert not waiting.result()


def test_zero_is_no_wait(exporter: Exporter) -> None:
    _scrape(exporter.serve("127.0.0.1", 0))
    assert not exporter.linger(0.0)


@pytest.mark.parametrize(("written", "seconds"), [(0, 0.0), ("0s", 0.0), ("1m", 60.0), (2.5, 2.5)])
def test_the_experiment_says_how_long(written: object, seconds: float) -> None:
    assert MetricsSpec.model_validate({"linger": written}).linger == seconds


@pytest.mark.parametrize("written", [-1, False, "soon", float("inf")])
def test_what_is_no_wait_is_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="linger"):
        MetricsSpec.model_validate({"linger": written})
