"""What travels between the driver and the bundle that runs a trial."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from orchestrator.placement import Bundle
from runtimes.cache_state import CacheState
from runtimes.failure import Failure, FailureKind
from runtimes.load.job import Api
from runtimes.load.program import Bracket, LoadProgram
from runtimes.measurement import Measurement
from runtimes.plan import Allocation, DeploymentPlan
from runtimes.request_counts import RequestCounts
from runtimes.secrets import secret_values
from runtimes.slo import Slo
from runtimes.telemetry.nvml import Driver
from runtimes.telemetry.release import DirtyGpu
from runtimes.workloads.base import Workload
from tracking.live import LiveFigures
from tracking.records import StageRecord


class Phase(Enum):
    """Where an attempt stands; the value is what the journal and the metrics carry."""

    STARTING = "starting"
    WARMING = "warming"
    MEASURING = "measuring"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, in seconds.

    Attributes:
        start_s: from spawn to the first completion.
        stall_s: requests in flight and not a byte from any of them.
        request_s: one request.
        trial_s: the whole attempt.
        stop_s: from SIGTERM to SIGKILL.
        release_s: until the memory of a GPU that should be free is seen to be.
    """

    start_s: float
    stall_s: float
    request_s: float
    trial_s: float
    stop_s: float
    release_s: float


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """All a bundle needs to run one attempt; pickled to where it runs.

    Attributes:
        program: the stages of load, run one after the other on the same engine.
        warmup_requests: requests before each stage that are not measured; None sends as many as
            it takes until the engine is stationary (`orchestrator.warmup`).
        api: the route that requests go to.
        cache: the state of the prefix cache that each stage starts from.
        load_processes: processes that send the load.
        fit_processes: True starts no more of them than this process may use CPUs.
        template_sha256: of the chat template that the engine renders chats with; empty where
            requests are no chats, or the template is not known.
        cross_check: load generator that runs the deciding load once more; empty for none.
        secrets: values that reach the engine's environment and are masked everywhere else.
    """

    run: str
    number: int
    attempt: int
    plan: DeploymentPlan
    allocation: Allocation
    model: str
    workload: Workload
    program: LoadProgram
    slo: Slo
    seed: int
    warmup_requests: int | None
    timeouts: Timeouts
    sample_hz: float
    api: Api = Api.COMPLETIONS
    cache: CacheState = CacheState.COLD
    load_processes: int = 1
    fit_processes: bool = False
    template_sha256: str = ""
    cross_check: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class WatchOrder:
    """Look at a foreign device until it is free."""

    bundle_id: str
    gpu: DirtyGpu


def secrets_of(order: TrialOrder) -> list[str]:
    """Everything to mask in what an attempt leaves: its secrets, and those of this process,
    whose environment engines inherit.
    """
    return [*order.secrets.values(), *secret_values(os.environ)]


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """The attempt entered `phase`; `previous_s` is what the one before took.

    `metrics_urls` are of its servers that answer, in Prometheus' text format, as the node it runs
    on reaches them.
    """

    phase: Phase
    process_ids: tuple[int, ...] = ()
    previous_s: float = 0.0
    metrics_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GpusAwaited:
    """The attempt cannot start yet: somebody else uses these devices."""

    gpus: tuple[DirtyGpu, ...]


@dataclass(frozen=True, slots=True)
class StartStep:
    """What a starting attempt is doing, in words; on change, at most one a second."""

    words: str


@dataclass(frozen=True, slots=True)
class StageDone:
    """A load stage is measured; `requests` is a Parquet file's bytes, `counts` sums them up."""

    record: StageRecord
    requests: bytes = field(repr=False)
    counts: RequestCounts = field(repr=False)


@dataclass(frozen=True, slots=True)
class CrossChecked:
    """The record of a stage done, with what another load generator measured of its load."""

    record: StageRecord


@dataclass(frozen=True, slots=True)
class Measured:
    """The attempt ran to its end; `stage` is the deciding one.

    `slo_rates` bound the highest rate at which the SLO holds, where the stages looked for it.
    """

    stage: int
    measurement: Measurement
    slo_rates: Bracket = field(default_factory=Bracket)


@dataclass(frozen=True, slots=True)
class Broken:
    """The engine, or the attempt around it, failed."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Stopped:
    """The attempt was cancelled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an attempt besides its result; durations in seconds.

    `dirty` are devices that are not free although nothing of the attempt lives any more.
    `gpu_uuids` are the identities of its devices, in the order of the allocation.
    """

    started_unix_s: float
    ended_unix_s: float
    startup_s: float | None = None
    warmup_s: float | None = None
    measure_s: float | None = None
    stop_s: float | None = None
    process_ids: tuple[int, ...] = ()
    engine_version: str = ""
    engine_config: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    dirty: tuple[DirtyGpu, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    driver: Driver = field(default_factory=Driver)


@dataclass(frozen=True, slots=True)
class AttemptDone:
    """The attempt is over, none of its processes lives, and its devices were looked at.

    `samples` is a Parquet file's bytes, `log` the engine's output with secrets masked.
    """

    result: Measured | Broken | Stopped
    facts: Facts
    samples: bytes = field(repr=False)
    log: str = field(repr=False)


TrialEvent: TypeAlias = (
    PhaseEntered | StartStep | GpusAwaited | LiveFigures | StageDone | CrossChecked | AttemptDone
)


@dataclass(frozen=True, slots=True)
class FromTrial:
    """An event of one attempt, as it reaches the driver."""

    number: int
    attempt: int
    event: TrialEvent


@dataclass(frozen=True, slots=True)
class LostBundle:
    """A bundle and everything on it is gone."""

    bundle_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReturnedGpu:
    """A device that somebody else used is free again."""

    bundle_id: str
    gpu: str


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """A bundle can be used."""

    bundle: Bundle


def undelivered(error: BaseException, words: str) -> AttemptDone:
    """The end of an attempt that could not begin, or could not tell its own end."""
    now_unix_s = time.time()
    text = "".join(traceback.format_exception(error))
    failure = Failure(FailureKind.INTERNAL, words, "report it with the log", None, text)
    return AttemptDone(Broken(failure), Facts(now_unix_s, now_unix_s), b"", "")


ClusterEvent: TypeAlias = FromTrial | LostBundle | ReturnedGpu | FoundBundle
