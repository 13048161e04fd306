"""How many prompts a stage that is to last for a time has ready."""

from __future__ import annotations

import pytest
import yaml

from orchestrator.spec.experiment import Experiment
from orchestrator.wiring import wire
from runtimes.load.arrivals import ConcurrencyLoad, StopRules
from runtimes.load.program import LoadProgram, SingleStage


def program(lengths: str, load: str) -> LoadProgram:
    """The load of a minute at four streams."""
    text = f"""
name: n
model: meta-llama/Llama-3.1-8B
engines: {{simulated: {{}}}}
cluster: {{kind: in_process, accelerator: H100, simulated_gpus: 1}}
workload: {{{lengths}, load: {{kind: concurrency, value: 4, duration: 1m, {load}}}}}
"""
    return wire(Experiment.from_dict(yaml.safe_load(text))).program


@pytest.mark.parametrize(
    ("lengths", "requests"),
    [
        ("input_tokens: 64, output_tokens: 1024", 480),
        ("input_tokens: 64, output_tokens: 128", 480),
        ("input_tokens: 64, output_tokens: 64", 800),
        ("input_tokens: 64, output_tokens: 1", 4453),
        # As many prompts as have eight million tokens together.
        ("input_tokens: 7999, output_tokens: 1", 1000),
    ],
)
def test_short_answers_end_sooner_and_need_more_prompts(lengths: str, requests: int) -> None:
    stop = StopRules(duration_s=60, reserve=True)
    assert program(lengths, "") == SingleStage(ConcurrencyLoad(4, requests, stop))


def test_what_was_asked_for_is_a_limit_of_its_own() -> None:
    stop = StopRules(duration_s=60)
    made = program("input_tokens: 64, output_tokens: 1", "requests: 900")
    assert made == SingleStage(ConcurrencyLoad(4, 900, stop))
