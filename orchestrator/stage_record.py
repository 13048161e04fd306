"""A stage that has run, made into its record: figures, flags, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator import engine_use, stage_gpus
from orchestrator.cache_reset import WARM
from orchestrator.messages import StageDone, TrialOrder, secrets_of
from orchestrator.warmup import Warmed
from runtimes import validity
from runtimes.cache_state import PrefixCache
from runtimes.load.arrivals import Load
from runtimes.load.result import LoadResult
from runtimes.measurement import Measurement, RequestRecord
from runtimes.request_counts import RequestCounts
from runtimes.secrets import mask
from runtimes.statistics import summarise
from tracking.parquet.write import encode_requests
from tracking.records import GpuUse, Sample, StageRecord

_LATE_SHARE = 0.1
"""A simulated engine that lagged its own clock by more than this share of the stage is flagged."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """Everything that is known of a stage once its load has ended.

    Attributes:
        cache: the state it started from, as `StageRecord.cache` says it.
        primer_tokens: prompt tokens that bring a cache into the state WARM; sent for it alone.
        before, after: the engine's counters at idle; empty where the engine failed.
        idle: False where requests still ran in the engine when the load began.
        energy_j: energy of its devices; None where unknown.
        prefix_cache: of the whole deployment.
        samples: the engine's, taken while the load ran.
        gpu_use: of its devices.
        repeat_of: the stage that it repeats.
    """

    order: TrialOrder
    index: int
    load: Load
    result: LoadResult
    warmed: Warmed = field(default_factory=Warmed)
    cache: str = ""
    primer_tokens: int = 0
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    idle: bool = True
    energy_j: float | None = None
    prefix_cache: PrefixCache = field(default_factory=PrefixCache)
    samples: Sequence[Sample] = ()
    gpu_use: tuple[GpuUse, ...] = ()
    repeat_of: int | None = None

    def done(self) -> StageDone:
        """The record and the requests of it; takes long enough to be run in a thread."""
        order, result = self.order, self.result
        requests = encode_requests(
            run=order.run,
            number=order.number,
            attempt=order.attempt,
            stage=self.index,
            records=[self._masked(record) for record in result.records],
        )
        return StageDone(self._record(), requests, RequestCounts.of(result.records, order.slo))

    def _record(self) -> StageRecord:
        order, result = self.order, self.result
        designed = validity.designed_hit_rate(result.records, self.prefix_cache.block_tokens)
        observed = validity.observed_hit_rate(self.before, self.after, result.records)
        measurement = summarise(result, order.slo, self.load)
        flags = dict.fromkeys([*measurement.flags, *self._flags(measurement, designed, observed)])
        return StageRecord(
            run=order.run,
            number=order.number,
            attempt=order.attempt,
            stage=self.index,
            load=self.load.kind,
            load_value=float(self.load.value),
            started_unix_s=result.start_unix_s,
            ended_unix_s=result.start_unix_s + (result.ended_ns - result.started_ns) / 1e9,
            measurement=replace(measurement, flags=tuple(flags), energy_j=self.energy_j),
            counters_before=self.before,
            counters_after=self.after,
            cache=self.cache,
            designed_hit_rate=designed,
            observed_hit_rate=observed,
            acceptance_length=validity.acceptance_length(self.before, self.after),
            repetition_score=validity.repetition_score(record.text for record in result.records),
            template_sha256=order.template_sha256,
            engine_use=engine_use.use_of(self.samples, self.before, self.after),
            gpu_use=self.gpu_use,
            repeat_of=self.repeat_of,
            warmup_requests=self.warmed.requests,
            warmup_steady=self.warmed.steady,
        )

    def _flags(
        self, measurement: Measurement, designed: float | None, observed: float | None
    ) -> list[str]:
        flags = [*([] if self.idle else ["not_idle"]), *stage_gpus.flags_of(self.gpu_use)]
        if designed is None:  # a chat's template is the server's; only too many hits can be told
            most = validity.highest_hit_rate(self.result.records)
            contaminated = validity.is_contaminated(most, observed, keeps=False)
        else:
            contaminated = validity.is_contaminated(designed, observed, keeps=self._keeps)
        if contaminated:
            flags.append(validity.CACHE_CONTAMINATED)
        drafts = validity.speculated(self.before, self.after)
        if drafts and self.order.workload.content_free:
            flags.append(validity.CONTENT_SENSITIVE)
        # A simulated engine says how much later than its model it was: the machine's fault.
        late_s = self._grown("lateness_seconds_total")
        if late_s > _LATE_SHARE * measurement.duration_s:
            flags.append("simulator_late")
        # A server that somebody else started may be one too; it alone says how late it is.
        if "lateness_seconds_total" in self.after and not self.order.plan.simulated:
            flags.append("attached_simulator")
        return flags

    @property
    def _keeps(self) -> bool:
        if self.primer_tokens and self.cache != WARM:
            return False  # requests that begin alike may be under way before one has filled it
        sent = sum(record.sent_tokens or 0 for record in self.result.records)
        generated = sum(record.output_tokens or 0 for record in self.result.records)
        full = self._grown("preemptions_total") > 0
        return not full and self.prefix_cache.keeps(self.primer_tokens + sent + generated)

    def _grown(self, counter: str) -> float:
        return self.after.get(counter, 0.0) - self.before.get(counter, 0.0)

    def _masked(self, record: RequestRecord) -> RequestRecord:
        """A server may echo what it was told; no secret of it reaches the record."""
        if record.error is None:
            return record
        return replace(record, error=mask(record.error, secrets_of(self.order)))
