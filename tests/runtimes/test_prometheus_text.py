from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtimes.engines.vllm import VllmEngine
from runtimes.telemetry.prometheus_text import labels_of, read_metrics
from tests.runtimes.vllm_cases import GOLDEN

LABEL_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def by_the_book(text: str, name: str) -> list[float]:
    """Finite values of the series called `name`, as prometheus_client's own parser reads them."""
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and math.isfinite(sample.value)
    ]


@given(
    series=st.dictionaries(st.tuples(LABEL_TEXT, LABEL_TEXT), NUMBERS, min_size=1, max_size=6),
    neighbour=st.floats(allow_nan=False, allow_infinity=False),
)
def test_agrees_with_the_reference_parser(
    series: dict[tuple[str, str], float], neighbour: float
) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("vllm:running", "Some help about vllm:running{}", ["a", "b"], registry=registry)
    longer = Gauge("vllm:running_more", "help", registry=registry)
    longer.set(neighbour)
    histogram = Histogram("vllm:running_seconds", "help", registry=registry)
    histogram.observe(1.0)
    for labels, value in series.items():
        gauge.labels(*labels).set(value)
    text = generate_latest(registry).decode()

    values = by_the_book(text, "vllm:running")
    found = read_metrics(text, {"vllm:running": "requests_running"})
    ratio = read_metrics(text, {"vllm:running": "kv_cache_usage_ratio"})
    if not values:
        assert found == ratio == {}
        return
    name, total = found["requests_running"]
    assert name == "vllm:running"
    assert total == sum(values)
    assert ratio["kv_cache_usage_ratio"] == ("vllm:running", max(values))


@given(labels=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), LABEL_TEXT))
def test_labels_agree_with_what_was_exported(labels: dict[str, str]) -> None:
    registry = CollectorRegistry()
    Info("engine", "help", registry=registry).info(labels)
    text = generate_latest(registry).decode()
    assert labels_of(text, "engine_info") == labels


def test_a_real_page_reads_as_the_reference_parser_reads_it() -> None:
    text = (GOLDEN / "vllm_metrics.txt").read_text(encoding="utf-8")
    found = read_metrics(text, VllmEngine.metrics)
    of_drafters = {name for name in VllmEngine.metrics.values() if name.startswith("spec_")}
    assert set(found) == set(VllmEngine.metrics.values()) - of_drafters
    for name, value in found.values():
        assert value == sum(by_the_book(text, name)), name
    assert found["generation_tokens_total"] == ("vllm:generation_tokens_total", 6626.0)
    assert found["requests_finished_total"][1] == 101.0


def test_replicas_are_summed_and_ratios_take_the_fullest() -> None:
    text = (
        'running{engine="0"} 3\nrunning{engine="1"} 4\nrunning_by_reason{reason="x"} 100\n'
        'usage{engine="0"} 0.25\nusage{engine="1"} 0.5\n'
    )
    assert read_metrics(text, {"running": "requests_running", "usage": "kv_cache_usage_ratio"}) == {
        "requests_running": ("running", 7.0),
        "kv_cache_usage_ratio": ("usage", 0.5),
    }


def test_created_stamps_and_buckets_are_not_the_counter() -> None:
    registry = CollectorRegistry()
    Counter("tokens", "help", registry=registry).inc(5)
    text = generate_latest(registry).decode()
    assert "tokens_created" in text
    assert read_metrics(text, {"tokens_total": "generation_tokens_total"}) == {
        "generation_tokens_total": ("tokens_total", 5.0)
    }


def test_the_first_name_with_a_value_wins() -> None:
    names = {"new": "requests_running", "old": "requests_running"}
    assert read_metrics("old 2\n", names) == {"requests_running": ("old", 2.0)}
    assert read_metrics("old 2\nnew 3\n", names) == {"requests_running": ("new", 3.0)}


def test_timestamps_missing_newlines_and_torn_lines() -> None:
    names = {"a": "requests_running", "b": "requests_waiting", "c": "preemptions_total"}
    text = 'a{x="} 9 {"} 1.5 1395066363000\r\nb \nc{x="1'
    assert read_metrics(text, names) == {"requests_running": ("a", 1.5)}
    assert read_metrics("a 1", names) == {"requests_running": ("a", 1.0)}
    assert read_metrics("", names) == {}


def test_labels_of_an_absent_metric() -> None:
    assert labels_of('engine_info_more{a="1"} 1\n', "engine_info") == {}
    assert labels_of("engine_info 1\n", "engine_info") == {}


RANKS = """\
x_total{rank="0",kind="a"} 1
x_total{rank="0",kind="b"} 2
x_total{rank="1",kind="a"} 4
x_total{other_rank="0"} 8
x_total 16
"""


def test_labels_after_a_name_choose_among_its_series() -> None:
    def total(name: str) -> float:
        return read_metrics(RANKS, {name: "prompt_tokens_total"})["prompt_tokens_total"][1]

    assert total("x_total") == total("x_total{}") == 31
    assert total('x_total{rank="0"}') == 3
    assert total('x_total{rank="0",kind="b"}') == 2
    assert read_metrics(RANKS, {'x_total{rank="2"}': "prompt_tokens_total"}) == {}


def test_one_metric_can_stand_for_two_canonical_ones() -> None:
    metrics = {"x_total": "prompt_tokens_total", "x_total{}": "prefix_cache_queries_total"}
    found = read_metrics("x_total 16\n", metrics)
    assert {name: value for name, (_, value) in found.items()} == {
        "prompt_tokens_total": 16,
        "prefix_cache_queries_total": 16,
    }
