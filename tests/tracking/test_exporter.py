"""The driver's metrics: names and units, bounded series, a server that leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from runtimes.errors import UserError
from runtimes.failure import Failure, FailureKind
from runtimes.slo import Slo, SloLimit
from search.trial import TrialState
from tests.tracking.metric_samples import counts, exporter_of, request
from tests.tracking.run_samples import trial_record
from tracking.exporter import Exporter
from tracking.live import LiveFigures

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = exporter_of("vllm")
    yield made
    made.close()


def _value(exporter: Exporter, series: str) -> float:
    for line in exporter.text().splitlines():
        name, _, value = line.rpartition(" ")
        if name == series:
            return float(value)
    raise AssertionError(f"{series} is not exported")


def _figures(number: int, *, gpus: int = 2, waiting: float | None = 1.0) -> LiveFigures:
    return LiveFigures(
        number=number,
        attempt=0,
        gpus=gpus,
        completed=30,
        failed=10,
        planned=80,
        output_tokens_per_s=500.0,
        requests_running=12.0,
        requests_waiting=waiting,
        kv_cache_usage_ratio=0.4,
        in_flight=12,
        lag_ms=1.5,
        ttft_mean_ms=120.0,
        tpot_mean_ms=20.0,
        prefix_cache_hit_ratio=0.25,
    )


def _exercise(exporter: Exporter) -> None:
    exporter.queued(3)
    exporter.trial_started(0, "vllm", 2)
    exporter.live(_figures(0))
    exporter.phase_entered(0, "measuring")
    exporter.planned(12)
    exporter.requests(0, "vllm", counts(request(), request(1, ttft_ms=None, error="http 500")))
    exporter.pareto(2)
    exporter.best({"goodput_per_gpu": 4.5})
    exporter.suggested("tpe", 0.02)
    exporter.gpu_seconds(busy=20.0, idle=60.0)


def test_names_carry_prefix_and_base_units(exporter: Exporter) -> None:
    _exercise(exporter)
    kinds = dict(_TYPE.findall(exporter.text()))
    assert len(kinds) > 20
    for name, kind in kinds.items():
        assert name.startswith("servetune_")
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith(("_seconds", "_ratio", "_tokens")), name
        assert not re.search(r"_(ms|milliseconds|percent|minutes)(_|$)", name), name


def test_promtool_finds_nothing_to_complain_about(exporter: Exporter) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    _exercise(exporter)
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=exporter.text(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_states_kinds_and_phases_are_there_before_anything_happened(exporter: Exporter) -> None:
    for state in ("completed", "infeasible", "pruned", "failed", "cancelled"):
        assert _value(exporter, f'servetune_trials_total{{state="{state}"}}') == 0
    for kind in FailureKind:
        assert _value(exporter, f'servetune_trial_failures_total{{kind="{kind.value}"}}') == 0
    assert _value(exporter, 'servetune_trial_duration_seconds_count{phase="measuring"}') == 0
    assert 'state="running"' not in exporter.text()


def test_study_and_build_are_described(exporter: Exporter) -> None:
    text = exporter.text()
    assert 'servetune_build_info{version="1.2.3"} 1.0' in text
    assert 'objective="maximize goodput_per_gpu"' in text
    assert 'run="demo-20260101T000000Z-abcd"' in text


def test_devices_are_counted_while_a_trial_holds_them(exporter: Exporter) -> None:
    exporter.trial_started(0, "vllm", 2)
    exporter.trial_started(1, "sglang", 4)
    assert _value(exporter, 'servetune_gpus{state="busy"}') == 6
    assert _value(exporter, 'servetune_gpus{state="idle"}') == 2
    assert _value(exporter, "servetune_trials_running") == 2
    exporter.trial_finished(trial_record(1))
    assert _value(exporter, 'servetune_gpus{state="busy"}') == 2
    assert _value(exporter, "servetune_trials_running") == 1
    assert _value(exporter, 'servetune_trials_total{state="completed"}') == 1


def test_devices_that_are_not_given_to_trials_are_counted_apart(exporter: Exporter) -> None:
    for state in ("foreign", "quarantined"):
        assert _value(exporter, f'servetune_gpus{{state="{state}"}}') == 0
    exporter.withheld(foreign=2, quarantined=1)
    assert _value(exporter, 'servetune_gpus{state="foreign"}') == 2
    assert _value(exporter, 'servetune_gpus{state="quarantined"}') == 1
    exporter.withheld(foreign=0, quarantined=1)
    assert _value(exporter, 'servetune_gpus{state="foreign"}') == 0


def test_live_figures_are_per_gpu_and_ratios(exporter: Exporter) -> None:
    exporter.trial_started(3, "vllm", 2)
    exporter.live(_figures(3, waiting=None))
    name = "servetune_trial_output_tokens_per_second_per_gpu"
    assert _value(exporter, f'{name}{{trial="3"}}') == 250
    assert _value(exporter, 'servetune_trial_progress_ratio{trial="3"}') == 0.5
    assert _value(exporter, 'servetune_engine_kv_cache_usage_ratio{trial="3"}') == 0.4
    assert "servetune_engine_requests_waiting{" not in exporter.text()


def test_a_trials_own_series_go_when_it_ends(exporter: Exporter) -> None:
    exporter.trial_started(3, "vllm", 2)
    exporter.live(_figures(3))
    assert exporter.text().count('trial="3"') == 12
    exporter.trial_finished(trial_record(3))
    assert 'trial="3"' not in exporter.text()
    exporter.live(_figures(3))
    assert 'trial="3"' not in exporter.text()


def test_series_stay_bounded_over_many_trials(exporter: Exporter) -> None:
    def one_trial(number: int) -> None:
        exporter.trial_started(number, "vllm", 2)
        exporter.live(_figures(number))
        exporter.phase_entered(number, "measuring")
        exporter.requests(number, "vllm", counts())
        exporter.suggested("tpe", 0.01)
        state = TrialState.FAILED if number % 3 else TrialState.COMPLETED
        failure = Failure(FailureKind.CRASHED, "it crashed") if number % 3 else None
        exporter.trial_finished(trial_record(number, state=state, failure=failure))

    one_trial(0)
    lines = len(exporter.text().splitlines())
    for number in range(1, 200):
        one_trial(number)
    assert len(exporter.text().splitlines()) == lines
    assert _value(exporter, 'servetune_trials_total{state="failed"}') == 133
    assert _value(exporter, 'servetune_trial_failures_total{kind="crashed"}') == 133


def test_request_latencies_are_seconds_and_failures_are_not_latencies(exporter: Exporter) -> None:
    exporter.requests(
        0,
        "vllm",
        counts(
            request(0, ttft_ms=120.0),
            request(1, ttft_ms=80.0, tokens=1),
            request(2, ttft_ms=7.0, error="cut stream"),
        ),
    )
    assert _value(exporter, 'servetune_requests_total{outcome="ok"}') == 2
    assert _value(exporter, 'servetune_requests_total{outcome="error"}') == 1
    ttft = "servetune_request_time_to_first_token_seconds"
    assert _value(exporter, f'{ttft}_sum{{engine="vllm"}}') == pytest.approx(0.2)
    assert _value(exporter, f'{ttft}_bucket{{engine="vllm",le="0.1"}}') == 1
    tpot = "servetune_request_time_per_output_token_seconds"
    assert _value(exporter, f'{tpot}_count{{engine="vllm"}}') == 1


def test_limits_are_boundaries_so_that_attainment_is_exact() -> None:
    slo = Slo((SloLimit("ttft_ms", "p99", 333.0), SloLimit("tpot_ms", "mean", 37)))
    exporter = exporter_of("vllm", slo=slo)
    exporter.requests(
        0,
        "vllm",
        counts(
            request(0, ttft_ms=333.0, tpot_ms=37.0),
            request(1, ttft_ms=333.000001, tpot_ms=37.000001),
            slo=slo,
        ),
    )
    ttft = "servetune_request_time_to_first_token_seconds_bucket"
    tpot = "servetune_request_time_per_output_token_seconds_bucket"
    assert _value(exporter, f'{ttft}{{engine="vllm",le="0.333"}}') == 1
    assert _value(exporter, f'{tpot}{{engine="vllm",le="0.037"}}') == 1
    limit = 'servetune_slo_limit_seconds{metric="ttft",statistic="p99"}'
    assert _value(exporter, limit) == 0.333


def test_gpu_seconds_never_fall(exporter: Exporter) -> None:
    exporter.gpu_seconds(busy=10.0, idle=5.0)
    exporter.gpu_seconds(busy=30.0, idle=4.0)
    assert _value(exporter, 'servetune_gpu_seconds_total{state="busy"}') == 30
    assert _value(exporter, 'servetune_gpu_seconds_total{state="idle"}') == 5


def test_two_exporters_live_in_one_process(exporter: Exporter) -> None:
    other = exporter_of("vllm")
    exporter.queued(3)
    other.queued(4)
    assert _value(exporter, "servetune_trials_queued") == 3
    assert _value(other, "servetune_trials_queued") == 4


def test_it_serves_what_text_says(exporter: Exporter) -> None:
    url = exporter.serve("127.0.0.1", 0)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.read().decode() == exporter.text()
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(url.replace("/metrics", "/else"), timeout=30)
    refused.value.close()


def test_openmetrics_is_served_to_those_who_ask(exporter: Exporter) -> None:
    asked = urllib.request.Request(
        exporter.serve("127.0.0.1", 0),
        headers={"Accept": "application/openmetrics-text;version=1.0.0"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


def test_a_taken_port_is_a_user_error(exporter: Exporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}.*listens.*metrics\.port"):
            exporter.serve("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no.such.invalid", 0)])
def test_an_impossible_address_is_a_user_error(exporter: Exporter, host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"cannot be served on .*Set metrics\.|a port is 0 to"):
        exporter.serve(host, port)


def test_closing_leaves_no_thread_and_no_listener(exporter: Exporter) -> None:
    before = set(threading.enumerate())
    url = exporter.serve("127.0.0.1", 0)
    address = ("127.0.0.1", int(url.split(":")[2].partition("/")[0]))
    with socket.create_connection(address, timeout=30):  # a client that never asks
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read()
        exporter.close()
    exporter.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=30)
    assert "servetune_trials_running" in exporter.text()
