"""What the scheduler is told, and what it decides: events, actions, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.placement import Bundle, Room
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import Outcome, Params


@dataclass(frozen=True, slots=True)
class Waiting:
    """A proposed trial that has no devices yet.

    Attributes:
        attempt: which one it is about to make, from 0.
        failures: how many of those before failed; others were cancelled.
        label: of the only nodes it can run on; None for any.
    """

    number: int
    params: Params
    gpus: int
    attempt: int = 0
    failures: int = 0
    label: str | None = None


# Events: what happened.


@dataclass(frozen=True, slots=True)
class BundleReady:
    """A bundle of devices can be used from now on."""

    bundle: Bundle


@dataclass(frozen=True, slots=True)
class BundleGone:
    """A bundle is lost, with the trials on it."""

    bundle_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The sampler's answer to `Ask(number)`; `trial` is None when nothing new is left."""

    number: int
    trial: Waiting | None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended and its devices are verified free, but for those in `dirty`."""

    number: int
    attempt: int
    outcome: Outcome
    dirty: tuple[DirtyGpu, ...] = ()


@dataclass(frozen=True, slots=True)
class GpusReleased:
    """Devices that somebody else used are free again."""

    bundle_id: str
    gpu_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the study to end: running attempts are cancelled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    BundleReady | BundleGone | Answered | AttemptEnded | GpusReleased | StopAsked | Tick
)

# Actions: what to do about it.


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the sampler for trial `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an attempt on these devices."""

    trial: Waiting
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a running attempt; its end comes back as an event."""

    number: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Look at a foreign device until it is free; that comes back as `GpusReleased`."""

    bundle_id: str
    gpu: DirtyGpu


@dataclass(frozen=True, slots=True)
class Record:
    """Write an attempt's outcome; `retry` when another attempt of the trial follows.

    `allocation` is None for a trial that never got devices; `held_s` is how long it held them.
    """

    trial: Waiting
    allocation: Allocation | None
    outcome: Outcome
    retry: bool = False
    held_s: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """Nothing runs and nothing will."""

    reason: str


Action: TypeAlias = Ask | Launch | Cancel | Watch | Record | End


@dataclass(frozen=True, slots=True)
class Limits:
    """When a study ends, and how trials wait.

    Attributes:
        trials: trials in all, baselines included; None for as many as the sampler has.
        gpu_seconds, wall_clock_s: budget after which nothing new starts; running trials finish.
        retries: further attempts after a failure that another attempt may not have.
        overtakes: launches that may pass a waiting trial before a bundle is kept for it.
        lookahead: proposals that may wait while devices are free and none of them fits.
    """

    trials: int | None = None
    gpu_seconds: float | None = None
    wall_clock_s: float | None = None
    retries: int = 1
    overtakes: int = 4
    lookahead: int = 8


@dataclass(frozen=True, slots=True)
class Restored:
    """What a resumed study starts from: trials to run again, and what was spent before.

    `rooms` are those of all bundles there ever were: what once fitted is not infeasible because
    nodes are missing.
    """

    waiting: tuple[Waiting, ...] = ()
    next_number: int = 0
    gpu_seconds: float = 0.0
    elapsed_s: float = 0.0
    rooms: tuple[Room, ...] = ()
