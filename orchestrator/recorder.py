"""Makes rows of what bundles report and puts them on disk: store first, then journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.messages import AttemptDone, Broken, CrossChecked, Facts, Measured, StageDone
from orchestrator.scheduler import Waiting
from orchestrator.wiring import Study
from runtimes.failure import Failure, FailureKind
from runtimes.plan import Allocation, DeploymentPlan, EngineConfig
from runtimes.validity import CONTENT_SENSITIVE
from search.trial import Cancelled, Completed, Failed, Infeasible, Outcome, TrialState
from tracking.events import Finished
from tracking.journal import Journal
from tracking.layout import RunLayout
from tracking.parquet.parameters import column_types
from tracking.parquet.upkeep import Upkeep
from tracking.parquet.write import RecordWriter
from tracking.records import ACCURACY_UNVERIFIED, TrialRecord

_SPECULATION = frozenset({"speculative-config", "speculative-algorithm"})


class Recorder:
    """Writes one run. Only the driver has one, and only its loop calls it.

    `upkeep`, where there is one, merges the files of attempts that have ended.
    """

    def __init__(
        self,
        study: Study,
        run: str,
        layout: RunLayout,
        journal: Journal,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._study = study
        self._run = run
        self._journal = journal
        self._upkeep = upkeep
        types, objectives = column_types(study.space), [goal.name for goal in study.goals]
        self._writer = RecordWriter(layout, types, objectives)
        if upkeep is not None:
            upkeep.one_schema(types, objectives)
        self._gpu_models: dict[str, str] = {}
        self.baselines: set[int] = set()
        self.references: set[int] = set()
        self.versions: dict[str, str] = {}

    def bundle_found(self, bundle_id: str, gpu_model: str) -> None:
        """Remember what devices a bundle has, for the rows of its trials."""
        self._gpu_models[bundle_id] = gpu_model

    def stage(self, done: StageDone) -> None:
        """Store a measured stage and its requests."""
        record = done.record
        self._writer.requests(record.number, record.attempt, record.stage, done.requests)
        self._writer.stage(record)

    def cross_checked(self, done: CrossChecked) -> None:
        """Store a stage's row once more."""
        self._writer.stage(done.record)

    def outcome_of(self, done: AttemptDone, gpus: int) -> Outcome:
        """What an attempt's end means to the search."""
        result = done.result
        if isinstance(result, Measured):
            measurement = result.measurement
            return Completed(
                self._study.objectives(measurement, gpus),
                {str(verdict.limit): verdict.violation for verdict in measurement.slo},
            )
        if isinstance(result, Broken):
            failure = result.failure
            if failure.kind.infeasible:
                return Infeasible(failure.message, failure)
            return Failed(failure)
        return Cancelled(result.reason)

    def attempt(
        self,
        trial: Waiting,
        plan: DeploymentPlan,
        allocation: Allocation | None,
        outcome: Outcome,
        *,
        done: AttemptDone | None,
        retry: bool,
        held_s: float,
    ) -> TrialRecord:
        """Store an attempt's row, samples and log, and journal its end.

        `done` is None when nothing came back: the trial never ran, or its node was lost.
        `held_s` is how long it held its devices.
        """
        if done is not None:
            if done.samples:
                self._writer.samples(trial.number, trial.attempt, done.samples)
            self._writer.log(trial.number, trial.attempt, done.log)
        record = self._row(trial, plan, allocation, outcome, done, held_s)
        self._writer.trial(record)
        self._journal.append(
            Finished(trial.number, trial.attempt, outcome.state.value, retry=retry)
        )
        if self._upkeep is not None:
            self._upkeep.ended(trial.number, trial.attempt)
        return record

    def _row(
        self,
        trial: Waiting,
        plan: DeploymentPlan,
        allocation: Allocation | None,
        outcome: Outcome,
        done: AttemptDone | None,
        held_s: float,
    ) -> TrialRecord:
        spec = self._study.experiment.spec
        now_unix_s = time.time()
        facts = done.facts if done is not None else Facts(now_unix_s - held_s, now_unix_s)
        measured = done.result if done is not None and isinstance(done.result, Measured) else None
        config = self._study.admission.config(trial.params)
        row = TrialRecord(
            run=self._run,
            number=trial.number,
            attempt=trial.attempt,
            state=outcome.state,
            engine=trial.params.engine,
            params=trial.params.values,
            config_id=plan.config_id,
            command=plan.argv,
            deploy_command=plan.deploy,
            simulated=plan.simulated,
            model=self._study.source,
            model_revision=spec.model.revision,
            seed=spec.search.seed,
            gpus=plan.gpus,
            layout=config.layout,
            quantization=config.quantization,
            baseline=trial.number in self.baselines,
            reference=trial.number in self.references,
            env={**plan.env, **dict.fromkeys(plan.secrets, "***")},
            gpu_ids=allocation.gpu_ids if allocation is not None else (),
            gpu_model=self._gpu_models.get(allocation.bundle, "") if allocation else "",
            node=allocation.node if allocation is not None else "",
            bundle=allocation.bundle if allocation is not None else "",
            started_unix_s=facts.started_unix_s if allocation is not None else None,
            ended_unix_s=facts.ended_unix_s if allocation is not None else None,
            gpu_seconds=held_s * plan.gpus,
            deciding_stage=measured.stage if measured is not None else None,
            predicted=self._study.predictions.expected(trial.params),
            slo_rate_low=measured.slo_rates.low if measured is not None else None,
            slo_rate_high=measured.slo_rates.high if measured is not None else None,
            measurement=measured.measurement if measured is not None else None,
            objectives=outcome.objectives if isinstance(outcome, Completed) else {},
            failure=_failure_of(outcome),
            reason=_reason_of(outcome),
            flags=tuple(dict.fromkeys([*facts.flags, *self._labels(plan, config, outcome)])),
            versions=self.versions,
        )
        return _with_facts(row, facts)

    def _labels(
        self, plan: DeploymentPlan, config: EngineConfig, outcome: Outcome
    ) -> Iterator[str]:
        """What plan and model say of a measured trial that no measurement shows."""
        if not isinstance(outcome, Completed):
            return
        if plan.lossy:
            yield ACCURACY_UNVERIFIED
        # Which experts a token takes depends on what it says, and so does how evenly ranks work.
        model = self._study.model
        mixture = model is None or model.experts > 0
        spread = max(config.layout.ep, config.layout.moe_ep or 1) > 1
        # Drafts show in the counters of a stage as well, but not in those of every engine.
        depends = (mixture and spread) or _speculates(config)
        if depends and self._study.workload.content_free:
            yield CONTENT_SENSITIVE


def _speculates(config: EngineConfig) -> bool:
    """Whether an argument turns speculation on, in the spelling of any engine."""
    return any(
        value is not None and name.replace("_", "-").partition(".")[0] in _SPECULATION
        for name, value in config.args.items()
    )


def _with_facts(row: TrialRecord, facts: Facts) -> TrialRecord:
    """`row` with what its bundle found out besides the result."""
    return replace(
        row,
        gpu_uuids=facts.gpu_uuids,
        driver_version=facts.driver.version,
        cuda_version=facts.driver.cuda,
        environment_hash=facts.engine_config.get("servetune.environment", ""),
        compile_cache=facts.engine_config.get("servetune.compile_cache", ""),
        process_ids=facts.process_ids,
        startup_s=facts.startup_s,
        warmup_s=facts.warmup_s,
        measure_s=facts.measure_s,
        stop_s=facts.stop_s,
        engine_version=facts.engine_version,
        engine_config=facts.engine_config,
    )


def told_outcome(record: TrialRecord) -> Outcome:
    """What the sampler is told of a stored row, as it ends and again on every resume.

    A measurement that is not comparable teaches nothing.
    """
    if record.doubts:
        return Cancelled(f"not comparable: {', '.join(sorted(record.doubts))}")
    if record.state is TrialState.COMPLETED:
        verdicts = record.measurement.slo if record.measurement is not None else ()
        return Completed(
            dict(record.objectives),
            {str(verdict.limit): verdict.violation for verdict in verdicts},
        )
    if record.state is TrialState.INFEASIBLE:
        return Infeasible(record.reason, record.failure)
    if record.state is TrialState.FAILED:
        unknown = Failure(FailureKind.INTERNAL, "the record does not say why")
        return Failed(record.failure or unknown)
    return Cancelled(record.reason)


def _failure_of(outcome: Outcome) -> Failure | None:
    return outcome.failure if isinstance(outcome, Failed | Infeasible) else None


def _reason_of(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Completed | Failed) else outcome.reason
