"""A run read back from its folder, for reports, status and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from runtimes.errors import RunFolderError
from runtimes.json_types import Json
from search.goals import Goal
from tracking.events import (
    BundleLost,
    BundleTaken,
    Ending,
    Event,
    Expanded,
    Launched,
    RunEnded,
    RunStarted,
)
from tracking.journal import read_journal
from tracking.layout import RunLayout
from tracking.lock import is_locked
from tracking.parquet.read import read_stages, read_trials
from tracking.run_data import RunData


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
    for _, event in journal:
        if isinstance(event, RunStarted):
            ended = RunEnded("", Ending.KILLED)
        elif isinstance(event, Expanded):
            excluded = dict(event.excluded)
        elif isinstance(event, Launched) and event.communication_ratio is not None:
            communication[event.number] = event.communication_ratio
        elif isinstance(event, RunEnded):
            ended = event
    if is_locked(layout.lock):
        ended = RunEnded("the study is still running", Ending.RUNNING)
    capacity, held_s = _capacity(journal)
    return RunData(
        run=layout.root.resolve().name,
        name=str(experiment.get("name", "")),
        experiment=experiment,
        goals=_goals(experiment),
        trials=tuple(read_trials(layout)),
        stages=tuple(read_stages(layout)),
        capacity_gpus=capacity,
        capacity_gpu_seconds=held_s,
        excluded=excluded,
        ended=ended.reason,
        ending=ended.ending,
        communication_ratios=communication,
    )


def _capacity(journal: Sequence[tuple[float, Event]]) -> tuple[int, float]:
    """GPUs the last driver held, and GPU-seconds all drivers held them.

    A driver that was killed is taken to have held them until its last event.
    """
    held: dict[str, int] = {}
    gpu_seconds = 0.0
    last_s = 0.0
    for at_s, event in journal:
        if isinstance(event, RunStarted):
            held = {}
        else:
            gpu_seconds += sum(held.values()) * (at_s - last_s)
        last_s = at_s
        if isinstance(event, BundleTaken):
            held[event.bundle] = len(event.gpu_ids)
        elif isinstance(event, BundleLost):
            held.pop(event.bundle, None)
    return sum(held.values()), gpu_seconds


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
