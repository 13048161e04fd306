"""A run read back from its folder, for reports, status and comparisons."""

from __future__ import annotations

import yaml

from runtimes.errors import RunFolderError
from runtimes.json_types import Json
from search.goals import Goal
from tracking.events import BundleTaken, Expanded, RunEnded, RunStarted
from tracking.journal import read_journal
from tracking.layout import RunLayout
from tracking.parquet.read import read_stages, read_trials
from tracking.run_data import RunData


def load_run(layout: RunLayout) -> RunData:
    """Everything stored of a run. Needs neither its cluster nor its model nor its secrets.

    Raises:
        RunFolderError: the folder is none of a run, or cannot be read.
    """
    experiment = _experiment(layout)
    capacity = 0
    ended = ""
    excluded: dict[str, int] = {}
    for _, event in read_journal(layout.journal_dir):
        if isinstance(event, RunStarted):
            capacity, ended = 0, ""
        elif isinstance(event, BundleTaken):
            capacity += len(event.gpu_ids)
        elif isinstance(event, Expanded):
            excluded = dict(event.excluded)
        elif isinstance(event, RunEnded):
            ended = event.reason
    return RunData(
        run=layout.root.resolve().name,
        name=str(experiment.get("name", "")),
        experiment=experiment,
        goals=_goals(experiment),
        trials=tuple(read_trials(layout)),
        stages=tuple(read_stages(layout)),
        capacity_gpus=capacity,
        excluded=excluded,
        ended=ended,
    )


def _experiment(layout: RunLayout) -> dict[str, Json]:
    try:
        data = yaml.safe_load(layout.experiment.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            f"{layout.root}: is no run folder (experiment.yaml is absent); name one, "
            "or the id of a run below --results"
        ) from None
    except (OSError, yaml.YAMLError) as error:
        raise RunFolderError(f"{layout.experiment}: cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise RunFolderError(f"{layout.experiment}: holds no experiment")
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
