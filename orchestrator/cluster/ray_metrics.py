"""Where Ray serves metrics of its own, as its dashboard writes it down for Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

FILE_NAME = "prom_metrics_service_discovery.json"
"""Ray's name for the file, in the folder of its session."""


def written_targets(session: Path) -> tuple[str, ...]:
    """The `host:port` in the file of `session`; none where there is no such file to be read."""
    try:
        groups = json.loads((session / FILE_NAME).read_text(encoding="utf-8"))
        return tuple(str(target) for group in groups for target in group["targets"])
    except (OSError, ValueError, LookupError, TypeError):
        return ()
