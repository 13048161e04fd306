"""A real Prometheus scrapes a live exporter, and every panel of every dashboard has data."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtimes.failure import FailureKind
from runtimes.slo import Slo, SloLimit
from search.trial import TrialState
from tests.tracking.dashboard_panels import PanelQuery, queries
from tests.tracking.run_samples import out_of_memory, trial_record
from tracking.exporter import PHASES, Exporter
from tracking.grafana.write import write_grafana
from tracking.live import LiveFigures
from tracking.run_data import Goal

_DEADLINE_S = 90.0
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter(
        run="demo-20260101T000000Z-abcd",
        name="demo",
        model="meta-llama/Llama-3.1-8B",
        goals=[Goal("goodput_per_gpu", "maximize")],
        slo=Slo((SloLimit("ttft_ms", "p99", 500), SloLimit("tpot_ms", "p99", 40))),
        capacity_gpus=8,
        version="0.1.0",
    )
    yield made
    made.close()


@contextmanager
def _prometheus(binary: str, config: Path, folder: Path) -> Iterator[str]:
    """A Prometheus of this test's own: its URL, until the block ends."""
    log = folder / "prometheus.log"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield f"http://{_address(child, log)}"
    finally:
        child.terminate()
        try:
            child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _address(child: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline and child.poll() is None:
        found = _LISTENING.search(log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"prometheus did not listen:\n{log.read_text()}")


def _series(url: str, expr: str) -> list[dict[str, str]]:
    """Labels of the series `expr` gave in the last minute, those of NaN alone left out."""
    now = time.time()
    asked = urllib.parse.urlencode({"query": expr, "start": now - 60, "end": now, "step": 1})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 503, f"{expr}: {error.read().decode()}"
        return []  # still reading its write-ahead log
    return [
        series["metric"]
        for series in result
        if any(not math.isnan(float(value)) for _, value in series["values"])
    ]


def _feed(exporter: Exporter, step: int) -> None:
    """One moment of a study with one trial that runs throughout and one that fails each time."""
    if step == 0:
        exporter.trial_started(0, "vllm", 4)
        exporter.best({"goodput_per_gpu": 3.5})
    exporter.queued(2)
    exporter.live(
        LiveFigures(
            number=0,
            attempt=0,
            gpus=4,
            completed=step,
            failed=0,
            planned=1000,
            output_tokens_per_s=4000.0 + step,
            requests_running=32.0,
            requests_waiting=float(step),
            kv_cache_usage_ratio=0.5,
        )
    )
    exporter.requests("vllm", [(150.0 + step, 18.0, 4000.0, True), (None, None, 3.0, False)])
    for phase in PHASES:
        exporter.phase_ended(phase, 5.0)
    exporter.suggested("tpe", 0.02)
    exporter.gpu_seconds(busy=4.0 * step, idle=4.0 * step)
    exporter.trial_finished(
        trial_record(step + 1, state=TrialState.INFEASIBLE, failure=out_of_memory())
    )


def _lacking(query: PanelQuery, found: list[dict[str, str]]) -> str | None:
    if not found:
        return f"{query}: no data for {query.expr}"
    for label in re.findall(r"{{(\w+)}}", query.legend):
        if any(label not in series for series in found):
            return f"{query}: its legend names {label!r}, which its series lack"
    return None


def test_every_panel_has_data(exporter: Exporter, tmp_path: Path) -> None:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    target = exporter.serve("127.0.0.1", 0).removeprefix("http://").removesuffix("/metrics")
    write_grafana(tmp_path, [target], scrape_interval_s=1)
    with _prometheus(binary, tmp_path / "prometheus.yml", tmp_path) as url:
        open_queries = queries()
        deadline = time.monotonic() + _DEADLINE_S
        step = 0
        while True:
            _feed(exporter, step)
            step += 1
            time.sleep(0.5)
            lacking = [
                _lacking(query, _series(url, query.substituted("5s"))) for query in open_queries
            ]
            open_queries = [
                query
                for query, problem in zip(open_queries, lacking, strict=True)
                if problem is not None
            ]
            if not open_queries:
                break
            assert time.monotonic() < deadline, "\n".join(filter(None, lacking))
        failures = f'servetune_trial_failures_total{{kind="{FailureKind.OOM_WEIGHTS.value}"}}'
        assert _series(url, f"{failures} > 0")
        assert not _series(url, "servetune_no_such_metric")
