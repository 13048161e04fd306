"""The `environment` of an engine: from the file to the plan, and written out again."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.spec import Experiment
from orchestrator.spec.experiment import dump_yaml
from orchestrator.wiring import wire
from runtimes.json_types import Json
from runtimes.plan import Environment
from search.trial import Params


def experiment(environment: Json) -> Experiment:
    return Experiment.from_dict(
        {
            "name": "n",
            "model": "meta-llama/Llama-3.1-8B",
            "engines": {"vllm": {"environment": environment}},
        }
    )


@pytest.mark.parametrize(
    ("written", "meant", "command"),
    [
        (
            {"python": "/opt/vllm/bin/python"},
            Environment(python="/opt/vllm/bin/python"),
            "/opt/vllm/bin/vllm",
        ),
        (
            {
                "requirements": ["vllm==0.33.0", "--extra-index-url=https://${TOKEN}@host/simple"],
                "overrides": ["transformers==5.0"],
                "wheels": ["/srv/wheels"],
                "python": "/usr/bin/python3.12",
            },
            Environment(
                python="/usr/bin/python3.12",
                requirements=(
                    "vllm==0.33.0",
                    "--extra-index-url=https://${TOKEN}@host/simple",
                ),
                overrides=("transformers==5.0",),
                wheels=("/srv/wheels",),
            ),
            "{bin}/vllm",
        ),
        (
            {"image": "vllm/vllm-openai:v0.33.0", "container": "podman", "version": "0.33.0"},
            Environment(image="vllm/vllm-openai:v0.33.0", container="podman", version="0.33.0"),
            "vllm",
        ),
        ({"label": "engine-vllm"}, Environment(label="engine-vllm"), "vllm"),
        (
            {"label": "engine-vllm", "python": "/opt/vllm/bin/python"},
            Environment(label="engine-vllm", python="/opt/vllm/bin/python"),
            "/opt/vllm/bin/vllm",
        ),
        ({"version": "0.32.0"}, Environment(version="0.32.0"), "vllm"),
    ],
    ids=["python", "requirements", "image", "label", "label-and-python", "version"],
)
def test_what_is_written_is_what_is_planned(
    written: Json, meant: Environment, command: str
) -> None:
    made = experiment(written)
    study = wire(made)
    template = study.templates["vllm"]
    assert template.environment == meant
    assert meant.command("vllm") == command
    again = yaml.safe_load(dump_yaml(made.resolved()))
    assert again["engines"]["vllm"]["environment"] == written
    assert wire(Experiment.from_dict(again)).templates["vllm"].environment == meant


def test_no_environment_is_the_command_on_path() -> None:
    study = wire(Experiment.from_dict({"name": "n", "model": "m", "engines": {"vllm": {}}}))
    assert study.templates["vllm"].environment == Environment()


def test_a_command_to_paste_names_no_folder_that_is_still_to_be_built() -> None:
    study = wire(experiment({"requirements": ["vllm==0.33.0"]}))
    plan = study.admission.plan(Params("vllm"))
    assert plan.argv[:2] == ("{bin}/vllm", "serve")
    assert plan.deploy[:2] == ("vllm", "serve")
    assert plan.deploy[2:] == plan.argv[2:]
