from __future__ import annotations

import pytest

from runtimes.cache_state import PrefixCache
from runtimes.engines.sglang import SglangEngine
from tests.runtimes.sglang_cases import GOLDEN, VERSION

ENGINE = SglangEngine()


def golden(name: str) -> str:
    return (GOLDEN / name).read_text(encoding="utf-8")


def test_describe_reads_a_real_server() -> None:
    report = ENGINE.describe(
        log="", metrics_text="", version_json=golden("sglang_server_info.json")
    )
    assert report.version == VERSION
    expected = {
        "model_path": "/path/to/tiny",
        "attention_backend": "torch_native",
        "chunked_prefill_size": "4096",
        "disable_radix_cache": "false",
        "page_size": "1",
        "max_total_num_tokens": "8192",
    }
    assert {key: report.config.get(key) for key in expected} == expected
    assert not {"api_key", "internal_states", "launch_command"} & set(report.config)
    assert report.prefix_cache == PrefixCache(enabled=True, block_tokens=1, capacity_tokens=8192)


def test_describe_reads_the_log_of_a_server_that_does_not_answer() -> None:
    log = golden("sglang_logs/started.txt")
    answered = ENGINE.describe(
        log=log, metrics_text="", version_json=golden("sglang_server_info.json")
    )
    logged = ENGINE.describe(log=log, metrics_text="", version_json="")
    assert logged.version == ""
    assert len(logged.config) > 500
    assert {key: answered.config.get(key) for key in logged.config} == dict(logged.config)


def test_describe_reads_the_form_of_a_call() -> None:
    log = "[now] server_args=ServerArgs(model_path='a, b', tp_size=2, page_size=None, x=Y(1))\n"
    report = ENGINE.describe(log=log, metrics_text="", version_json="")
    assert report.config == {"model_path": "a, b", "tp_size": "2", "page_size": "null", "x": "Y(1)"}


@pytest.mark.parametrize("body", ["", "[]", "not json", '{"version": 1}'])
@pytest.mark.parametrize(
    "log", ["", "server_args={'a': ", "server_args=[]", "server_args={1: <x>}"]
)
def test_describe_of_what_cannot_be_read_is_empty(body: str, log: str) -> None:
    report = ENGINE.describe(log=log, metrics_text="", version_json=body)
    assert (report.version, dict(report.config)) == ("", {})


def test_metrics_of_a_real_server() -> None:
    found = {
        name: value
        for name, (_, value) in ENGINE.read_metrics(golden("sglang_metrics.txt")).items()
    }
    # Three streamed requests of 16 + 7 tokens, alike but for the first, and its own warm-up.
    assert found == {
        "requests_running": 0,
        "requests_waiting": 0,
        "kv_cache_usage_ratio": 0,
        "prompt_tokens_total": 64,
        "prefix_cache_queries_total": 64,
        "prefix_cache_hits_total": 30,
        "generation_tokens_total": 29,
        "requests_finished_total": 4,
        # The scheduler saw one more, by which the server looked whether it serves.
        "queue_seconds_total": pytest.approx(0.00468, abs=1e-5),
        "queue_requests_total": 5,
        "prefill_seconds_total": pytest.approx(0.15367, abs=1e-5),
        "prefill_requests_total": 5,
        "decode_seconds_total": pytest.approx(0.12489, abs=1e-5),
        "decode_requests_total": 4,
    }


def test_stages_are_not_counted_twice_and_replicas_are() -> None:
    page = "".join(
        f'sglang:num_running_reqs{{dp_rank="{dp}",pp_rank="{pp}",tp_rank="0"}} {running}\n'
        f'sglang:num_retracted_requests_total{{dp_rank="{dp}",pp_rank="{pp}"}} 1\n'
        f'sglang:token_usage{{dp_rank="{dp}",pp_rank="{pp}",tp_rank="0"}} 0.{dp + 1}\n'
        for dp, running in ((0, 3), (1, 5))
        for pp in (0, 1)
    )
    found = {
        name: value
        for name, (_, value) in ENGINE.read_metrics(page + "sglang:fwd_occupancy NaN\n").items()
    }
    assert found == {"requests_running": 8, "preemptions_total": 2, "kv_cache_usage_ratio": 0.2}
