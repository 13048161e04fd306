"""`servetune predict` as its tests call it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli import main

LLAMA = "meta-llama/Llama-3.1-70B"


def asked(*options: str) -> int:
    """The exit code of `servetune predict` with these options."""
    return main(["predict", *options])


def documented(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """The points of the JSON document that the options give."""
    asked(*options, "--json")
    points: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["points"]
    return points
