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
        "gpu_foreign",
        "long_output",
        "not_idle",
        "not_streamed",
        "short_output",
        "usage_missing",
    }
)
"""Flags of a measurement that says something else than how fast the engine serves."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One attempt of one trial.

    Times `*_unix_s` are wall clock, seconds since the epoch, on the node that ran it; `*_s` are
    durations. `gpu_seconds` is GPUs held times seconds held, start and stop included.

    Attributes:
        run, number, attempt: identity. `attempt` counts from 0.
        baseline: True for a trial of the engine's defaults.
        params: values of the searched parameters, the engine apart.
        config_id: hash of the effective command and environment without ports.
        command: what was started, with `{host}` and `{port}` in place.
        deploy_command: what a user would start to serve it.
        simulated: True when nothing real was served.
        env: variables set for the engine, secrets masked.
        layout, quantization: what `params` come to, presets resolved.
        gpus: world size. `gpu_ids`: devices held. `gpu_model`: their name.
        node, bundle: where it ran.
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
    env: Mapping[str, str] = field(default_factory=dict)
    gpu_ids: tuple[str, ...] = ()
    gpu_model: str = ""
    node: str = ""
    bundle: str = ""
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
    warmup_requests: int | None = None
    warmup_steady: bool | None = None
    cross_check: Mapping[str, float] = field(default_factory=dict)
    cross_check_note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scraped engine metric at one instant.

    Attributes:
        at_ns: monotonic clock of the node, comparable with the requests of the same attempt.
        unix_s: wall clock of the same instant.
        metric: canonical name (`runtimes.engines.base.CANONICAL_METRICS`).
        engine_metric: the engine's own name (`vllm:generation_tokens_total`).
    """

    at_ns: int
    unix_s: float
    stage: int
    metric: str
    engine_metric: str
    value: float
