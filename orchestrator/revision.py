"""Pinning the model's revision, once, before anything is started."""

from __future__ import annotations

from pathlib import Path

from orchestrator.spec.experiment import Experiment
from orchestrator.spec.models import ExperimentSpec
from orchestrator.wiring import Study
from runtimes.engines.base import ENGINES
from runtimes.hub import resolve
from runtimes.model import find_model

_TOKEN = "HF_TOKEN"


def pinned(study: Study) -> Experiment:
    """The study's experiment with `model.revision` as a commit, where engines load a Hub model.

    So every trial, and a resumed run, loads the same weights. Unchanged when no engine opens the
    model's files, when the model is a folder, or when nobody could name a commit.

    Raises:
        UserError: a secret is not set; the repository or the revision is missing, or not open to
            this user.
    """
    experiment = study.experiment
    spec = experiment.spec
    if not _asks_hub(spec):
        return experiment
    assert spec.model.id is not None
    resolved = resolve(
        spec.model.id, spec.model.revision, offline=spec.offline, token=_engines_token(study)
    )
    if resolved.commit is None or resolved.commit == spec.model.revision:
        return experiment
    model = spec.model.model_copy(update={"revision": resolved.commit})
    return Experiment(spec.model_copy(update={"model": model}), experiment.source)


def _engines_token(study: Study) -> str | None:
    """The token that an engine is given, where it is not the one of this environment."""
    given = (study.secrets(name).get(_TOKEN) for name in study.experiment.spec.engines)
    return next((token for token in given if token), None)


def _asks_hub(spec: ExperimentSpec) -> bool:
    model = spec.model
    if model.id is None or Path(model.id).exists():
        return False
    if not any(ENGINES.get(name).loads_model for name in spec.engines):
        return False
    known = spec.weights == "dummy" and find_model(model.id, model.revision) is not None
    return not known
