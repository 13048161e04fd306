"""What docs/api.md says of the API."""

from __future__ import annotations

import json
import re

from orchestrator.web.app import create_app
from orchestrator.web.prediction_models import (
    WEIGHT_DTYPES,
    DecodeRequest,
    DecoderLayerLayout,
    LayerLayouts,
    PrefillRequest,
)
from runtimes.hardware import SYSTEMS
from tests.orchestrator.commands import ROOT
from tests.orchestrator.web.requests import answer, call

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_it_names_every_call() -> None:
    paths = call(create_app(), "GET", "/openapi.json").json()["paths"]
    calls = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert len(calls) == 7
    assert not [name for name in calls if f"`{name}" not in PAGE]


def test_its_example_is_answered() -> None:
    (path, body) = re.findall(r"curl -s \w+:\d+(\S+) .* -d '(.*?)'", PAGE, re.DOTALL)[0]
    assert answer(create_app(), path, json.loads(body))["system"]["num_chips"] == 2


def test_it_names_systems_formats_and_fields() -> None:
    models = (PrefillRequest, DecodeRequest, DecoderLayerLayout, LayerLayouts)
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert not [name for name in {*SYSTEMS, *WEIGHT_DTYPES, *fields} if f"`{name}`" not in PAGE]
