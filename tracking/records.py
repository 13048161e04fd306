"""The rows of a run's record, as values; `tracking.parquet` stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.failure import Failure
from runtimes.json_types import Json
from runtimes.measurement import Measurement
from runtimes.parallel import ParallelLayout
from runtimes.quantization import Quantization
from search.perfmodel.expected import Expected
from search.trial import TrialState

ACCURACY_UNVERIFIED = "accuracy_unverified"
"""Flag of a trial whose precision may cost accuracy, which nobody has measured."""

IMPORTED = "imported"
"""Flag of a trial that another load generator ran."""

DISQUALIFYING = frozenset(
    {
        "cache_contaminated",
        "client_limited",
        "gpu_errors",
        "gpu_foreign",
        "gpu_throttled",
        "long_output",
        "not_idle",
        "not_streamed",
        "short_output",
        "usage_missing",
    }
)
"""Flags of a measurement that says something else than how fast the engine serves."""

FLAGS = DISQUALIFYING | {
    ACCURACY_UNVERIFIED,
    "attached_simulator",
    "content_sensitive",
    "gpu_dirty",
    "not_steady",
    "port_taken",
    "request_errors",
    "simulator_late",
}
"""Flags that an attempt of a study may end with."""


@dataclass(frozen=True, slots=True)
class EngineUse:
    """What the engine said of its own work while a stage was measured; None where it did not say.

    Means and maxima are of the samples taken while the stage was measured.

    Attributes:
        kv_cache_usage_mean, kv_cache_usage_max: share of the KV cache in use, 0 to 1.
        requests_running_mean: requests it worked on at once.
        requests_waiting_mean, requests_waiting_max: requests that waited in it.
        preemptions: requests it put back to make room.
        queue_mean_s: time a request waited in the engine before its prefill, seconds.
        prefill_mean_s: time from there to a request's first token, seconds.
        decode_mean_s: time from its first token to its last, seconds.
    """

    kv_cache_usage_mean: float | None = None
    kv_cache_usage_max: float | None = None
    requests_running_mean: float | None = None
    requests_waiting_mean: float | None = None
    requests_waiting_max: float | None = None
    preemptions: float | None = None
    queue_mean_s: float | None = None
    prefill_mean_s: float | None = None
    decode_mean_s: float | None = None


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One device while a stage was measured; None where the device does not tell.

    Attributes:
        gpu: the device as `TrialRecord.gpu_ids` has it. `uuid`: its own identity.
        samples: readings that the figures are of.
        sm_clock_mean_mhz, memory_clock_mean_mhz: clocks.
        power_mean_w, power_limit_w: power drawn, and what it may draw.
        temperature_max_c: the highest.
        utilization_mean: share of the time in which a kernel ran, 0 to 1.
        throttled_ratio: share of the readings in which the clocks were held down by heat, by the
            board's power brake or by a hardware slowdown, 0 to 1. A device at its software power
            limit, which is how a busy one works, is not throttled in this sense.
        throttle_reasons: every reason that was read, that limit included, by name.
        ecc_errors: uncorrected memory errors that were counted while the stage ran.
        xids: error codes of the driver (Xid) that came while it ran.
    """

    gpu: str
    uuid: str = ""
    samples: int = 0
    sm_clock_mean_mhz: float | None = None
    memory_clock_mean_mhz: float | None = None
    power_mean_w: float | None = None
    power_limit_w: float | None = None
    temperature_max_c: float | None = None
    utilization_mean: float | None = None
    throttled_ratio: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    ecc_errors: int | None = None
    xids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One attempt of one trial.

    Times `*_unix_s` are wall clock, seconds since the epoch, on the node that ran it; `*_s` are
    durations. `gpu_seconds` is GPUs held times seconds held, start and stop included.

    Attributes:
        run, number, attempt: identity. `attempt` counts from 0.
        baseline: True for a trial of the engine's defaults.
        reference: True for a run of the configuration by which nodes are told apart.
        params: values of the searched parameters, the engine apart.
        config_id: hash of the effective command and environment without ports.
        command: what was started, with `{host}` and `{port}` in place.
        deploy_command: what a user would start to serve it.
        simulated: True when nothing real was served.
        env: variables set for the engine, secrets masked.
        layout, quantization: what `params` come to, presets resolved.
        gpus: world size. `gpu_ids`: devices held. `gpu_model`: their name. `gpu_uuids`: their own
            identities, in the order of `gpu_ids`; empty where no driver tells.
        node, bundle: where it ran.
        driver_version: of the devices' driver. `cuda_version`: the newest CUDA that it serves.
        environment_hash: of the environment the engine ran in, as it was found: installed
            distributions, or the image; empty where nothing can be hashed.
        compile_cache: `cold` when this start compiled its kernels, `warm` when they were there;
            empty when nothing is compiled.
        process_ids: pids of the process tree's guard and engine, on `node`.
        deciding_stage: index of the load stage whose measurement is the trial's own.
        predicted: what its deciding stage was predicted to show; None where nothing was.
        slo_rate_low, slo_rate_high: bounds of the highest request rate at which the SLO holds, per
            second; None where nobody looked for it, or where it is not bounded.
        objectives: value by objective name.
        reason: words for a state that is neither completed nor failed.
        flags: what makes the result doubtful, one word each.
        engine_version, engine_config: what the engine said of itself.
        versions: provenance of everything else (servetune, python, ray, git, …).
    """

    run: str
    number: int
    attempt: int
    state: TrialState
    engine: str
    params: Mapping[str, Json]
    config_id: str
    command: tuple[str, ...]
    deploy_command: tuple[str, ...]
    simulated: bool
    model: str
    model_revision: str | None
    seed: int
    gpus: int
    layout: ParallelLayout = field(default_factory=ParallelLayout)
    quantization: Quantization = field(default_factory=Quantization)
    baseline: bool = False
    reference: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    gpu_ids: tuple[str, ...] = ()
    gpu_model: str = ""
    gpu_uuids: tuple[str, ...] = ()
    node: str = ""
    bundle: str = ""
    driver_version: str = ""
    cuda_version: str = ""
    environment_hash: str = ""
    compile_cache: str = ""
    process_ids: tuple[int, ...] = ()
    started_unix_s: float | None = None
    ended_unix_s: float | None = None
    startup_s: float | None = None
    warmup_s: float | None = None
    measure_s: float | None = None
    stop_s: float | None = None
    gpu_seconds: float = 0.0
    deciding_stage: int | None = None
    predicted: Expected | None = None
    slo_rate_low: float | None = None
    slo_rate_high: float | None = None
    measurement: Measurement | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()
    engine_version: str = ""
    engine_config: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def doubts(self) -> frozenset[str]:
        """Flags that make the measurement unfit to compare; the search does not learn from it."""
        return DISQUALIFYING & frozenset(self.flags)

    @property
    def lossless(self) -> bool:
        """False when its precision may cost accuracy."""
        return ACCURACY_UNVERIFIED not in self.flags


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One load stage of one attempt.

    `counters_before` and `counters_after` are the engine's canonical counters, scraped at idle
    before the first measured request and after the last one drained.

    Attributes:
        cache: what the prefix cache held at its start: `cold:reset` (emptied through the engine's
            endpoint), `cold:salt` (no prompt begins as an earlier one did) or `warm` (primed).
        designed_hit_rate: share of prompt tokens that the workload means to be cached, in whole
            blocks of the engine's cache; None where prompts were sent as text.
        observed_hit_rate: share that the engine says it found; None where it does not say.
        acceptance_length: tokens per verification of a draft; None without speculation, and
            where the engine does not count its verifications.
        repetition_score: share of repeated four-word sequences in the texts that were kept
            (`runtimes.validity.repetition_score`); None where none was long enough.
        template_sha256: of the chat template that the engine was given by its arguments, else of
            the model's; empty where requests are no chats, or it could not be read.
        engine_use: what the engine said of its work meanwhile; None where it said nothing.
        gpu_use: its devices meanwhile, in the order of `TrialRecord.gpu_ids`; empty where no
            driver tells.
        repeat_of: the stage that this one repeats because a device was throttled in it; None for
            a stage of its own.
        warmup_requests: requests that were sent before it and not measured; None where nothing
            says so.
        warmup_steady: whether they ended stationary; None where nothing says so.
        cross_check: what another load generator measured of the same load, by name of the figure;
            empty for none.
        cross_check_note: which one, and what to know of its figures, or why there are none.
    """

    run: str
    number: int
    attempt: int
    stage: int
    load: str
    load_value: float
    started_unix_s: float
    ended_unix_s: float
    measurement: Measurement
    counters_before: Mapping[str, float] = field(default_factory=dict)
    counters_after: Mapping[str, float] = field(default_factory=dict)
    cache: str = ""
    designed_hit_rate: float | None = None
    observed_hit_rate: float | None = None
    acceptance_length: float | None = None
    repetition_score: float | None = None
    template_sha256: str = ""
    engine_use: EngineUse | None = None
    gpu_use: tuple[GpuUse, ...] = ()
    repeat_of: int | None = None
    warmup_requests: int | None = None
    warmup_steady: bool | None = None
    cross_check: Mapping[str, float] = field(default_factory=dict)
    cross_check_note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of an engine's metrics, or of a device, at one instant.

    Attributes:
        at_ns: monotonic clock of the node, comparable with the requests of the same attempt.
        unix_s: wall clock of the same instant.
        metric: canonical name (`runtimes.engines.base.CANONICAL_METRICS`), or of a device
            (`runtimes.telemetry.nvml.GPU_METRICS`).
        engine_metric: the engine's own name (`vllm:generation_tokens_total`); empty for a device.
        gpu: the device as `TrialRecord.gpu_ids` has it; empty for the engine.
    """

    at_ns: int
    unix_s: float
    stage: int
    metric: str
    engine_metric: str
    value: float
    gpu: str = ""
