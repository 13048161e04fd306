"""What vLLM would refuse, found before a GPU is touched.

Each rule is one function that returns a `Refusal` with the rule, the values at hand and the
nearest valid ones, or None. The rules are those of vLLM 0.32 and 0.33; the docstring of each names
the file of vLLM 0.33 that enforces it. A rule whose facts are unknown says nothing: refusing what
would have run costs more than a failed start.
"""

from __future__ import annotations

from collections.abc import Callable

from runtimes.engines import (
    _vllm_rules_attention,
    _vllm_rules_experts,
    _vllm_rules_layout,
    _vllm_rules_precision,
    _vllm_rules_scheduler,
    _vllm_rules_speculation,
)
from runtimes.engines._flags import FlagTable
from runtimes.engines._vllm_case import Case
from runtimes.engines._vllm_command import Command
from runtimes.engines._vllm_memory import weights_fit
from runtimes.engines.base import Refusal
from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.plan import EngineConfig

RULES: tuple[Callable[[Case], Refusal | None], ...] = (
    *_vllm_rules_layout.RULES,
    *_vllm_rules_experts.RULES,
    *_vllm_rules_scheduler.RULES,
    *_vllm_rules_speculation.RULES,
    *_vllm_rules_precision.RULES,
    *_vllm_rules_attention.RULES,
    weights_fit,
)
"""Every rule, in the order in which they are asked."""


def broken_rule(
    config: EngineConfig,
    command: Command,
    model: ModelFacts | None,
    accelerator: Accelerator | None,
    table: FlagTable | None,
) -> Refusal | None:
    """The first rule that `command`, made of `config`, breaks; None when it breaks none."""
    case = Case.of(config, command, model, accelerator, table)
    return next((refusal for rule in RULES if (refusal := rule(case)) is not None), None)
