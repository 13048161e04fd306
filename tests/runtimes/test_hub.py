"""Revisions resolved by real HTTP against a local server that answers as the Hub does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.errors import UserError
from runtimes.hub import Resolved, resolve
from tests.runtimes.hub_server import BRANCH, MAIN, TOKEN, Hub, running_hub

CACHED = "c" * 40
REMEDY = "export HF_TOKEN=… where servetune runs, or log in with `hf auth login`"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for the Hub's library, and no token but the test's own."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
                 "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def cache(home: Path, model: str, ref: str = "main") -> None:
    repository = home / "hub" / f"models--{model.replace('/', '--')}"
    (repository / "snapshots" / CACHED).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / ref).write_text(CACHED)


@pytest.mark.parametrize(
    ("model", "revision", "commit"),
    [
        ("org/open", None, MAIN),
        ("org/open", "main", MAIN),
        ("org/open", "v2", BRANCH),
        ("org/open", BRANCH, BRANCH),
        ("solo", None, MAIN),
    ],
)
def test_a_branch_becomes_a_commit(hub: Hub, model: str, revision: str | None, commit: str) -> None:
    assert resolve(model, revision) == Resolved(commit, "hub")
    assert len(hub.requests) == 1


def test_a_gated_model_with_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("org/gated", None, token=TOKEN) == Resolved(MAIN, "hub")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve("org/gated", "v2") == Resolved(BRANCH, "hub")
    assert hub.requests[-1] == f"HEAD /org/gated/resolve/{BRANCH}/config.json"


def test_a_gated_model_without_one(hub: Hub) -> None:
    with pytest.raises(UserError) as caught:
        resolve("org/gated", None)
    assert str(caught.value) == (
        f"model org/gated: is gated, and this user may not read it. Ask for access at "
        f"{hub.url}/org/gated, then {REMEDY}"
    )


def test_a_gated_model_without_a_configuration(hub: Hub) -> None:
    hub.without_config.add("org/gated")
    assert resolve("org/gated", None, token=TOKEN) == Resolved(MAIN, "hub")


def test_a_private_model(hub: Hub) -> None:
    assert resolve("org/private", None, token=TOKEN) == Resolved(MAIN, "hub")
    with pytest.raises(UserError, match="has no such repository, or it is private"):
        resolve("org/private", None)


def test_a_missing_model(hub: Hub, home: Path) -> None:
    cache(home, "org/opem")
    with pytest.raises(UserError) as caught:
        resolve("org/opem", None)
    assert str(caught.value) == (
        f"model org/opem: {hub.url} has no such repository, or it is private. "
        f"Check the spelling; for a private one {REMEDY}"
    )


def test_a_missing_revision(hub: Hub) -> None:
    with pytest.raises(UserError) as caught:
        resolve("org/open", "v3")
    assert str(caught.value) == (
        f"model.revision 'v3': {hub.url}/org/open has no such branch, tag or commit; "
        "leave it out for the default branch"
    )


def test_a_token_that_the_hub_refuses(hub: Hub) -> None:
    with pytest.raises(UserError, match=r"refuses the token \(HTTP 401\); export HF_TOKEN"):
        resolve("org/open", None, token="hf_bad")


@pytest.mark.parametrize("model", ["./folder", "/models/x", "a/b/c", "..", "a b", "org/", "-x"])
def test_what_is_no_hub_id(home: Path, model: str) -> None:
    with pytest.raises(UserError, match="is neither a folder here nor a Hub id"):
        resolve(model, None)


def test_a_hub_that_is_out_of_order(hub: Hub, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub.failure = 503
    assert resolve("org/open", None) == Resolved(None, "unknown")
    assert f"{hub.url} answers with HTTP 503, and no snapshot of it is cached here" in caplog.text
    cache(home, "org/open")
    assert resolve("org/open", None) == Resolved(CACHED, "cache")


def test_a_hub_that_nobody_reaches(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_hub() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert resolve("org/open", "v2") == Resolved(None, "unknown")
    assert f"{gone.url} cannot be reached" in caplog.text
    assert "its revision v2 may come to mean other weights while the study runs" in caplog.text
    assert resolve("org/open", MAIN) == Resolved(MAIN, "given")
    assert not hub.requests


@pytest.mark.parametrize("by", ["argument", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_nobody_is_asked(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    offline = by == "argument"
    if not offline:
        monkeypatch.setenv(by, "1")
    cache(home, "org/open", "v2")
    assert resolve("org/open", "v2", offline=offline) == Resolved(CACHED, "cache")
    assert resolve("org/open", None, offline=offline) == Resolved(None, "unknown")
    assert resolve("org/open", BRANCH, offline=offline) == Resolved(BRANCH, "given")
    assert not hub.requests


def test_importing_it_does_not_import_the_library() -> None:
    code = "import sys, runtimes.hub; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
