"""A run read back from its folder, for reports, status and comparisons."""

from __future__ import annotations

import yaml

from runtimes.errors import RunFolderError
from runtimes.json_types import Json
from runtimes.printable import printable
from search.goals import Goal
from tracking.device_time import capacity, rowless_gpu_seconds
from tracking.events import (
    Ending,
    Expanded,
    Finished,
    Launched,
    RunEnded,
    RunStarted,
)
from tracking.journal import read_journal
from tracking.layout import RunLayout
from tracking.lock import is_locked
from tracking.parquet.read import read_stages, read_trials
from tracking.run_data import RunData

_RESTORE = "Restore the file from a copy of the run, or name another run."


def load_run(layout: RunLayout) -> RunData:
    """Everything stored of a run. Needs neither its cluster nor its model nor its secrets.

    Raises:
        RunFolderError: the folder is none of a run, or cannot be read.
    """
    experiment = _experiment(layout)
    journal = read_journal(layout.journal_dir)
    ended = RunEnded("", Ending.KILLED)
    excluded: dict[str, int] = {}
    communication: dict[int, float] = {}
    finished: dict[int, int] = {}  # number of a trial → its last attempt that ended
    for _, event in journal:
        if isinstance(event, RunStarted):
            ended = RunEnded("", Ending.KILLED)
        elif isinstance(event, Expanded):
            excluded = dict(event.excluded)
        elif isinstance(event, Launched) and event.communication_ratio is not None:
            communication[event.number] = event.communication_ratio
        elif isinstance(event, Finished):
            finished[event.number] = event.attempt
        elif isinstance(event, RunEnded):
            ended = event
    if is_locked(layout.lock):
        ended = RunEnded("the study is still running", Ending.RUNNING)
    trials = tuple(read_trials(layout))
    known = {(trial.number, trial.attempt) for trial in trials}
    gpus, held_s = capacity(journal)
    return RunData(
        run=layout.root.resolve().name,
        name=str(experiment.get("name", "")),
        experiment=experiment,
        goals=_goals(experiment),
        trials=trials,
        stages=tuple(read_stages(layout)),
        capacity_gpus=gpus,
        capacity_gpu_seconds=held_s,
        rowless_gpu_seconds=rowless_gpu_seconds(journal, known),
        unread_trials=len(finished.items() - known),
        excluded=excluded,
        ended=ended.reason,
        ending=ended.ending,
        communication_ratios=communication,
        folder=str(layout.root),
    )


def _experiment(layout: RunLayout) -> dict[str, Json]:
    try:
        data = yaml.safe_load(layout.experiment.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            f"{layout.root}: is no run folder (experiment.yaml is absent); name one, "
            "or the id of a run below --results"
        ) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else printable(str(error))
        raise RunFolderError(f"{layout.experiment}: cannot be read: {why}. {_RESTORE}") from None
    if not isinstance(data, dict):
        raise RunFolderError(f"{layout.experiment}: holds no experiment. {_RESTORE}")
    if not _goals(data):
        raise RunFolderError(
            f"{layout.experiment}: names no objective under `objectives`, so no trial of the run "
            f"can be called its best. {_RESTORE}"
        )
    return data


def _goals(experiment: dict[str, Json]) -> tuple[Goal, ...]:
    goals = []
    objectives = experiment.get("objectives")
    for objective in objectives if isinstance(objectives, list) else []:
        if isinstance(objective, dict):
            for direction in ("maximize", "minimize"):
                if isinstance(name := objective.get(direction), str):
                    goals.append(Goal(name, direction))
    return tuple(goals)
