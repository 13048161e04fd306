"""The model's revision is pinned once, by real HTTP to a local Hub, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.planning import make_plan
from orchestrator.revision import pinned
from orchestrator.spec.experiment import Experiment
from orchestrator.study import resume, run
from orchestrator.wiring import wire
from runtimes.errors import UserError
from runtimes.json_types import Json
from tests.runtimes.hub_server import BRANCH, MAIN, TOKEN, Hub, running_hub

LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with running_hub() as running:
        running.open.add(LLAMA)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def experiment(model: Json, engine: str = "vllm", **sections: Json) -> Experiment:
    data: dict[str, Json] = {
        "name": "pinned",
        "model": model,
        "engines": {engine: {}},
        "cluster": {"kind": "in_process", "simulated_gpus": 1, "accelerator": "H200"},
        "budget": {"trials": 1},
    }
    return Experiment.from_dict({**data, **sections})


def revision(of: Experiment) -> str | None:
    return pinned(wire(of)).spec.model.revision


def test_a_branch_is_pinned_and_stands_in_every_command(hub: Hub) -> None:
    found = pinned(wire(experiment({"id": "org/open", "revision": "v2"})))
    assert found.spec.model.revision == BRANCH
    assert found.spec.model.id == "org/open"
    commands = str(make_plan(found, limit=10).document())
    assert f"'--revision', '{BRANCH}'" in commands
    assert found.resolved()["model"] == {"id": "org/open", "revision": BRANCH}
    assert Experiment.from_dict(found.resolved()).spec == found.spec


def test_without_a_branch_the_default_one_is_pinned(hub: Hub) -> None:
    assert revision(experiment("org/open")) == MAIN


def test_nobody_is_asked_who_need_not_be(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1,'
        ' "intermediate_size": 64, "vocab_size": 64}'
    )
    assert revision(experiment({"path": str(folder)})) is None
    assert revision(experiment(LLAMA, engine="simulated")) is None
    assert revision(experiment(LLAMA, weights="dummy")) is None
    assert revision(experiment({"id": "org/open", "revision": "v2"}, offline=True)) == "v2"
    assert hub.requests == []
    assert revision(experiment("org/open", weights="dummy")) == MAIN, "its shape is not known"


def test_the_token_may_be_the_engines_own(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    engines: Json = {"vllm": {"env": {"HF_TOKEN": {"from_env": "MY_TOKEN"}}}}
    assert revision(experiment("org/gated", engines=engines)) == MAIN


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/gated", "model org/gated: is gated, and this user may not read it"),
        ("org/absent", "model org/absent: "),
        ({"id": "org/open", "revision": "v9"}, "model.revision 'v9': "),
    ],
)
def test_what_may_not_be_had_stops_the_run_before_it_begins(
    hub: Hub, tmp_path: Path, model: Json, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        run(experiment(model), results=tmp_path / "runs")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "runs").exists()


def test_a_run_records_the_commit_and_a_resumed_one_asks_nobody(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is not installed, so that the only trial fails; what it was told is recorded."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    result = run(experiment({"id": "org/open", "revision": "v2"}), results=tmp_path / "runs")
    recorded = yaml.safe_load((result.folder / "experiment.yaml").read_text())
    assert recorded["model"] == {"id": "org/open", "revision": BRANCH}
    (record,) = result.data.trials
    assert f"--revision {BRANCH}" in " ".join(record.command)
    asked = list(hub.requests)
    assert asked == ["GET /api/models/org/open/revision/v2"]
    resume(result.folder)
    assert hub.requests == asked
