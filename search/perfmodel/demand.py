"""What a study sends, in the terms of the performance model: means over its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.load.arrivals import ConcurrencyLoad, RampLoad, ReplayLoad
from runtimes.load.arrivals import Load as StageLoad
from runtimes.load.max_under_slo import MaxUnderSloProgram
from runtimes.load.program import LoadProgram, SingleStage
from runtimes.load.programs import StagesProgram
from runtimes.load.sweep import SweepProgram
from runtimes.workloads.base import Prompt, Workload
from search.perfmodel.question import Load

_SAMPLED = 128
"""Prompts whose means stand for the workload."""
_ARRIVALS = 1024
"""Recorded prompts that tell the rate of a replay at most."""
_MOST_CACHED = 0.99
"""Of a prompt, as much as a cache is taken to hold at most: the last token is always computed."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The requests of a workload, on average.

    Attributes:
        input_tokens, output_tokens: means of a request.
        prefix_hit: share of the prompt tokens that a prefix cache is meant to hold, in [0, 1).
        equal_lengths: True where every request is as long as the others.
        per_session: requests of one session; loads count sessions.
        recorded_rate: sessions per second as they were recorded; None where nothing was.
    """

    input_tokens: float
    output_tokens: float
    prefix_hit: float = 0.0
    equal_lengths: bool = False
    per_session: float = 1.0
    recorded_rate: float | None = None

    @classmethod
    def of(cls, workload: Workload) -> Demand:
        """The means over the first prompts of `workload`."""
        prompts = workload.prompts("0", _SAMPLED)
        inputs = sum(len(prompt.token_ids) for prompt in prompts)
        shared = sum(prompt.shared_tokens for prompt in prompts)
        return cls(
            input_tokens=max(1.0, inputs / len(prompts)),
            output_tokens=max(1.0, sum(one.output_tokens for one in prompts) / len(prompts)),
            prefix_hit=min(_MOST_CACHED, shared / max(1, inputs)),
            equal_lengths=len({(len(one.token_ids), one.output_tokens) for one in prompts}) == 1,
            per_session=len(prompts) / len(_sessions(prompts)),
            recorded_rate=_recorded_rate(workload),
        )

    def load(self, **how_many: float | bool | None) -> Load:
        """Such requests; `how_many` is one of the last three fields of a `Load`."""
        return Load(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            prefix_hit=self.prefix_hit,
            equal_lengths=self.equal_lengths,
            **how_many,  # type: ignore[arg-type]  # names and types are those of Load's fields
        )

    def at_rate(self, sessions_per_s: float) -> Load:
        return self.load(request_rate=sessions_per_s * self.per_session)

    def of_stage(self, stage: StageLoad) -> Load | str:
        """`stage` as one constant load, a ramp as its mean; in words why it is none."""
        match stage:
            case ConcurrencyLoad():
                return self.load(concurrency=float(stage.value))
            case RampLoad(of="concurrency"):
                return self.load(concurrency=_ramp_mean(stage))
            case RampLoad():
                return self.at_rate(_ramp_mean(stage))
            case ReplayLoad():
                if self.recorded_rate is None:
                    return "too few recorded arrivals to tell their rate"
                return self.at_rate(self.recorded_rate * stage.speed)
            case _:
                return self.at_rate(stage.value)


@dataclass(frozen=True, slots=True)
class Sought:
    """A load that the model has to find: the highest rate at which the SLO holds.

    Attributes:
        most: requests per second that are never exceeded; None for no bound.
    """

    most: float | None = None


def deciding_load(program: LoadProgram, demand: Demand) -> Load | Sought | str:
    """What the stage is that gives a trial its figures; in words why that cannot be told."""
    match program:
        case SingleStage(load=load):
            return demand.of_stage(load)
        case StagesProgram(loads=loads):
            return demand.of_stage(loads[-1])
        case SweepProgram(slo=slo):
            if slo.limits:
                return Sought()
            return demand.load(concurrency=float(_most_streams(program)))
        case MaxUnderSloProgram(max_rate=most):
            return Sought(None if most is None else most * demand.per_session)
    return f"loads of kind {program.kind} are not predicted"


def _most_streams(sweep: SweepProgram) -> int:
    """Of its closed loops: so many as it has requests to hold in flight."""
    return min(sweep.max_concurrency, max(1, sweep.requests // 4))


def _ramp_mean(ramp: RampLoad) -> float:
    lasts_s = ramp.stop.duration_s or ramp.over_s
    ramped_s = min(lasts_s, ramp.over_s)
    reached = ramp.start + (ramp.end - ramp.start) * ramped_s / ramp.over_s
    area = (ramp.start + reached) / 2 * ramped_s + ramp.end * (lasts_s - ramped_s)
    return area / lasts_s


def _sessions(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first prompt of each session."""
    return [prompt for prompt in prompts if prompt.session is None or not prompt.turn] or [
        prompts[0]
    ]


def _recorded_rate(workload: Workload) -> float | None:
    if workload.size is None:
        return None
    prompts = workload.prompts("0", min(workload.size, _ARRIVALS))
    times = [prompt.at_s for prompt in _sessions(prompts) if prompt.at_s is not None]
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return (len(times) - 1) / (times[-1] - times[0])
