"""The study as Optuna keeps one, so that its tools and optuna-dashboard show it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtimes.errors import MissingToolError, UserError
from runtimes.json_types import Json, canonical_json
from runtimes.secrets import mask_credentials
from search.trial import TrialState
from tracking.export._checks import check_folder
from tracking.export._distributions import Encoded, encode
from tracking.records import TrialRecord
from tracking.run_data import RunData
from tracking.summary import all_flags
from tracking.words import count, shell_command

if TYPE_CHECKING:
    import optuna

RUN = "servetune_run"
"""Attribute of a study of ours: the run it was written from."""

_INFEASIBLE_EXCESS = 1e6  # as the search tells it: behind every broken limit
_JOURNALS = (".log", ".journal", ".jsonl")


def export_optuna(data: RunData, out: str, *, name: str | None = None) -> str:
    """Write the study of `data` into a storage, in place of what an earlier export wrote.

    Args:
        data: the run.
        out: a storage URL (`sqlite:///study.db`), the file of an Optuna journal (`*.log`,
            `*.journal`, `*.jsonl`), or a file that becomes an SQLite database.
        name: of the study; the run's id when None.

    Returns:
        What was done, and how to look at it.

    Raises:
        UserError: the storage cannot be used, or has another study of that name.
        MissingToolError: its database needs a driver that is not installed.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    study_name = name or data.run
    trials = list(_frozen(data))
    shown = mask_credentials(out)
    try:
        storage, address = _storage(out)
        shown = mask_credentials(address)
        _write_study(_fresh(study_name, storage, data, shown), data, trials)
    except ImportError as error:
        raise MissingToolError(
            f"--out {shown}: needs a database driver ({error}); install it with pip, or write "
            "a file: --out study.db"
        ) from None
    except (SQLAlchemyError, OptunaError, RuntimeError, OSError) as error:
        cause = error.__cause__ if isinstance(error, OptunaError) else None
        reason = mask_credentials(str(cause or error).partition("\n")[0])
        raise UserError(
            f"--out {shown}: is no storage that Optuna can use: {reason}; write a file "
            "(study.db) or a URL (sqlite:///study.db)"
        ) from None
    return (
        f"wrote study {study_name} with {count(len(trials), 'trial')} to {shown}\n"
        f"look at it by: optuna-dashboard {shown}"
    )


def _storage(out: str) -> tuple[optuna.storages.BaseStorage, str]:
    """The storage, and its address as optuna-dashboard takes it. Raises what Optuna raises."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in out:
        return optuna.storages.RDBStorage(out), out
    path = Path(out)
    check_folder(out, path.parent)
    if path.suffix in _JOURNALS:
        _check_journal(path)
        return optuna.storages.JournalStorage(JournalFileBackend(out)), out
    return optuna.storages.RDBStorage(f"sqlite:///{out}"), f"sqlite:///{out}"


def _check_journal(path: Path) -> None:
    """Refuse a file that another program wrote: Optuna would append to it.

    Raises:
        UserError: the file begins with something else than an entry of a journal.
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline()
    try:
        entry = json.loads(first or b'{"op_code": 0}')
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "op_code" not in entry:
        raise UserError(f"--out {path}: is there and is no journal of Optuna's; name another file")


def _write_study(
    study: optuna.Study, data: RunData, trials: Sequence[optuna.trial.FrozenTrial]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of metrics are an experimental part of Optuna
        study.set_metric_names([goal.name for goal in data.goals])
        for key, value in _about(data).items():
            study.set_user_attr(key, value)
        study.add_trials(trials)


def _fresh(
    name: str, storage: optuna.storages.BaseStorage, data: RunData, shown: str
) -> optuna.Study:
    """An empty study of that name; ours of an earlier export goes, another's is left alone."""
    import optuna

    directions = [goal.direction for goal in data.goals]
    if name in optuna.get_all_study_names(storage):
        known = optuna.load_study(study_name=name, storage=storage)
        if known.user_attrs.get(RUN) != data.run:
            raise UserError(
                f"{shown} has a study {name!r} that is not of this run; choose another --name"
            )
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_user_attr(RUN, data.run)
    return study


def _about(data: RunData) -> Mapping[str, Json]:
    keys = ("name", "model", "workload", "slo")
    return {key: data.experiment[key] for key in keys if data.experiment.get(key) is not None}


def _frozen(data: RunData) -> Iterator[optuna.trial.FrozenTrial]:
    """One trial of Optuna's per trial, each by its latest attempt, in order of their numbers."""
    from optuna.trial import create_trial

    records = data.last_attempts()
    for record, parameters in zip(records, encode(data, records), strict=True):
        state, values, constraints = _result(data, record)
        trial = create_trial(
            state=state,
            values=values,
            params=parameters.values,
            distributions=_distributions(parameters),
            user_attrs=_attributes(record),
            constraints=constraints,
        )
        if record.started_unix_s is not None:
            trial.datetime_start = datetime.fromtimestamp(record.started_unix_s)
        if record.ended_unix_s is not None:
            trial.datetime_complete = datetime.fromtimestamp(record.ended_unix_s)
        yield trial


def _distributions(parameters: Encoded) -> dict[str, Any]:
    return dict(parameters.distributions)


def _result(
    data: RunData, record: TrialRecord
) -> tuple[optuna.trial.TrialState, Sequence[float] | None, dict[str, float] | None]:
    """State, values and constraints, as the search was told them: what is doubtful has failed."""
    from optuna.trial import TrialState as Theirs

    if record.state is TrialState.COMPLETED and not record.doubts:
        values = [record.objectives.get(goal.name, math.nan) for goal in data.goals]
        verdicts = record.measurement.slo if record.measurement is not None else ()
        if all(math.isfinite(value) for value in values):
            limits = {str(verdict.limit): verdict.violation for verdict in verdicts}
            return Theirs.COMPLETE, values, limits
    if record.state is TrialState.INFEASIBLE:
        return Theirs.PRUNED, None, {"infeasible": _INFEASIBLE_EXCESS}
    if record.state is TrialState.PRUNED:
        return Theirs.PRUNED, None, None
    return Theirs.FAIL, None, None


def _attributes(record: TrialRecord) -> dict[str, Json]:
    measured = record.measurement
    made: dict[str, Json] = {
        "run": record.run,
        "trial": record.number,
        "attempt": record.attempt,
        "state": record.state.value,
        "config_id": record.config_id,
        "baseline": record.baseline,
        "simulated": record.simulated,
        "engine_version": record.engine_version,
        "gpus": record.gpus,
        "gpu_model": record.gpu_model,
        "flags": [*all_flags(record)],
        "objectives": dict(record.objectives),
    }
    if record.deploy_command:
        made["command"] = shell_command(record.deploy_command, record.env)
    if measured is not None and measured.slo:
        made["slo_met"] = measured.slo_met
        made["slo"] = {str(verdict.limit): verdict.value_ms for verdict in measured.slo}
    if record.failure is not None:
        made["failure"] = f"{record.failure.kind.value}: {record.failure.message}"
    if record.reason:
        made["reason"] = record.reason
    # Storages take JSON only, and no number that it has no word for.
    return {key: value for key, value in made.items() if _is_json(value)}


def _is_json(value: Json) -> bool:
    return "NaN" not in (text := canonical_json(value)) and "Infinity" not in text
