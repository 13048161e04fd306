"""A workload says what the requests are; the load says when they are sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.registry import Registry


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's content.

    Attributes:
        token_ids: the prompt, as token ids.
        output_tokens: tokens to ask for; generation is forced to this length.
    """

    token_ids: tuple[int, ...]
    output_tokens: int


class Workload(ABC):
    """Prompts as a function of (seed, stage, index), and of nothing else.

    Implementations are frozen dataclasses; they are pickled to where the load runs.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Json], *, vocab: int, seed: int) -> Workload:
        """Build from the checked `workload` section of an experiment.

        Args:
            settings: the section's own keys (`input_tokens`, `output_tokens`, …).
            vocab: size of the model's vocabulary; token ids stay below it.
            seed: seed of the experiment.

        Raises:
            ValueError: a setting is wrong; the message starts with the setting's name.
        """

    @abstractmethod
    def prompts(self, stage: str, count: int) -> list[Prompt]:
        """The first `count` prompts of `stage` ("warmup-0", "0", …).

        Equal arguments give equal prompts on every machine. No two prompts of one engine's life
        are equal, so that no prefix cache helps where the workload does not mean it to.
        """

    @property
    @abstractmethod
    def max_context(self) -> int:
        """Tokens of the longest request, prompt and output together."""


WORKLOADS: Registry[type[Workload]] = Registry(
    "workload", package="runtimes.workloads", group="servetune.workloads"
)
