"""A workload of somebody else's: one class, and the file takes its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml

from orchestrator.spec import Experiment
from orchestrator.wiring import wire
from runtimes.errors import SpecError
from runtimes.json_types import Json
from runtimes.load.arrivals import (
    ConstantLoad,
)
from runtimes.load.program import SingleStage
from runtimes.workloads.base import WORKLOADS, Prompt, Workload, WorkloadContext
from tests.orchestrator.test_workload_section import experiment


@dataclass(frozen=True, slots=True)
class Echo(Workload):
    """Prompts of one length, twice the answer's."""

    tokens: int
    name: ClassVar[str] = "echo"
    required: ClassVar[tuple[str, ...]] = ("tokens",)
    defaults: ClassVar[Mapping[str, Json]] = {"note": None, "loud": False}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Json], context: WorkloadContext) -> Echo:
        tokens = settings["tokens"]
        if not isinstance(tokens, int):
            raise ValueError(f"tokens: must be a whole number, got {tokens!r}; write one")
        if settings.get("loud") is True and context.chat:
            raise ValueError("loud: cannot be heard in a chat")
        return cls(tokens)

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        return [Prompt((1,) * self.tokens, self.tokens // 2)] * min(count, 40)

    @property
    def max_context(self) -> int:
        return 2 * self.tokens

    @property
    def size(self) -> int | None:
        return 40


@pytest.fixture
def echo() -> Iterator[None]:
    known = dict(WORKLOADS.entries())
    WORKLOADS.add("echo", Echo)
    yield
    WORKLOADS._entries.clear()
    WORKLOADS._entries.update(known)


@pytest.mark.usefixtures("echo")
def test_a_workload_of_one_class_is_a_section_of_its_own() -> None:
    found = experiment("kind: echo, tokens: 30, load: {kind: constant, rate: 3}")
    assert found.spec.workload.settings == {"tokens": 30, "loud": False, "note": None}
    assert found.spec.workload.as_json() == {
        "kind": "echo",
        "tokens": 30,
        "loud": False,
        "api": "completions",
        "cache": "auto",
        "load": {"kind": "constant", "rate": 3.0, "processes": "auto", "engine": "own"},
    }
    study = wire(found)
    assert study.workload == Echo(30)
    assert study.program == SingleStage(ConstantLoad(3, 40))


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("section", "lines"),
    [
        (
            "kind: echo, tokns: 30",
            [
                "  - workload.tokns: unknown key 'tokns'",
                "      did you mean 'tokens'? known here: api, cache, kind, load, loud, note, "
                "tokens, warmup_requests",
                "  - workload.tokens: this key is required and missing",
                "      add it: the workload echo has no default for it",
            ],
        ),
        (
            "kind: echo, tokens: thirty, loud: true, api: chat",
            ["  - workload.tokens: must be a whole number (got 'thirty')", "      write one"],
        ),
        (
            "kind: echo, tokens: 30, loud: true, api: chat, cache: warm",
            ["  - workload.loud: cannot be heard in a chat (got True)"],
        ),
        (
            "kind: echo, tokens: 100000",
            [
                "  - workload: requests are longer than the model's context (got 200000 tokens, "
                "the model takes 131072)",
                "      make prompts or outputs shorter",
            ],
        ),
    ],
)
def test_what_it_refuses_is_told_as_everything_else(section: str, lines: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        experiment(section)
    assert str(caught.value).splitlines()[1:] == lines


@pytest.mark.usefixtures("echo")
def test_arguments_are_tied_only_to_what_the_workload_says() -> None:
    text = "args: {max-model-len: {equals: input_tokens}}"
    with pytest.raises(SpecError, match="the workload echo has no input_tokens of its own"):
        Experiment.from_dict(
            yaml.safe_load(
                f"name: n\nmodel: m\nengines: {{vllm: {{{text}}}}}\n"
                "workload: {kind: echo, tokens: 3}\n"
            )
        )
