"""`promtool test rules`: made-up series in, exact values and alerts out, without a server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tracking.grafana.alerts import rules_file

_TARGET = {"instance": "h:1", "job": "servetune", "run": "r-1"}


def complaints(
    folder: Path,
    series: Mapping[str, str],
    *,
    alerts: list[dict[str, object]] | None = None,
    values: list[dict[str, object]] | None = None,
) -> str:
    """What promtool complains of; empty when everything is as expected.

    `series` holds values from minute 0 on, one a minute (`0+1x10`), by name and labels: names of
    ours come without prefix, and labels of a driver's target are added to those given. `alerts`
    are `alert_rule_test` entries, `values` are `promql_expr_test` entries. The test skips where
    promtool is not installed.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    (folder / "rules.yml").write_text(yaml.safe_dump(rules_file()), encoding="utf-8")
    test = {
        "interval": "1m",
        "input_series": [
            {"series": _whole(name), "values": given} for name, given in series.items()
        ],
        "alert_rule_test": alerts or [],
        "promql_expr_test": values or [],
    }
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (folder / "tests.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", str(folder / "tests.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _whole(series: str) -> str:
    name, _, inside = series.rstrip("}").partition("{")
    foreign = name == "up" or name.startswith(("ray_", "vllm:", "sglang:"))
    own = inside.split(",") if inside else []
    taken = {label.partition("=")[0] for label in own}
    own += [f'{key}="{value}"' for key, value in _TARGET.items() if key not in taken]
    return f"{name if foreign else f'servetune_{name}'}{{{','.join(own)}}}"
