"""Stages of load in the experiment file: when requests are sent, and what ends a stage."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from orchestrator.spec.base import Section
from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.values import Amount, Count, DurationS
from runtimes.load.arrivals import (
    ConcurrencyLoad,
    ConstantLoad,
    GammaLoad,
    Load,
    PoissonLoad,
    RampLoad,
    ReplayLoad,
    StopRules,
)
from runtimes.workloads.base import Workload
from tracking.words import count

_MIN_REQUESTS = 32
_REQUESTS_PER_STREAM = 8
_OPEN_REQUESTS = 200
_STREAM_RATE = 2.0
_FIRST_TOKEN_S = 0.05
_TOKENS_PER_S = 256.0
_RESERVE_TOKENS = 8_000_000
"""A closed loop limited by time has prompts for this many requests a second of each stream: two,
or, for shorter answers, what a fast server makes of them, as far as they hold no more tokens
together, since all of them are made beforehand."""
_SAMPLED = 64
"""Prompts that tell how long a workload's answers are."""
_SPARE_SHARE = 1.2
_SPARE_REQUESTS = 32
"""What an open loop limited by time has ready beyond the mean of its arrivals, which vary."""


Rate: TypeAlias = Annotated[Amount, Field(ge=1e-4, le=1e9)]
"""Requests per second, of which a schedule can be made in ns of 64 bits."""
Share: TypeAlias = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
"""A part of a whole, above zero."""
From: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]


class StopKeys(Section):
    """What ends a stage; the first that holds."""

    kind: str
    requests: Count | None = None
    duration: DurationS | None = None
    output_tokens: Count | None = None
    error_rate: Share | None = None
    interval_width: Share | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds after which the stage ends; None for no limit."""
        return self.duration

    def stop_rules(self) -> StopRules:
        """The same, as a load carries it."""
        return StopRules(
            duration_s=self.duration_s,
            output_tokens=self.output_tokens,
            error_rate=self.error_rate,
            interval_width=self.interval_width,
        )

    def end_words(self, requests: int) -> str:
        """`512 requests or 60 s`: what ends a stage of so many requests at most."""
        ends = [count(requests, "request")]
        if self.duration_s is not None:
            ends.append(f"{self.duration_s:g} s")
        if self.output_tokens is not None:
            ends.append(count(self.output_tokens, "output token"))
        if self.error_rate is not None:
            ends.append(f"{100 * self.error_rate:g} % of requests failed")
        if self.interval_width is not None:
            ends.append(f"intervals of {100 * self.interval_width:g} %")
        return listed(ends, "or")


@dataclass(frozen=True, slots=True)
class Supply:
    """What a workload has for each stage.

    Attributes:
        size: requests; None for no end.
        output_tokens: mean length of an answer; 0 where it is unknown.
        max_context: tokens of the longest request, prompt and answer together.
    """

    size: int | None = None
    output_tokens: float = 0.0
    max_context: int = 1

    @classmethod
    def of(cls, workload: Workload) -> Supply:
        prompts = workload.prompts("0", _SAMPLED)
        tokens = sum(prompt.output_tokens for prompt in prompts)
        return cls(workload.size, tokens / max(1, len(prompts)), workload.max_context)


class StageSpec(StopKeys):
    """One stage of load.

    Class attributes:
        needs_arrivals: True when it sends at times that only a recorded workload has.
    """

    needs_arrivals: ClassVar[bool] = False

    @model_validator(mode="after")
    def _enough_for_its_streams(self) -> Self:
        self.check_requests(self.requests)
        return self

    def check_requests(self, requests: int | None) -> None:
        """Refuse fewer requests than the stage is to hold in flight."""
        if requests is not None and requests < self.streams:
            raise RefusedValueError(
                f"`requests` ({requests}) are fewer than the {self.streams:g} that are to be in "
                f"flight at once",
                "send several times as many, or hold fewer in flight",
            )

    @property
    def streams(self) -> float:
        """Requests that a closed loop holds in flight at most; 0 for an open loop."""
        return 0

    @abstractmethod
    def wanted(self, supply: Supply) -> int | None:
        """Requests of the stage at most; None for as many as the workload has."""

    @property
    def request_count(self) -> int | None:
        """The same, whatever the workload."""
        return self.wanted(Supply())

    def stop_rules(self) -> StopRules:
        reserve = self.requests is None and self.duration_s is not None
        return replace(super().stop_rules(), reserve=reserve)

    @abstractmethod
    def load(self, requests: int) -> Load:
        """The same, as it is run, with `requests` of them."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is sent when, for a reader."""

    def bounded(self, supply: Supply) -> int:
        """Requests of the stage at most, of a workload that has `supply`."""
        wanted = self.wanted(supply)
        if supply.size is None:
            return _OPEN_REQUESTS if wanted is None else wanted
        return supply.size if wanted is None else min(wanted, supply.size)


class ConcurrencyStage(StageSpec):
    """Closed loop: `value` requests always in flight."""

    kind: Literal["concurrency"]
    value: Count

    @property
    def streams(self) -> float:
        return self.value

    def wanted(self, supply: Supply) -> int:
        """Enough per stream by default that ramps weigh little, or that the time is filled."""
        if self.requests is not None:
            return self.requests
        filling = _filling(self.value, self.duration_s or 0.0, supply)
        return max(_closed_requests(self.value), filling)

    def load(self, requests: int) -> Load:
        return ConcurrencyLoad(self.value, requests, self.stop_rules())

    @property
    def words(self) -> str:
        return f"{count(self.value, 'request')} in flight"


class RateStage(StageSpec):
    """Open loop: `rate` requests a second, whatever the server does."""

    rate: Rate

    def wanted(self, supply: Supply) -> int:
        if self.requests is not None:
            return self.requests
        if self.duration_s is None:
            return _OPEN_REQUESTS
        return _spared(self.rate * self.duration_s)


class ConstantStage(RateStage):
    """Arrivals at equal gaps."""

    kind: Literal["constant"]

    def load(self, requests: int) -> Load:
        return ConstantLoad(self.rate, requests, self.stop_rules())

    @property
    def words(self) -> str:
        return f"{self.rate:g} requests/s at equal gaps"


class PoissonStage(RateStage):
    """Arrivals at random times: exponential gaps."""

    kind: Literal["poisson"]

    def load(self, requests: int) -> Load:
        return PoissonLoad(self.rate, requests, self.stop_rules())

    @property
    def words(self) -> str:
        return f"{self.rate:g} requests/s at random times"


class GammaStage(RateStage):
    """Arrivals with gamma gaps, whose coefficient of variation is `cv`: above 1 in bursts."""

    kind: Literal["gamma"]
    cv: Annotated[Amount, Field(ge=0.001, le=1000)]

    def load(self, requests: int) -> Load:
        return GammaLoad(self.rate, self.cv, requests, self.stop_rules())

    @property
    def words(self) -> str:
        return f"{self.rate:g} requests/s, gaps varying by {self.cv:g} times their mean"


class RampStage(StageSpec):
    """Concurrency or rate that goes from one value to another, evenly over `over`.

    Without `duration` the stage ends with the ramp.
    """

    kind: Literal["ramp"]
    of: Literal["concurrency", "rate"]
    start: Annotated[From, Field(alias="from")]
    end: Annotated[Rate, Field(alias="to")]
    over: DurationS

    @model_validator(mode="after")
    def _whole_requests(self) -> RampStage:
        whole = self.start >= 1 and self.start.is_integer() and self.end.is_integer()
        if self.of == "concurrency" and not whole:
            raise RefusedValueError(
                "requests in flight are whole numbers from 1",
                "write such numbers as `from` and `to`, or `of: rate`",
            )
        return self

    @property
    def streams(self) -> float:
        return max(self.start, self.end) if self.of == "concurrency" else 0

    @property
    def duration_s(self) -> float | None:
        return self.over if self.duration is None and self.requests is None else self.duration

    def wanted(self, supply: Supply) -> int:
        if self.requests is not None:
            return self.requests
        lasts_s = self.duration_s or self.over
        ramped_s = min(lasts_s, self.over)
        reached = self.start + (self.end - self.start) * ramped_s / self.over
        area = (self.start + reached) / 2 * ramped_s + self.end * (lasts_s - ramped_s)
        if self.of == "rate":
            return _spared(area)
        filling = _filling(area / lasts_s, lasts_s, supply)
        return max(_closed_requests(max(self.start, reached)), filling)

    def load(self, requests: int) -> Load:
        return RampLoad(self.of, self.start, self.end, self.over, requests, self.stop_rules())

    @property
    def words(self) -> str:
        unit = "requests/s" if self.of == "rate" else "requests in flight"
        return f"from {self.start:g} to {self.end:g} {unit} over {self.over:g} s"


class ReplayStage(StageSpec):
    """The arrivals that a recorded workload has, `speed` times as fast."""

    kind: Literal["replay"]
    speed: Annotated[Amount, Field(ge=1e-6, le=1e6)] = 1.0
    needs_arrivals: ClassVar[bool] = True

    def wanted(self, supply: Supply) -> int | None:
        return self.requests

    def load(self, requests: int) -> Load:
        return ReplayLoad(self.speed, requests, self.stop_rules())

    @property
    def words(self) -> str:
        return f"as recorded, {self.speed:g} times as fast" if self.speed != 1 else "as recorded"


AnyStage: TypeAlias = Annotated[
    ConcurrencyStage | ConstantStage | PoissonStage | GammaStage | RampStage | ReplayStage,
    Field(discriminator="kind"),
]


def listed(words: Sequence[str], last: str) -> str:
    """`a`, `a or b`, `a, b or c`, for `last` being `or`."""
    return f" {last} ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _closed_requests(streams: float) -> int:
    return max(_MIN_REQUESTS, math.ceil(_REQUESTS_PER_STREAM * streams))


def _filling(streams: float, seconds: float, supply: Supply) -> int:
    least = _STREAM_RATE * streams * seconds
    if not supply.output_tokens:
        return math.ceil(least)
    request_s = _FIRST_TOKEN_S + supply.output_tokens / _TOKENS_PER_S
    fast = min(streams * seconds / request_s, _RESERVE_TOKENS / supply.max_context)
    return math.ceil(max(least, fast))


def _spared(mean: float) -> int:
    return math.ceil(_SPARE_SHARE * mean) + _SPARE_REQUESTS
