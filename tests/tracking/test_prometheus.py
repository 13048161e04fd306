"""A real Prometheus that knows no service discovery: a static list, as the documents write it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.tracking import exported
from tests.tracking.dashboard_panels import queries
from tests.tracking.prometheus_server import Prometheus, prometheus
from tracking.exporter import Exporter

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs/metrics.md"
_ADDRESS = "127.0.0.1:9100"
_DEADLINE_S = 60.0


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = exported.exporter()
    yield made
    made.close()


def _documented() -> list[str]:
    """Every configuration of a Prometheus in the documents."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    return [block for block in blocks if block.startswith("scrape_configs:")]


def _static(folder: Path, target: str) -> Path:
    """The documents' static configuration, scraped every second."""
    (snippet,) = (block for block in _documented() if "static_configs" in block)
    assert _ADDRESS in snippet
    config = yaml.safe_load(snippet.replace(_ADDRESS, target))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, **config}))
    return path


@pytest.mark.parametrize("snippet", _documented(), ids=range(len(_documented())))
def test_promtool_accepts_what_the_documents_write(snippet: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    path = tmp_path / "prometheus.yml"
    for text in {snippet, re.sub(r"# (?=file_sd)", "", snippet.replace("http_sd", "# http_sd"))}:
        path.write_text(text, encoding="utf-8")
        subprocess.run([promtool, "check", "config", path], check=True, timeout=60)


def _lacking(server: Prometheus, start_s: float) -> list[str]:
    """Queries of the overview that have given nothing yet."""
    return [
        f"{query}: {query.expr}"
        for query in queries()
        if query.dashboard == "servetune-overview.json"
        and not server.over_time(query.substituted("5s"), start_s, time.time())
    ]


def test_the_overview_has_data_with_all_runs_chosen(exporter: Exporter, tmp_path: Path) -> None:
    target = exporter.serve("127.0.0.1", 0).removeprefix("http://").removesuffix("/metrics")
    with prometheus(_static(tmp_path, target), tmp_path) as server:
        start_s = time.time()
        step = 0
        while True:
            exported.feed(exporter, step)
            step += 1
            time.sleep(0.5)
            if not (lacking := _lacking(server, start_s)):
                break
            assert time.time() - start_s < _DEADLINE_S, "\n".join(lacking)
        exemplars = server.get(
            "query_exemplars",
            query="servetune_request_time_to_first_token_seconds_bucket",
            start=start_s,
            end=time.time(),
        )
        labels = [one["labels"] for series in exemplars for one in series["exemplars"]]
        assert {"trial": "0"} in labels
        assert not server.over_time("servetune_no_such_metric", start_s, time.time())
