"""What a prefix cache holds when a stage of load begins, and what can be expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from runtimes.workloads.base import Prompt


class CacheState(Enum):
    """The state that each stage starts from; the value is what users write.

    Attributes:
        COLD: nothing that a prompt of the stage begins with, but for what the stage sends itself.
        WARM: the workload's primers, sent one after the other before the stage.
    """

    COLD = "cold"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """The prefix cache of one server as it says itself; None where it does not say.

    Attributes:
        enabled: whether it keeps computed prefixes for later prompts.
        block_tokens: tokens of one block of the KV cache, the unit in which prefixes are kept.
        capacity_tokens: tokens that one replica's KV cache has room for.
        replicas: engines behind the server, each with a cache of its own.
    """

    enabled: bool | None = None
    block_tokens: int | None = None
    capacity_tokens: int | None = None
    replicas: int = 1

    def keeps(self, tokens: int) -> bool:
        """Whether a prompt finds again whatever was sent before it, among `tokens` in all.

        Not where nothing is kept, where a prompt may meet another replica than its prefix did,
        and where prefixes have to go to make room.
        """
        room = self.capacity_tokens is None or tokens <= self.capacity_tokens
        return self.enabled is not False and self.replicas == 1 and room


def unprimed(prompts: Sequence[Prompt], primers: Sequence[Prompt]) -> list[Prompt]:
    """`prompts` as a cache meets them that `primers` did not warm.

    The first prompt that begins with a primer shares nothing; it is what the later ones find.
    """
    left = {primer.token_ids for primer in primers}
    lengths = {len(tokens) for tokens in left}
    met = []
    for prompt in prompts:
        begun = {prompt.token_ids[:length] for length in lengths} & left
        left -= begun
        met.append(replace(prompt, shared_tokens=0) if begun else prompt)
    return met
