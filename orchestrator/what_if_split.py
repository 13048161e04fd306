"""Deployments that compute prompts on some engines and answers on others, as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.hardware import Accelerator
from runtimes.parallel import ParallelLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Engines of one kind: how each is laid out, on what, and how many there are."""

    layout: ParallelLayout
    accelerator: Accelerator
    engines: int = 1

    def __str__(self) -> str:
        return f"{self.engines} × {self.layout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A pool for prompts and one for answers."""

    prefill: Pool
    decode: Pool

    def __str__(self) -> str:
        return f"{self.prefill} → {self.decode}"

    @property
    def pools(self) -> dict[str, Pool]:
        """Both, by what they do."""
        return {"prefill": self.prefill, "decode": self.decode}

    @property
    def accelerator(self) -> str:
        """The names of what it runs on."""
        names = dict.fromkeys(pool.accelerator.name for pool in self.pools.values())
        return " → ".join(names)
