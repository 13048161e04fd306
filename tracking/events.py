"""What the journal holds: one value per thing that happened to a run, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import ClassVar, TypeAlias, get_args

from runtimes.errors import RunFolderError
from runtimes.json_types import Json


class Ending(StrEnum):
    """How a driver left a run, or that none has; the value is what the journal carries."""

    COMPLETE = "complete"
    """Nothing is left to try."""
    BUDGET = "budget"
    """GPU hours or wall clock are spent."""
    STOPPED = "stopped"
    """Somebody, or the loss of all devices, stopped it; there may be more to try."""
    RUNNING = "running"
    """A driver is at work."""
    KILLED = "killed"
    """The last driver left without a word."""
    UNKNOWN = ""
    """It ended, and its record, of an older version, does not say how."""

    @classmethod
    def _missing_(cls, value: object) -> Ending:
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A driver took the run in hand; `resumed` for every one after the first."""

    run: str
    servetune_version: str
    resumed: bool
    kind: ClassVar[str] = "run_started"


@dataclass(frozen=True, slots=True)
class Expanded:
    """What the space holds: `valid` is None for an infinite one; `excluded` by rule."""

    valid: int | None
    duplicates: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    kind: ClassVar[str] = "expanded"


@dataclass(frozen=True, slots=True)
class BundleTaken:
    """Devices of one node belong to the study from here on; `labels` are the node's."""

    bundle: str
    node: str
    gpu_model: str
    gpu_ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    kind: ClassVar[str] = "bundle_taken"


@dataclass(frozen=True, slots=True)
class Proposed:
    """The sampler, or the baseline, named the parameters of trial `number`.

    `reference` marks the configuration by which nodes are told apart, which runs on `node` alone.
    """

    number: int
    engine: str
    values: Mapping[str, Json]
    config_id: str
    baseline: bool = False
    reference: bool = False
    node: str = ""
    kind: ClassVar[str] = "proposed"


@dataclass(frozen=True, slots=True)
class SpaceExhausted:
    """The sampler has nothing left that was not proposed before."""

    kind: ClassVar[str] = "space_exhausted"


@dataclass(frozen=True, slots=True)
class Launched:
    """An attempt got devices and was started; `predicted` are figures of its trial, by name.

    `communication_ratio` is the predicted share of a decode step that goes to communication between
    GPUs, 0 to 1; None where nothing is predicted.
    """

    number: int
    attempt: int
    bundle: str
    node: str
    gpu_ids: list[str] = field(default_factory=list)
    predicted: Mapping[str, float] = field(default_factory=dict)
    communication_ratio: float | None = None
    kind: ClassVar[str] = "launched"


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """An attempt entered `phase`: starting, warming, measuring, stopping."""

    number: int
    attempt: int
    phase: str
    process_ids: list[int] = field(default_factory=list)
    kind: ClassVar[str] = "phase_changed"


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt ended in `state` and its row is on disk; `retry` when another attempt follows."""

    number: int
    attempt: int
    state: str
    retry: bool = False
    kind: ClassVar[str] = "finished"


@dataclass(frozen=True, slots=True)
class GpuAwaited:
    """An attempt cannot start on a device yet, because `owner` uses it."""

    number: int
    attempt: int
    node: str
    gpu: str
    owner: str
    used_bytes: int
    kind: ClassVar[str] = "gpu_awaited"


@dataclass(frozen=True, slots=True)
class GpuWithheld:
    """A device is not given on: memory of it stays in use after an attempt, or before one.

    `why` is `dirty`, which is for good, or `foreign`, which is until `GpuReturned`.
    """

    number: int
    attempt: int
    bundle: str
    node: str
    gpu: str
    why: str
    owner: str
    used_bytes: int
    kind: ClassVar[str] = "gpu_withheld"


@dataclass(frozen=True, slots=True)
class GpuReturned:
    """A device that somebody else used is free again."""

    bundle: str
    gpu: str
    kind: ClassVar[str] = "gpu_returned"


@dataclass(frozen=True, slots=True)
class BundleLost:
    """A bundle of devices is gone, with everything that ran on it."""

    bundle: str
    reason: str
    kind: ClassVar[str] = "bundle_lost"


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Nothing new is started from here on."""

    reason: str
    kind: ClassVar[str] = "stop_requested"


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The driver left in good order."""

    reason: str
    ending: Ending = Ending.UNKNOWN
    kind: ClassVar[str] = "run_ended"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ending", Ending(self.ending))  # the journal holds its value


Event: TypeAlias = (
    RunStarted
    | Expanded
    | BundleTaken
    | Proposed
    | SpaceExhausted
    | Launched
    | PhaseChanged
    | Finished
    | GpuAwaited
    | GpuWithheld
    | GpuReturned
    | BundleLost
    | StopRequested
    | RunEnded
)
_KINDS: dict[str, type[Event]] = {event.kind: event for event in get_args(Event)}


def encode(event: Event) -> dict[str, Json]:
    """The event as a JSON object, `kind` first."""
    return {"kind": event.kind, **asdict(event)}


def decode(data: Mapping[str, Json]) -> Event:
    """The event of a JSON object; keys beside its fields (`at_unix_s`) are passed over.

    Raises:
        RunFolderError: the kind is unknown or a field is missing: written by a newer servetune.
    """
    kind = data.get("kind")
    event_type = _KINDS.get(kind) if isinstance(kind, str) else None
    if event_type is None:
        raise RunFolderError(
            f"the journal holds an event of kind {kind!r}, unknown to this version of servetune; "
            "open the run with the version that wrote it"
        )
    names = {item.name for item in fields(event_type)}
    try:
        return event_type(**{name: value for name, value in data.items() if name in names})  # type: ignore[arg-type]  # checked by the fields
    except TypeError as error:
        raise RunFolderError(f"the journal's {kind!r} event cannot be read: {error}") from None
