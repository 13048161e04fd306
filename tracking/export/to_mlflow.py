"""The study as MLflow keeps one: an experiment of the study, a run of it per trial."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runtimes.errors import MissingToolError, UserError
from runtimes.json_types import canonical_json, short_hash
from runtimes.measurement import Distribution, Measurement
from runtimes.secrets import mask_credentials
from search.trial import TrialState
from tracking.export._checks import check_folder
from tracking.layout import RunLayout
from tracking.records import StageRecord, TrialRecord
from tracking.report import write_report
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import count, parameter, printable, shell_command

if TYPE_CHECKING:
    from mlflow import MlflowClient

_RUN = "servetune.run"
_TRIAL = "servetune.trial"
_KIND, _TRAINING = "mlflow.experimentKind", "custom_model_development"  # not traces of agents
_DIGEST = "servetune.digest"
"""Tag that a run gets last: what it was written from. Without it, it was never finished."""

_STATUS = {
    TrialState.COMPLETED: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.INFEASIBLE: "FAILED",
    TrialState.FAILED: "FAILED",
    TrialState.CANCELLED: "KILLED",
}
_MAX_VALUE = 5000
"""Characters of a parameter's or tag's value; MLflow takes 6000 and 8000."""
_MAX_BATCH = 100
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's settings for one question whether a server is there; the time is in seconds."""
_LOG_TAIL = 200
"""Lines of an engine's log that go along."""


def export_mlflow(
    data: RunData, layout: RunLayout, out: str | None, *, name: str | None = None
) -> str:
    """Write the study of `data` to MLflow; what an earlier export wrote is kept or replaced.

    Args:
        data: the run.
        layout: its files, for the logs.
        out: a tracking URI, an SQLite file (`*.db`) or a folder for one; $MLFLOW_TRACKING_URI or
            `mlruns` when None.
        name: of the experiment; the run's id when None.

    Returns:
        What was done, and how to look at it.

    Raises:
        MissingToolError: MLflow is not installed.
        UserError: nothing can be written there, or the experiment is another's.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from alembic.util import CommandError
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise MissingToolError(
            "--to mlflow needs MLflow's client: pip install 'servetune[mlflow]'"
        ) from None
    shown = mask_credentials(out or "")
    try:
        uri = _uri(out)
        shown = mask_credentials(uri)
        client = MlflowClient(tracking_uri=uri)
        _check_server(client)
        experiment = _experiment(client, name or data.run, data)
        changed = _write_trials(client, experiment, data, layout)
    except (MlflowException, CommandError, SQLAlchemyError, OSError, ImportError) as error:
        reason = mask_credentials(printable(str(error)).strip().partition("\n")[0])
        raise UserError(
            f"--out {shown}: MLflow cannot write there: {reason}; name another place"
        ) from None
    total = len(data.last_attempts())
    return (
        f"wrote experiment {name or data.run} with {count(total, 'run')} to {shown} "
        f"({changed} new or changed)\nlook at it by: mlflow ui --backend-store-uri {shown}"
    )


def _uri(out: str | None) -> str:
    """A tracking URI; of a path, that of the SQLite file there, which is MLflow's own default."""
    given = out or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
    if "://" in given or given.startswith("databricks"):
        try:
            urlsplit(given)
        except ValueError as error:
            raise UserError(f"--out {mask_credentials(given)}: is no URL: {error}") from None
        return given
    path = Path(given).absolute()
    check_folder(given, path.parent)
    if path.suffix == ".db" or path.is_file():
        return f"sqlite:///{path}"
    path.mkdir(exist_ok=True)
    return f"sqlite:///{path / 'mlflow.db'}"


def _check_server(client: MlflowClient) -> None:
    """Ask a server once, with short patience: MLflow's own is minutes.

    Raises:
        UserError: none answers.
        MlflowException: it does not answer as MLflow's do.
    """
    from mlflow.exceptions import MlflowException, RestException

    uri: str = client.tracking_uri
    if not uri.startswith(("http://", "https://")):
        return
    before = {name: os.environ.get(name) for name in _PATIENCE}
    os.environ.update(_PATIENCE)
    try:
        client.search_experiments(max_results=1)
    except RestException:
        raise
    except MlflowException as error:
        shown = mask_credentials(uri)
        reason = mask_credentials(printable(str(error)).strip().partition("\n")[0])
        raise UserError(
            f"--out {shown}: no MLflow server answers there; start one (mlflow server), or write "
            f"to a folder (--out mlruns): {reason}"
        ) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _experiment(client: MlflowClient, name: str, data: RunData) -> str:
    known = client.get_experiment_by_name(name)
    if known is None:
        made: str = client.create_experiment(
            name, artifact_location=_artifacts(client), tags={_RUN: data.run, _KIND: _TRAINING}
        )
        return made
    if known.tags.get(_RUN) != data.run:
        raise UserError(
            f"{mask_credentials(client.tracking_uri)} has an experiment {name!r} that is not of "
            "this run; choose another --name"
        )
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    identity: str = known.experiment_id
    return identity


def _artifacts(client: MlflowClient) -> str | None:
    """Beside a file of our own; a server says itself where artefacts go."""
    uri: str = client.tracking_uri
    path = uri.removeprefix("sqlite:///")
    return Path(path).parent.joinpath("artifacts").as_uri() if path != uri else None


def _write_trials(client: MlflowClient, experiment: str, data: RunData, layout: RunLayout) -> int:
    """Write what is not there yet; returns how many runs were."""
    known = _known(client, experiment)
    best = data.best()
    changed = 0
    for record in data.last_attempts():
        stages = [
            stage
            for stage in data.stages
            if (stage.number, stage.attempt) == (record.number, record.attempt)
        ]
        is_best = best is not None and record.number == best.number
        digest = short_hash([repr(record), repr(stages), is_best])
        earlier = known.get(str(record.number), {})
        if set(earlier.values()) == {digest} and len(earlier) == 1:
            continue
        for run_id in earlier:
            client.delete_run(run_id)
        _write_run(client, experiment, record, stages, data if is_best else None, layout, digest)
        changed += 1
    return changed


def _known(client: MlflowClient, experiment: str) -> dict[str, dict[str, str]]:
    """Trial's number → runs that there are of it, each with its digest."""
    found: dict[str, dict[str, str]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if _TRIAL in tags:
                found.setdefault(tags[_TRIAL], {})[run.info.run_id] = tags.get(_DIGEST, "")
        token = page.token
        if not token:
            return found


def _write_run(
    client: MlflowClient,
    experiment: str,
    record: TrialRecord,
    stages: list[StageRecord],
    best_of: RunData | None,
    layout: RunLayout,
    digest: str,
) -> None:
    started_ms = round((record.started_unix_s or record.ended_unix_s or 0.0) * 1000)
    ended_ms = round((record.ended_unix_s or record.started_unix_s or 0.0) * 1000)
    run = client.create_run(
        experiment,
        start_time=started_ms,
        run_name=f"trial {record.number}",
        tags={**_tags(record), _RUN: record.run, _TRIAL: str(record.number)},
    )
    run_id: str = run.info.run_id
    _log_figures(client, run_id, record, stages, ended_ms)
    if record.deploy_command:
        command = shell_command(record.deploy_command, record.env)
        client.log_text(run_id, command + "\n", "command.sh")
    if tail := _log_tail(record, layout):
        client.log_text(run_id, tail, "log_tail.txt")
    if best_of is not None:
        client.set_tag(run_id, "best", "true")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.html"
            write_report(best_of, report)
            client.log_artifact(run_id, str(report))
    client.set_tag(run_id, _DIGEST, digest)
    client.set_terminated(run_id, _STATUS.get(record.state, "FINISHED"), ended_ms)


def _log_figures(
    client: MlflowClient,
    run_id: str,
    record: TrialRecord,
    stages: list[StageRecord],
    ended_ms: int,
) -> None:
    from mlflow.entities import Metric, Param

    params = [Param(name, value[:_MAX_VALUE]) for name, value in _params(record).items()]
    metrics = [Metric(name, value, ended_ms, 0) for name, value in _metrics(record).items()]
    for stage in stages:
        at_ms = round(stage.ended_unix_s * 1000)
        figures = {"load_value": stage.load_value, **dict(_figures(stage.measurement))}
        metrics += [
            Metric(f"stage/{name}", value, at_ms, stage.stage) for name, value in figures.items()
        ]
    for at in range(0, len(params), _MAX_BATCH):
        client.log_batch(run_id, params=params[at : at + _MAX_BATCH])
    for at in range(0, len(metrics), _MAX_BATCH):
        client.log_batch(run_id, metrics=metrics[at : at + _MAX_BATCH])


def _params(record: TrialRecord) -> dict[str, str]:
    return {
        "engine": record.engine,
        **{name: parameter(value) for name, value in record.params.items()},
        "config_id": record.config_id,
        "gpus": str(record.gpus),
    }


def _metrics(record: TrialRecord) -> dict[str, float]:
    """Objectives under their own names, and everything else that was measured."""
    made = dict(_figures(record.measurement)) if record.measurement is not None else {}
    times = {
        "startup_s": record.startup_s,
        "warmup_s": record.warmup_s,
        "measure_s": record.measure_s,
        "gpu_seconds": record.gpu_seconds,
        "slo_rate_low": record.slo_rate_low,
        "slo_rate_high": record.slo_rate_high,
    }
    made |= {name: value for name, value in times.items() if value is not None}
    return {**made, **record.objectives}


def _figures(measurement: Measurement) -> Iterator[tuple[str, float]]:
    """Every number of a measurement by its name in the record (`ttft_p99_ms`)."""
    for name in measurement.__dataclass_fields__:
        value = getattr(measurement, name)
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            yield name, float(value)
        elif isinstance(value, Distribution):
            latency = name.removesuffix("_ms")
            for statistic, figure in asdict(value).items():
                if isinstance(figure, int | float) and statistic != "count":
                    yield f"{latency}_{statistic}_ms", float(figure)


def _tags(record: TrialRecord) -> Mapping[str, str]:
    measured = record.measurement
    tags: dict[str, Any] = {
        "state": record.state.value,
        "attempt": record.attempt,
        "engine": record.engine,
        "engine_version": record.engine_version,
        "model": record.model,
        "model_revision": record.model_revision or "",
        "gpu_model": record.gpu_model,
        "node": record.node,
        "baseline": record.baseline,
        "simulated": record.simulated,
        "flags": ", ".join(all_flags(record)),
        "reason": record.reason,
        "failure": "" if record.failure is None else record.failure.message,
        "failure_kind": "" if record.failure is None else record.failure.kind.value,
        "slo_met": "" if measured is None or not measured.slo else measured.slo_met,
    }
    said = {name: value for name, value in tags.items() if value != ""}
    return {
        name: (value if isinstance(value, str) else canonical_json(value))[:_MAX_VALUE]
        for name, value in said.items()
    }


def _log_tail(record: TrialRecord, layout: RunLayout) -> str:
    path = layout.log_file(record.number, record.attempt)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = record.failure.log_tail.splitlines() if record.failure is not None else []
    return "\n".join(lines[-_LOG_TAIL:])
