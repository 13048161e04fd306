"""Running and resuming studies: the path that every way in takes."""

from __future__ import annotations

import contextlib
import errno
import queue
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.cluster.base import Cluster, create_cluster
from orchestrator.driver import Driver, Inbox, Stop
from orchestrator.first_trials import first_proposals
from orchestrator.live_status import LiveStatusFile, write_aside
from orchestrator.load_run import load_run
from orchestrator.logs import of_run
from orchestrator.messages import ClusterEvent, FoundBundle
from orchestrator.metrics_observer import MetricsObserver
from orchestrator.observer import Observer, RunInfo
from orchestrator.placement import Bundle
from orchestrator.recorder import Recorder, told_outcome
from orchestrator.revision import pinned
from orchestrator.scheduler import Scheduler
from orchestrator.service_discovery import ServiceDiscovery
from orchestrator.signals import Signals
from orchestrator.spec.experiment import Experiment, dump_yaml
from orchestrator.spec.yaml_file import read_mapping
from orchestrator.standing import Standing, fold
from orchestrator.study_log import StudyLog
from orchestrator.wiring import Study, wire
from runtimes.engines.base import ENGINES
from runtimes.errors import RunFolderError, UserError
from runtimes.version import __version__
from search.expansion import expand
from search.samplers.base import Sampler
from search.trial import Params
from tracking.events import Expanded, RunEnded, RunStarted
from tracking.exporter import Exporter
from tracking.journal import Journal, read_journal
from tracking.layout import RunLayout, new_run_id
from tracking.lock import RunLock
from tracking.parquet.read import read_trials
from tracking.parquet.upkeep import Upkeep
from tracking.provenance import collect
from tracking.records import TrialRecord
from tracking.report import write_report
from tracking.run_data import RunData

_COUNTABLE = 20_000
"""Finite spaces up to this size are counted as a run begins, for its report."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES)
"""The folder's file system cannot take more; nothing that servetune itself can mend."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that ended.

    Attributes:
        run: its id. `folder`: where its record is.
        best: the best trial's row; None when nothing completed.
        counts: trials by state.
        reason: why it ended.
        interrupted: True when it was stopped from outside and can be resumed.
    """

    run: str
    folder: Path
    best: TrialRecord | None
    counts: Mapping[str, int]
    reason: str
    interrupted: bool
    data: RunData = field(repr=False)

    @property
    def best_lossless(self) -> TrialRecord | None:
        """The best trial's row whose precision costs no accuracy; often `best` itself."""
        return self.data.best_lossless()

    @property
    def report(self) -> Path:
        """The HTML report."""
        return RunLayout(self.folder).report


def run(
    experiment: Experiment,
    *,
    results: str | Path | None = None,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Run `experiment` from the beginning.

    Args:
        experiment: what to tune, checked.
        results: parent of run folders; the experiment's own `results` by default.
        observers: told what happens while it runs.

    Raises:
        UserError: no cluster, a secret that is not set, a port that is taken, a model that is
            missing on the Hub or not open to this user.
    """
    study = wire(experiment)
    _check_secrets(study)
    experiment = pinned(study)
    study = wire(experiment)
    parent = Path(results if results is not None else experiment.spec.results)
    run_id = new_run_id(experiment.spec.name, datetime.now(UTC), random.Random())  # a name
    layout = RunLayout(parent / run_id)
    _make_folder(layout, experiment)
    return _StudyRun(study, layout, observers).execute(resumed=False)


def resume(folder: str | Path, *, observers: Sequence[Observer] = ()) -> RunResult:
    """Go on with the run in `folder`: nothing finished is lost or run again.

    Raises:
        RunFolderError: it is no run folder, it was imported, or another driver works on it.
        UserError: as for `run`.
    """
    layout = RunLayout(Path(folder))
    if not layout.experiment.is_file():
        raise RunFolderError(f"{layout.root}: is no run folder (experiment.yaml is absent)")
    if "imported" in read_mapping(layout.experiment):
        raise RunFolderError(
            f"{layout.root}: was imported from another tool; nothing of it can be run again. "
            f"`servetune report {layout.root}` shows it"
        )
    study = wire(Experiment.load(layout.experiment))
    _check_secrets(study)
    return _StudyRun(study, layout, observers).execute(resumed=True)


class _StudyRun:
    """One driver's time with a run: resources opened in order, closed in reverse."""

    def __init__(self, study: Study, layout: RunLayout, observers: Sequence[Observer]) -> None:
        self._study = study
        self._layout = layout
        self._run = layout.root.resolve().name
        self._observers = [StudyLog(), *observers]
        self._inbox: Inbox = queue.SimpleQueue()
        self._cluster: Cluster | None = None
        self._upkeep: Upkeep | None = None

    def execute(self, *, resumed: bool) -> RunResult:
        """Run to the end and write the report.

        Raises:
            RunFolderError: the folder is in use, or cannot be written any more.
        """
        try:
            with of_run(self._run):
                with contextlib.ExitStack() as stack:
                    driver, reason = self._drive(stack, resumed=resumed)
                for observer in self._observers:
                    observer.ended(reason)
                data = load_run(self._layout)
                write_report(data, self._layout.report)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise RunFolderError(
                f"{self._layout.root}: cannot be written: {error.strerror}; make room, then "
                f"`servetune resume {self._layout.root}`. What was finished is on disk"
            ) from error
        counts, stopped = dict(driver.counts), driver.interrupted
        return RunResult(self._run, self._layout.root, data.best(), counts, reason, stopped, data)

    def _drive(self, stack: contextlib.ExitStack, *, resumed: bool) -> tuple[Driver, str]:
        """Open everything on `stack` and work until the scheduler says it is over."""
        signals = stack.enter_context(Signals(self._inbox))
        stack.enter_context(RunLock(self._layout.lock))
        self._layout.create()  # what copies a run may leave out folders that are empty
        # Left last, when the journal is closed and no device is held for it any more.
        self._upkeep = stack.enter_context(Upkeep(self._layout))
        # Under the lock: another driver may have been at work until this moment.
        standing = fold(read_journal(self._layout.journal_dir), read_trials(self._layout))
        self._run = standing.run or self._run
        journal = stack.enter_context(Journal(self._layout.journal_dir, clock=time.time))
        journal.append(RunStarted(self._run, __version__, resumed))
        url = self._serve_metrics(stack)
        found: list[Bundle] = []

        def deliver(event: ClusterEvent) -> None:
            if isinstance(event, FoundBundle):
                found.append(event.bundle)
            self._inbox.put(event)

        cluster = self._cluster = create_cluster(self._study.cluster_settings(), deliver)
        stack.callback(cluster.close)
        cluster.start()
        self._study = self._study.on(found)
        signals.install()  # once more: Ray brings handlers of its own as it starts
        driver = self._driver(cluster, journal, standing, found)
        self._announce(url, standing)
        reason = driver.loop()
        journal.append(RunEnded(reason, driver.ending))
        return driver, reason

    def _driver(
        self, cluster: Cluster, journal: Journal, standing: Standing, found: Sequence[Bundle]
    ) -> Driver:
        sampler = self._study.sampler()
        recorder = Recorder(self._study, self._run, self._layout, journal, self._upkeep)
        recorder.versions = collect()
        if not standing.proposed:
            self._count_space(journal)
        proposed = first_proposals(self._study, standing.proposed, found, journal)
        standing = replace(standing, proposed=proposed)
        recorder.baselines = {each.number for each in proposed if each.baseline}
        recorder.references = {each.number for each in proposed if each.reference}
        self._restore(sampler, standing)
        driver = Driver(
            self._study,
            self._run,
            inbox=self._inbox,
            cluster=cluster,
            scheduler=Scheduler(self._study.limits(), standing.restored(self._study)),
            sampler=sampler,
            recorder=recorder,
            journal=journal,
            observers=self._observers,
        )
        for record in standing.finished.values():
            driver.adopt(record)
        return driver

    def _restore(self, sampler: Sampler, standing: Standing) -> None:
        """Make the sampler what it was: same proposals, told the same results."""
        for proposal in standing.proposed:
            if proposal.baseline or proposal.reference:
                sampler.mark_seen(proposal.config_id)
                continue
            record = standing.finished.get(proposal.number)
            outcome = None if record is None else told_outcome(record)
            sampler.restore(proposal.number, Params(proposal.engine, proposal.values), outcome)

    def _count_space(self, journal: Journal) -> None:
        space = self._study.space
        if space.size is not None and space.size <= _COUNTABLE:
            expansion = expand(space, self._study.admission, limit=0)
            journal.append(
                Expanded(expansion.valid, expansion.duplicates, dict(expansion.excluded))
            )

    def _serve_metrics(self, stack: contextlib.ExitStack) -> str:
        spec = self._study.experiment.spec
        exporter = Exporter(
            run=self._run,
            name=spec.name,
            model=self._study.source,
            goals=self._study.goals,
            slo=self._study.slo,
            capacity_gpus=0,
            version=__version__,
            sampler=spec.search.sampler,
            engines=sorted(spec.engines),
        )
        discovery = ServiceDiscovery(
            self._layout.live_targets,
            run=self._run,
            study=spec.name,
            cluster_targets=lambda: self._cluster.metrics_targets() if self._cluster else (),
        )
        url = exporter.serve(spec.metrics.host, spec.metrics.port, targets=discovery.text)
        discovery.driver_at(url)
        stack.callback(discovery.close)
        stack.callback(exporter.close)
        stack.callback(lambda: write_aside(self._layout.final_metrics, exporter.text()))
        # Once the cluster is closed, so that no device waits for it.
        stack.callback(lambda: exporter.linger(spec.metrics.linger, self._asked_to_stop))
        self._observers.insert(0, MetricsObserver(exporter))
        self._observers.insert(1, LiveStatusFile(self._layout.live_status, url))
        self._observers.insert(2, discovery)
        return url

    def _asked_to_stop(self) -> bool:
        """Whether a wish to stop came since the driver's loop ended."""
        while not self._inbox.empty():
            if isinstance(self._inbox.get(), Stop):
                return True
        return False

    def _announce(self, url: str, standing: Standing) -> None:
        spec = self._study.experiment.spec
        limits = self._study.limits()
        attached = all(ENGINES.get(engine).attaches for engine in spec.engines)
        info = RunInfo(
            run=self._run,
            name=spec.name,
            folder=self._layout.root,
            metrics_url=url,
            goals=self._study.goals,
            planned=limits.trials,
            finished=len(standing.finished),
            simulated=spec.cluster.simulated_gpus is not None and not attached,
            attached=attached,
            selection=self._study.workload.selection,
        )
        for observer in self._observers:
            observer.started(info)


def _check_secrets(study: Study) -> None:
    for engine in study.experiment.spec.engines:
        study.secrets(engine)


def _make_folder(layout: RunLayout, experiment: Experiment) -> None:
    text = dump_yaml({**experiment.resolved(), "results": str(layout.root.parent)})
    try:
        layout.create()
        layout.experiment.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"results: {layout.root.parent} cannot be written: {error.strerror}; "
            "name another folder with --results or `results`"
        ) from None
