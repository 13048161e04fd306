"""What every registered workload promises; a new one is tried as soon as its file exists."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Mapping

import pytest

from runtimes.json_types import Json
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext

VOCAB = 32_000
SEED = 11
STAGES = ("warmup-0", "0", "1", "warmup-1")

SETTINGS: Mapping[str, Mapping[str, Json]] = {
    "synthetic": {"input_tokens": {"mean": 48, "stddev": 16}, "output_tokens": 8},
}
"""Settings of small requests, by workload. One that is absent is tried with the defaults of a
prompt and an output length."""

DEFAULT_SETTINGS: Mapping[str, Json] = {"input_tokens": 32, "output_tokens": 8}

_DIGEST_IN_ANOTHER_PROCESS = """
import pickle, sys, hashlib
workload = pickle.load(sys.stdin.buffer)
print(hashlib.sha256(repr(workload.prompts("0", 20)).encode()).hexdigest())
"""


def make(name: str, *, seed: int = SEED) -> Workload:
    settings = SETTINGS.get(name, DEFAULT_SETTINGS)
    return WORKLOADS.get(name).from_settings(settings, WorkloadContext(VOCAB, seed))


@pytest.mark.parametrize("name", WORKLOADS.names())
class TestWorkload:
    """The contract of `runtimes.workloads.base.Workload`."""

    def test_carries_its_registered_name(self, name: str) -> None:
        assert make(name).name == name

    def test_gives_as_many_prompts_as_asked_for(self, name: str) -> None:
        for count in (0, 1, 25):
            prompts = make(name).prompts("0", count)
            assert len(prompts) == count
            assert all(type(prompt) is Prompt for prompt in prompts)

    def test_calls_leave_no_trace(self, name: str) -> None:
        used = make(name)
        first = used.prompts("0", 20)
        used.prompts("1", 7)
        assert used.prompts("0", 20) == first == make(name).prompts("0", 20)

    def test_more_prompts_begin_with_the_same(self, name: str) -> None:
        assert make(name).prompts("0", 30)[:12] == make(name).prompts("0", 12)

    def test_seeds_give_other_prompts(self, name: str) -> None:
        assert make(name).prompts("0", 20) != make(name, seed=SEED + 1).prompts("0", 20)

    def test_no_prompt_of_an_engines_life_comes_twice(self, name: str) -> None:
        prompts = [prompt for stage in STAGES for prompt in make(name).prompts(stage, 200)]
        assert len({prompt.token_ids for prompt in prompts}) == len(prompts)

    def test_ids_and_lengths_are_within_bounds(self, name: str) -> None:
        workload = make(name)
        for prompt in workload.prompts("0", 200):
            assert all(type(token) is int and 0 <= token < VOCAB for token in prompt.token_ids)
            assert prompt.token_ids
            assert prompt.output_tokens >= 1
            assert len(prompt.token_ids) + prompt.output_tokens <= workload.max_context

    def test_is_a_value(self, name: str) -> None:
        workload = make(name)
        assert pickle.loads(pickle.dumps(workload)) == workload == make(name)
        assert hash(workload) == hash(make(name))

    def test_another_process_makes_the_same_prompts(self, name: str) -> None:
        workload = make(name)
        digest = hashlib.sha256(repr(workload.prompts("0", 20)).encode()).hexdigest()
        other = subprocess.run(
            [sys.executable, "-c", _DIGEST_IN_ANOTHER_PROCESS],
            input=pickle.dumps(workload),
            env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        )
        assert other.stdout.decode().strip() == digest

    def test_wrong_settings_are_refused_by_name(self, name: str) -> None:
        settings = {**SETTINGS.get(name, DEFAULT_SETTINGS), "no_such_setting": 1}
        with pytest.raises(ValueError, match=r"^no_such_setting: "):
            WORKLOADS.get(name).from_settings(settings, WorkloadContext(VOCAB, SEED))
