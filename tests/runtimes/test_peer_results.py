"""Results of other load generators, read in our terms.

The files of vLLM's bench are real ones (vLLM 0.32 against `benchmarks/mock_engine.py`, its texts
left out). GuideLLM's are a real one of version 0.8.1 against the simulated engine, without its
texts and metrics of media, and one written by hand with two benchmarks, errors and the field names
of its schemas; llm-inf-bench's is written by hand with those of its storage module.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.errors import UserError
from runtimes.measurement import Distribution
from runtimes.peers.result import PeerResult, read_results

GOLDEN = Path(__file__).parents[1] / "golden/imports"


def only(name: str) -> PeerResult:
    (result,) = read_results(GOLDEN / name)
    return result


def known(values: Distribution | None) -> Distribution:
    assert values is not None
    return values


def document(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((GOLDEN / name).read_text())
    return data


def test_vllm_bench_with_details_becomes_request_records() -> None:
    said, found = document("vllm_bench_detailed.json"), only("vllm_bench_detailed.json")
    assert (found.tool, found.model, found.load, found.load_value) == (
        "vllm-bench", "mock", "concurrency", 4.0,
    )  # fmt: skip
    measured = found.measurement
    assert (measured.requests_completed, measured.requests_failed) == (12, 0)
    assert (measured.input_tokens, measured.output_tokens) == (said["total_input_tokens"], 96)
    # Its definitions are ours, so that its own figures come out again.
    for latency in ("ttft", "tpot", "itl"):
        values = known(getattr(measured, f"{latency}_ms"))
        for ours, theirs in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            assert getattr(values, ours) == pytest.approx(said[f"{theirs}_{latency}_ms"], rel=1e-5)
    assert measured.output_throughput == pytest.approx(said["output_throughput"], rel=0.05)
    assert found.ended_unix_s - found.started_unix_s == pytest.approx(said["duration"])

    first = found.records[0]
    assert first.ttft_ms == pytest.approx(said["ttfts"][0] * 1e3, abs=1e-3)
    assert first.e2e_ms == pytest.approx(said["latencies"][0] * 1e3, abs=1e-3)
    assert len(first.chunk_ns) == len(said["itls"][0]) + 1


def test_vllm_bench_without_details_keeps_what_it_says() -> None:
    said, found = document("vllm_bench_rate.json"), only("vllm_bench_rate.json")
    assert (found.load, found.load_value, found.records) == ("poisson", 50.0, ())
    measured = found.measurement
    ttft = known(measured.ttft_ms)
    assert (ttft.count, ttft.mean, ttft.p99) == (12, said["mean_ttft_ms"], said["p99_ttft_ms"])
    assert (ttft.p90, ttft.p95, ttft.max) == (said["p90_ttft_ms"], None, None)
    assert known(measured.itl_ms).count is None
    e2e = known(measured.e2e_ms)
    assert e2e.max == max(said["latencies"]) * 1e3
    assert e2e.p90 == pytest.approx(said["p90_e2el_ms"])
    assert measured.output_throughput == pytest.approx(said["output_throughput"])
    assert (measured.window, measured.flags) == (None, ())


def test_the_role_of_a_chat_is_no_token() -> None:
    said, found = document("vllm_bench_chat.json"), only("vllm_bench_chat.json")
    for record, gaps, output in zip(found.records, said["itls"], said["output_lens"], strict=True):
        assert len(gaps) == output, "the role, and a chunk a token"
        assert len(record.chunk_ns) == output
    assert known(found.measurement.ttft_ms).mean > said["mean_ttft_ms"]


def test_chats_of_which_the_role_cannot_be_told_have_no_token_times(tmp_path: Path) -> None:
    data = document("vllm_bench_chat.json")
    for key in ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors"):
        del data[key]
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(data))
    (found,) = read_results(path)
    measured = found.measurement
    assert (measured.ttft_ms, measured.tpot_ms, measured.itl_ms) == (None, None, None)
    assert known(measured.e2e_ms).count == 12
    assert measured.output_throughput == pytest.approx(data["output_throughput"])


def test_failed_requests_of_vllm_bench(tmp_path: Path) -> None:
    data = document("vllm_bench_detailed.json")
    data["output_lens"][3], data["itls"][3], data["ttfts"][3] = 0, [], 0.0
    data["errors"][3] = "Traceback (most recent call last):\n  …\nClientError: reset"
    data |= {"failed": 1, "completed": 11}
    path = tmp_path / "failed.json"
    path.write_text(json.dumps(data))
    (found,) = read_results(path)
    assert found.records[3].error == "ClientError: reset"
    assert (found.measurement.requests_completed, found.measurement.requests_failed) == (11, 1)
    assert found.measurement.flags == ("request_errors",)


def test_several_results_appended_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "appended.json"
    texts = [(GOLDEN / f"vllm_bench_{kind}.json").read_text() for kind in ("rate", "detailed")]
    path.write_text("".join(texts))
    assert [result.load for result in read_results(path)] == ["poisson", "concurrency"]


def test_guidellm_gives_a_result_for_each_benchmark() -> None:
    closed, opened = read_results(GOLDEN / "guidellm.json")
    assert [(one.load, one.load_value) for one in (closed, opened)] == [
        ("concurrency", 2.0), ("poisson", 12.5),
    ]  # fmt: skip
    assert (closed.model, closed.facts) == ("acme/tiny", {"guidellm": "0.8.1"})

    # All requests are there: our own statistics of them; the one that was cut off is neither.
    measured = closed.measurement
    assert (measured.requests_completed, measured.requests_failed) == (6, 1)
    assert len(closed.records) == 7
    assert known(measured.ttft_ms).p50 == pytest.approx(50.0, abs=1e-3)
    # (last − first) / (tokens − 1): what GuideLLM calls ITL; its "TPOT" would be 15 ms.
    assert known(measured.tpot_ms).p50 == pytest.approx(10.0, abs=1e-3)
    assert known(measured.e2e_ms).p50 == pytest.approx(121.0, abs=1e-3)
    assert measured.itl_ms is None
    assert not [name for name in measured.intervals if name.startswith("itl")]
    # Only what the file says stands in the rows of requests.
    assert {len(record.chunk_ns) for record in closed.records} == {0, 2}

    # Of a report that kept some requests only, its own figures.
    measured = opened.measurement
    assert (measured.requests_completed, opened.records) == (5, ())
    assert (known(measured.tpot_ms).mean, known(measured.tpot_ms).p99) == (10.0, 11.0)
    assert known(measured.e2e_ms).max == pytest.approx(130.0)
    assert measured.output_throughput == pytest.approx(5 * 8 / 0.5)


def test_what_guidellm_saved_of_a_real_run() -> None:
    """Five requests at concurrency 2."""
    said = document("guidellm_recorded.json")["benchmarks"][0]["metrics"]
    found = only("guidellm_recorded.json")
    assert (found.model, found.load, found.load_value) == ("acme/tiny", "concurrency", 2.0)
    measured = found.measurement
    assert (measured.requests_completed, measured.requests_failed) == (5, 0)
    assert measured.output_tokens == 5 * 4
    ttft = said["time_to_first_token_ms"]["successful"]
    assert known(measured.ttft_ms).mean == pytest.approx(ttft["mean"], rel=1e-3)
    tpot = said["inter_token_latency_ms"]["successful"]
    assert known(measured.tpot_ms).mean == pytest.approx(tpot["mean"], rel=1e-3)
    e2e = said["request_latency"]["successful"]
    assert known(measured.e2e_ms).mean == pytest.approx(1e3 * e2e["mean"], rel=1e-3)


def test_llm_inf_bench() -> None:
    found = only("llm_inf_bench.json")
    assert (found.load, found.load_value) == ("concurrency", 3.0)
    assert (found.gpus, found.gpu_model) == (2, "NVIDIA H100")
    measured = found.measurement
    assert (measured.requests_completed, measured.requests_failed) == (4, 1)
    assert (measured.duration_s, measured.output_throughput) == (2.0, 8.0)
    assert known(measured.ttft_ms).mean == 55.0
    assert known(measured.itl_ms).mean == pytest.approx(10.0)
    assert known(measured.tpot_ms).mean == pytest.approx(10.0)
    assert (known(measured.e2e_ms).max, measured.ttft_scheduled_ms) == (111.0, None)
    assert found.records == (), "it does not say when they were sent"


def _drop(*keys: str | int) -> Callable[[Any], None]:
    def drop(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return drop


def _put(value: object, *keys: str | int) -> Callable[[Any], None]:
    def put(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return put


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (
            "guidellm.json",
            _drop("benchmarks", 0, "metrics"),
            "a result of guidellm, but `benchmarks[0].metrics` is absent; it must be an object",
        ),
        (
            "guidellm.json",
            _put("soon", "benchmarks", 1, "scheduler_metrics", "measure_end_time"),
            "`benchmarks[1].scheduler_metrics.measure_end_time` must be a finite number, "
            "got 'soon'",
        ),
        ("guidellm.json", _put([], "benchmarks"), "holds no result"),
        (
            "vllm_bench_detailed.json",
            _put([0.1], "ttfts"),
            "`start_times` must be a list as long as its other lists, 1",
        ),
        ("vllm_bench_detailed.json", _put("today", "date"), "`date` must be a date as 2026"),
        ("vllm_bench_rate.json", _put(-1, "completed"), "`completed` must be a whole number"),
        (
            "llm_inf_bench.json",
            _drop("requests", 2, "inter_token_latencies_ms"),
            "`requests[2].inter_token_latencies_ms` is absent; it must be a list",
        ),
        (
            "llm_inf_bench.json",
            _put("noon", "metadata", "started_at"),
            "`metadata.started_at` must be an ISO 8601 instant, got 'noon'",
        ),
    ],
)
def test_a_broken_file(
    name: str, damage: Callable[[Any], None], words: str, tmp_path: Path
) -> None:
    data = document(name)
    damage(data)
    path = tmp_path / name
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as caught:
        read_results(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2}', "guidellm: benchmarks, config, metadata; llm-inf-bench: "),
        ('{"a": 1, "b": 2}', "It has: a, b"),
        ("[1]", "must hold a JSON object, got list"),
        ("not json", "is no JSON"),
        ("", "is empty"),
    ],
)
def test_a_file_of_no_known_tool(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_results(path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_results(tmp_path / "absent.json")
