"""What every target of `servetune export` keeps; a new file in tracking/export is tried too."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from orchestrator.cli.export import _OPTIONS, _TARGETS
from runtimes.errors import UserError
from runtimes.parallel import ParallelLayout
from runtimes.secrets import MASK
from tests.tracking.export_samples import artefact, config, deployment, documents
from tracking.export._deployment import Deployment
from tracking.export.base import TARGETS, create_target

_SECRET = "hf_abcdefghijklmnop"
_ENGINES = ("vllm", "sglang", "tensorrt_llm")
_HOSTILE = '/models/it\'s $(touch /tmp/x) `id` "q" ${HOME}\n# no: 1e3\t{{host}} é'


@pytest.fixture(params=TARGETS.names())
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _rendered(target: str, of: Deployment) -> str:
    """The artefact; empty where the target says in proper words that it cannot serve the trial."""
    try:
        return artefact(target, of)
    except UserError as refused:
        # A refusal says which trial and what to do instead.
        assert str(of.trial) in str(refused)
        assert re.search("use --to|Dynamo has workers for", str(refused))
        return ""


def test_the_command_line_names_targets_that_there_are() -> None:
    assert set(_TARGETS) <= set(TARGETS.names())


def test_it_says_how_its_file_is_used(target: str) -> None:
    described = create_target(target)
    assert described.name == target
    assert "{file}" in described.use
    assert described.options <= set(_OPTIONS)


@pytest.mark.parametrize("engine", _ENGINES)
def test_it_is_pure_and_reads_as_what_it_is(target: str, engine: str) -> None:
    of = deployment(config(engine))
    text = _rendered(target, of)
    if not text:
        return
    assert text == artefact(target, of)
    assert text.endswith("\n")
    assert "Trial 3 of demo-20260101T000000Z-abcd" in text
    if text.startswith("#!"):
        checked = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True)
        assert checked.returncode == 0, checked.stderr
    else:
        assert all(isinstance(document, dict) for document in documents(text))


@pytest.mark.parametrize("engine", _ENGINES)
def test_no_secret_and_no_placeholder_is_left(
    target: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", _SECRET)
    text = _rendered(target, deployment(config(engine)))
    if not text:
        return
    assert _SECRET not in text
    assert MASK not in text
    assert not re.search(r"\{(host|port|files|bin|master_host|python)\}", text)
    assert "HF_TOKEN" in text


def test_what_speaks_against_it_stands_at_its_top(target: str) -> None:
    of = deployment(simulated=True, flags=("client_limited",))
    head = _rendered(target, of).split("\n\n")[0]
    comments = [line for line in head.splitlines() if line.startswith("# WARNING")]
    assert any("simulated engine" in line for line in comments)
    assert any("client_limited" in line for line in comments)


def test_hostile_text_stays_text(target: str) -> None:
    text = _rendered(target, deployment(config(model=_HOSTILE)))
    if text.startswith("#!"):
        checked = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True)
        assert checked.returncode == 0, checked.stderr
    elif text:
        assert _HOSTILE in _strings(documents(text))


def test_other_devices_are_refused_or_left_out(target: str) -> None:
    of = deployment(gpu_model="MI300X")
    if target in ("command", "slurm"):
        assert "MI300X" in artefact(target, of)
    else:
        with pytest.raises(UserError, match="MI300X"):
            artefact(target, of)


def test_several_nodes_are_written_down_or_refused(target: str) -> None:
    of = deployment(config(layout=ParallelLayout(tp=8, pp=2), nodes=2))
    assert (of.nodes, of.gpus_per_node) == (2, 8)
    if target in ("slurm", "kuberay", "ray-serve", "dynamo"):
        assert artefact(target, of)
    else:
        with pytest.raises(UserError, match=r"on 2 nodes.*use --to"):
            artefact(target, of)


def _strings(value: Any) -> set[str]:
    """Every text in a document, doubled dollar signs undone, YAML inside text read as well."""
    if isinstance(value, dict):
        return set().union(*map(_strings, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_strings, value)) if value else set()
    if not isinstance(value, str):
        return set()
    found = {value, value.replace("$$", "$")}
    if value.startswith("applications:"):
        found |= _strings(yaml.safe_load(value))
    return found
