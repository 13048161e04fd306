"""Runs of other load generators, written down as a run of ours."""

from __future__ import annotations

import errno
import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.load_run import load_run
from orchestrator.naming import run_name
from orchestrator.spec.experiment import dump_yaml
from runtimes.engines.external import ExternalEngine
from runtimes.errors import UserError
from runtimes.failure import Failure, FailureKind
from runtimes.json_types import Json
from runtimes.measurement import Measurement
from runtimes.peers.result import PeerResult, read_results
from runtimes.version import __version__
from search.objectives.base import OBJECTIVES
from search.trial import TrialState
from tracking.events import Ending, Finished, Proposed, RunEnded, RunStarted
from tracking.journal import Journal
from tracking.layout import RunLayout, new_run_id
from tracking.parquet.upkeep import Upkeep
from tracking.parquet.write import RecordWriter, encode_requests
from tracking.provenance import collect
from tracking.records import IMPORTED, StageRecord, TrialRecord
from tracking.report import write_report

_OBJECTIVE = "output_throughput"
_PARAMETERS = ("tool", "load")
"""What tells the trials of an imported run apart."""


def import_results(files: Sequence[Path], *, results: Path, gpus: int | None = None) -> RunLayout:
    """Write every result of `files` as one trial of a new run below `results`.

    All files are read before anything is written.

    Args:
        files: in the order that their trials shall have.
        results: parent of run folders.
        gpus: GPUs behind the server, where the files do not say.

    Raises:
        UserError: a file cannot be read as a result, or the record cannot be written.
    """
    found = [(path, result) for path in files for result in read_results(path)]
    names = {Path(result.model).name for _, result in found}
    name = run_name(names.pop() if len(names) == 1 else "several", prefix="imported-")
    run = new_run_id(name, datetime.now(UTC), random.Random())  # a name
    layout = RunLayout(results / run)
    try:
        _write(layout, name, found, gpus)
    except OSError as error:
        reason = error.strerror or errno.errorcode.get(error.errno or 0, "")
        raise UserError(
            f"--results {results}: cannot be written: {reason}; name another folder"
        ) from None
    return layout


def _write(
    layout: RunLayout, name: str, found: Sequence[tuple[Path, PeerResult]], gpus: int | None
) -> None:
    layout.create()
    layout.experiment.write_text(dump_yaml(_experiment(name, found)), encoding="utf-8")
    writer = RecordWriter(layout, dict.fromkeys(_PARAMETERS, "string"), [_OBJECTIVE])
    versions = collect()
    with Upkeep(layout) as upkeep, Journal(layout.journal_dir, clock=time.time) as journal:
        journal.append(RunStarted(layout.run, __version__, resumed=False))
        for number, (path, result) in enumerate(found):
            trial = _trial(layout.run, number, path, result, gpus)
            trial = replace(trial, versions={**versions, **trial.versions})
            journal.append(Proposed(number, trial.engine, trial.params, trial.config_id))
            if result.records:
                encoded = encode_requests(
                    run=layout.run, number=number, attempt=0, stage=0, records=result.records
                )
                writer.requests(number, 0, 0, encoded)
            writer.stage(_stage(layout.run, number, result))
            writer.trial(trial)
            journal.append(Finished(number, 0, trial.state.value))
            upkeep.ended(number, 0)
        journal.append(RunEnded(f"imported from {_list(found)}", Ending.COMPLETE))
    write_report(load_run(layout), layout.report)


def _experiment(name: str, found: Sequence[tuple[Path, PeerResult]]) -> dict[str, Json]:
    """What is known of it; it is none that could be run."""
    models = sorted({result.model for _, result in found})
    experiment: dict[str, Json] = {"name": name}
    if len(models) == 1:
        experiment["model"] = {"id": models[0]}
    experiment["objectives"] = [{"maximize": _OBJECTIVE}]
    experiment["imported"] = [
        {
            "trial": number,
            "file": path.name,
            "tool": result.tool,
            "model": result.model,
            "load": {"kind": result.load, "value": result.load_value},
            **dict(result.facts),
        }
        for number, (path, result) in enumerate(found)
    ]
    return experiment


def _trial(run: str, number: int, path: Path, result: PeerResult, gpus: int | None) -> TrialRecord:
    measured = result.measurement
    completed = measured.requests_completed > 0
    world = result.gpus or gpus or 1
    value = OBJECTIVES.get(_OBJECTIVE).value(measured, gpus=world)
    params = {"tool": result.tool, "load": f"{result.load} {result.load_value:g}"}
    identity = f"{result.tool} {result.model} {params['load']} {result.started_unix_s}"
    return TrialRecord(
        run=run,
        number=number,
        attempt=0,
        state=TrialState.COMPLETED if completed else TrialState.FAILED,
        engine=ExternalEngine.name,
        params=params,
        config_id=hashlib.sha256(identity.encode()).hexdigest()[:12],
        command=(),
        deploy_command=(),
        simulated=False,
        model=result.model,
        model_revision=None,
        seed=0,
        gpus=world,
        gpu_model=result.gpu_model,
        started_unix_s=result.started_unix_s,
        ended_unix_s=result.ended_unix_s,
        measure_s=measured.duration_s,
        gpu_seconds=world * max(0.0, result.ended_unix_s - result.started_unix_s),
        deciding_stage=0 if completed else None,
        measurement=_flagged(result) if completed else None,
        objectives={_OBJECTIVE: value} if completed and value is not None else {},
        failure=None if completed else _failure(result),
        flags=_flagged(result).flags,
        versions={**_facts(result), "imported_from": path.name},
    )


def _stage(run: str, number: int, result: PeerResult) -> StageRecord:
    return StageRecord(
        run=run,
        number=number,
        attempt=0,
        stage=0,
        load=result.load,
        load_value=result.load_value,
        started_unix_s=result.started_unix_s,
        ended_unix_s=result.ended_unix_s,
        measurement=_flagged(result),
    )


def _flagged(result: PeerResult) -> Measurement:
    return replace(result.measurement, flags=(IMPORTED, *result.measurement.flags))


def _facts(result: PeerResult) -> Mapping[str, str]:
    return {name: value for name, value in result.facts.items() if value}


def _failure(result: PeerResult) -> Failure:
    failed = result.measurement.requests_failed
    return Failure(
        FailureKind.REQUESTS_FAILED,
        f"none of its requests completed; {failed} failed",
        "read what the tool that ran it said",
    )


def _list(found: Sequence[tuple[Path, PeerResult]]) -> str:
    names = list(dict.fromkeys(path.name for path, _ in found))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
