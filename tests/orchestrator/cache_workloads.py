"""Workloads that tell of the prefix cache: one that breaks its promise, one of shared prefixes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.messages import TrialOrder
from runtimes.json_types import Json
from runtimes.workloads.base import Prompt, WorkloadContext
from runtimes.workloads.synthetic import SyntheticWorkload

BLOCK = 32
"""Tokens of a block of an engine's cache, or of several; a prompt has four of them."""


def settings() -> dict[str, Json]:
    return {"input_tokens": 4 * BLOCK, "output_tokens": 4}


class Repeating(SyntheticWorkload):
    """Breaks its promise: every stage sends the prompts of the first."""

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        return super().prompts("0", count)


class OnePrefix(SyntheticWorkload):
    """Three of the four blocks of each prompt are the same, in each stage others."""

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        plain = super().prompts(stage, count + 1)
        prefix = plain[0].token_ids[: 3 * BLOCK]
        return [
            replace(
                prompt,
                token_ids=prefix + prompt.token_ids[3 * BLOCK :],
                shared_tokens=len(prefix),
            )
            for prompt in plain[1:]
        ]

    def primers(self, stage: str) -> list[Prompt]:
        (first,) = self.prompts(stage, 1)
        return [replace(first, token_ids=first.token_ids[: 3 * BLOCK + 1], output_tokens=1)]


def with_workload(kind: type[SyntheticWorkload], base: TrialOrder) -> TrialOrder:
    context = WorkloadContext(vocab=1000, seed=1)
    return replace(base, workload=kind.from_settings(settings(), context))
