"""What the performance model is asked: one deployment under one load."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtimes.hardware import Accelerator
from runtimes.model import ModelFacts
from runtimes.quantization import Quantization
from runtimes.serving_limits import ServingLimits
from search.perfmodel.layers import LayerGroup
from search.perfmodel.spread import Spread

__all__ = ["Configuration", "Load", "Question", "Speculation", "Spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Drafts per step, and the share of them that is accepted, each given the one before it."""

    draft_tokens: int
    acceptance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One deployment.

    Attributes:
        engine: registered name of the engine whose overheads and memory rule hold.
        limits: what the engine was told about batches and memory.
        layers: layers with degrees of their own; empty for those that follow from `spread`.
    """

    model: ModelFacts
    accelerator: Accelerator
    engine: str
    spread: Spread = field(default_factory=Spread)
    quantization: Quantization = field(default_factory=Quantization)
    limits: ServingLimits = field(default_factory=ServingLimits)
    speculation: Speculation | None = None
    layers: tuple[LayerGroup, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of one kind; exactly one of `concurrency`, `request_rate`
    and `saturated` says how many.

    Attributes:
        input_tokens: mean length of a prompt.
        output_tokens: mean length of an answer.
        prefix_hit: share of a prompt that is found in the prefix cache, in [0, 1).
        concurrency: requests under way at any time, over all replicas (closed loop).
        request_rate: requests that arrive per second, over all replicas, at random (open loop).
        equal_lengths: True where all prompts and all answers are as long as the mean, so that
            requests that start together also end together and their successors meet again.
        saturated: True for more requests at once than memory and limits let run (offline).
    """

    input_tokens: float
    output_tokens: float
    prefix_hit: float = 0.0
    equal_lengths: bool = False
    concurrency: float | None = None
    request_rate: float | None = None
    saturated: bool = False

    def __post_init__(self) -> None:
        given = (self.concurrency is not None, self.request_rate is not None, self.saturated)
        if sum(given) != 1:
            raise ValueError("give one of concurrency, request_rate and saturated")


@dataclass(frozen=True, slots=True)
class Question:
    """A deployment and what is sent to it."""

    configuration: Configuration
    load: Load
