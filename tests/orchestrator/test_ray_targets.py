"""Where Ray serves metrics of its own: read from the file that it keeps for Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cluster.ray_metrics import FILE_NAME, written_targets


def test_all_targets_of_the_file_are_read(tmp_path: Path) -> None:
    groups = [
        {"labels": {"job": "ray"}, "targets": ["192.0.2.2:33943", "192.0.2.2:44217"]},
        {"labels": {"job": "ray"}, "targets": ["192.0.2.3:40123"]},
    ]
    (tmp_path / FILE_NAME).write_text(json.dumps(groups))
    assert written_targets(tmp_path) == ("192.0.2.2:33943", "192.0.2.2:44217", "192.0.2.3:40123")


@pytest.mark.parametrize("text", [None, "", "[", "3", "[3]", "[{}]", '[{"targets": null}]'])
def test_a_file_that_is_absent_or_broken_names_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE_NAME).write_text(text)
    assert written_targets(tmp_path) == ()
