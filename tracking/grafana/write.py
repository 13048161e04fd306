"""Files for a Prometheus and a Grafana that watch studies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from runtimes.errors import UserError
from runtimes.json_types import Json
from tracking.grafana.alerts import rules_file
from tracking.grafana.cluster import cluster
from tracking.grafana.engine import engine
from tracking.grafana.overview import overview
from tracking.grafana.scrape import (
    PROMETHEUS_ADDRESS,
    compose,
    dashboard_provider,
    datasource,
    prometheus_config,
)
from tracking.grafana.trial import trial

DEFAULT_TARGET = "127.0.0.1:9100"
_TARGET = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})")


def dashboards() -> dict[str, dict[str, Json]]:
    """Every dashboard by its file name."""
    return {f"{board['uid']}.json": board for board in (overview(), trial(), engine(), cluster())}


def files(
    targets: Sequence[str],
    *,
    prometheus_url: str = f"http://{PROMETHEUS_ADDRESS}",
    scrape_interval_s: int = 5,
) -> dict[str, str]:
    """Every file by its path; the same arguments give the same bytes.

    Args:
        targets: `host:port` of each driver's exporter.
        prometheus_url: where Grafana finds Prometheus.
        scrape_interval_s: seconds between scrapes.

    Raises:
        UserError: no target, or one that is not `host:port`.
    """
    _check(targets)
    return {
        **{f"dashboards/{name}": _json(content) for name, content in dashboards().items()},
        "provisioning/dashboards/servetune.yaml": _yaml(dashboard_provider()),
        "provisioning/datasources/servetune.yaml": _yaml(
            datasource(prometheus_url, scrape_interval_s)
        ),
        "prometheus.yml": _yaml(prometheus_config(targets, scrape_interval_s)),
        "rules/servetune.yml": _yaml(rules_file()),
        # Prometheus complains of a folder that is not there; lists of the user's go beside it.
        "targets/none.json": "[]\n",
        "compose.yaml": _yaml(compose()),
    }


def write_grafana(
    folder: Path, targets: Sequence[str], *, scrape_interval_s: int = 5
) -> list[Path]:
    """Write `files` below `folder`, which is made when absent; files of the same name go.

    Raises:
        UserError: as for `files`; nothing is written then.
    """
    written = []
    for name, text in files(targets, scrape_interval_s=scrape_interval_s).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _check(targets: Sequence[str]) -> None:
    if not targets:
        raise UserError(
            f"no metrics address to scrape. Name the driver's, as {DEFAULT_TARGET} (metrics.port "
            "of the experiment)."
        )
    for target in targets:
        match = _TARGET.fullmatch(target)
        if match is None or not 0 < int(match[2]) < 65536:
            raise UserError(
                f"{target!r} is not an address that Prometheus can scrape. Write host:port with "
                f"a port of 1 to 65535, without http:// and without /metrics, as {DEFAULT_TARGET}."
            )


def _json(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes shared values out each time, where the default writes anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _yaml(content: Json) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
