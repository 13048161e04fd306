"""Files for a Prometheus and a Grafana that watch studies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.grafana.overview import overview

_TARGET = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}$")


def dashboards() -> dict[str, dict[str, Json]]:
    """Every dashboard by its file name."""
    return {"servetune-overview.json": overview()}


def write_grafana(
    folder: Path,
    targets: Sequence[str],
    *,
    prometheus_url: str = "http://127.0.0.1:9090",
    scrape_interval_s: int = 5,
) -> list[Path]:
    """Write dashboards, provisioning and a scrape configuration below `folder`.

    `prometheus.yml` is for `prometheus --config.file`; `provisioning/` for Grafana's
    `paths.provisioning`; `dashboards/` is read from where it was written.

    Args:
        folder: made when absent; files of the same name are overwritten.
        targets: `host:port` of each driver's exporter.
        prometheus_url: where Grafana finds Prometheus.
        scrape_interval_s: seconds between scrapes.

    Returns:
        The files written.

    Raises:
        UserError: no target, or one that is not `host:port`.
    """
    _check(targets)
    files = {f"dashboards/{name}": _json(content) for name, content in dashboards().items()}
    boards = str((folder / "dashboards").resolve())
    files["provisioning/dashboards/servetune.yaml"] = _yaml(_dashboard_provider(boards))
    files["provisioning/datasources/servetune.yaml"] = _yaml(_datasource(prometheus_url))
    files["prometheus.yml"] = _yaml(_scrape(targets, scrape_interval_s))
    written = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _check(targets: Sequence[str]) -> None:
    if not targets:
        raise UserError(
            "no metrics address to scrape. Name the driver's, as 127.0.0.1:9100 (metrics.port "
            "of the experiment)."
        )
    for target in targets:
        if not _TARGET.match(target):
            raise UserError(
                f"{target!r} is not an address that Prometheus can scrape. "
                "Write host:port, without http:// and without /metrics, as 127.0.0.1:9100."
            )


def _dashboard_provider(folder: str) -> Json:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "servetune",
                "type": "file",
                "updateIntervalSeconds": 30,
                "options": {"path": folder},
            }
        ],
    }


def _datasource(url: str) -> Json:
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "servetune",
                "uid": "servetune",
                "type": "prometheus",
                "access": "proxy",
                "url": url,
            }
        ],
    }


def _scrape(targets: Sequence[str], interval_s: int) -> Json:
    addresses: list[Json] = [*targets]
    return {
        "global": {"scrape_interval": f"{interval_s}s", "scrape_timeout": f"{interval_s}s"},
        "scrape_configs": [{"job_name": "servetune", "static_configs": [{"targets": addresses}]}],
    }


def _json(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _yaml(content: Json) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
