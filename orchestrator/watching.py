"""A running study as another process sees it: what its driver says of itself, and its record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from orchestrator.live_status import read_live_status
from orchestrator.load_run import load_run
from runtimes.json_types import Json
from search.goals import Goal
from tracking.layout import RunLayout
from tracking.lock import is_locked
from tracking.run_data import RunData

PERIOD_S = 1.0
"""Between two looks; the driver writes no more often."""
STALE_S = 10.0
"""A driver that has said nothing for longer is busy with something else, or stuck."""
_DIGITS = 12
"""Of the number of a trial, at most."""


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A running attempt; None and 0 where its driver has not told yet.

    Attributes:
        phase: as the journal names it. `doing`: the step of it where there is one, else the phase.
        progress: of the requests of the stage, as `40/72`; empty before it is measured.
        output_tokens_per_s_per_gpu, ttft_mean_ms, tpot_mean_ms: over about the last second.
        in_flight: requests that were sent and have not ended.
        requests_running, requests_waiting, kv_cache_usage_ratio, prefix_cache_hit_ratio: the
            engine's own figures.
        running_s: since it got its devices.
    """

    number: int
    attempt: int = 0
    engine: str = ""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    gpus: int = 0
    gpu_ids: tuple[str, ...] = ()
    node: str = ""
    phase: str = ""
    doing: str = ""
    progress: str = ""
    output_tokens_per_s_per_gpu: float | None = None
    ttft_mean_ms: float | None = None
    tpot_mean_ms: float | None = None
    in_flight: int | None = None
    requests_running: float | None = None
    requests_waiting: float | None = None
    kv_cache_usage_ratio: float | None = None
    prefix_cache_hit_ratio: float | None = None
    running_s: float | None = None


@dataclass(frozen=True, slots=True)
class EndedTrial:
    """An attempt that ended a while ago."""

    number: int
    state: str
    objectives: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one instant.

    Attributes:
        elapsed_s: since this driver began.
        counts: finished trials by state. `planned`: trials in all; None where that is open.
        best: the best trial so far and its objectives.
        recent: attempts that ended last, the latest at the end.
        silent_s: how long the driver has said nothing, once that is more than `STALE_S`; None
            while it speaks. Infinite where it has not spoken at all.
    """

    run: str
    elapsed_s: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    planned: int | None = None
    queued: int = 0
    busy_gpus: int = 0
    capacity_gpus: int = 0
    best: EndedTrial | None = None
    running: tuple[RunningTrial, ...] = ()
    recent: tuple[EndedTrial, ...] = ()
    silent_s: float | None = None

    @property
    def finished(self) -> int:
        return sum(self.counts.values())

    @property
    def state(self) -> str:
        """`starting` until the driver speaks, `silent` where it no longer does, else `running`."""
        if self.silent_s is None:
            return "running"
        return "silent" if math.isfinite(self.silent_s) else "starting"


class Watch:
    """Looks at one run. Takes no lock and writes nothing.

    Raises:
        RunFolderError: the folder is none of a run, or cannot be read.
    """

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self._recorded = load_run(layout)
        self._last = Snapshot(layout.root.resolve().name)

    @property
    def goals(self) -> tuple[Goal, ...]:
        return self._recorded.goals

    @property
    def driven(self) -> bool:
        """Whether a driver is at work on the run."""
        return is_locked(self.layout.lock)

    def data(self) -> RunData:
        """The record as it is now."""
        return load_run(self.layout)

    def look(self) -> Snapshot:
        """The study now. A status that is absent or cannot be read leaves the last one."""
        live = read_live_status(self.layout.live_status)
        at_s = _number(live.get("at_unix_s"))
        if at_s is None or live.get("ended"):  # none yet, or of the driver before this one
            recorded = self._from_record() if self._last.elapsed_s is None else self._last
            return replace(recorded, silent_s=math.inf)
        silent_s = time.time() - at_s
        self._last = _snapshot(self._last.run, live)
        return replace(self._last, silent_s=silent_s if silent_s > STALE_S else None)

    def _from_record(self) -> Snapshot:
        """What is known of a run whose driver has not spoken yet."""
        trials = self._recorded.last_attempts()
        counts: dict[str, int] = {}
        for trial in trials:
            counts[trial.state.value] = counts.get(trial.state.value, 0) + 1
        best = self._recorded.best()
        shown = None
        if best is not None:
            shown = EndedTrial(best.number, best.state.value, best.objectives)
        return Snapshot(self._last.run, counts=counts, best=shown)


def changes(watch: Watch, *, period_s: float = PERIOD_S) -> Iterator[Snapshot]:
    """The study once a period, from now until no driver is at work on it; nothing if none is."""
    while watch.driven:
        began = time.monotonic()
        yield watch.look()
        time.sleep(max(0.0, began + period_s - time.monotonic()))


def _snapshot(run: str, live: Mapping[str, Json]) -> Snapshot:
    """What a status says, whatever of it is there."""
    running = live.get("running")
    trials = running.items() if isinstance(running, dict) else ()
    now_s = _number(live.get("at_unix_s")) or 0.0
    counts = live.get("counts")
    recent = live.get("recent")
    planned = live.get("planned")
    return Snapshot(
        run=run,
        elapsed_s=_number(live.get("elapsed_s")) or 0.0,
        counts={
            state: number
            for state, number in (counts.items() if isinstance(counts, dict) else ())
            if isinstance(number, int)
        },
        planned=planned if isinstance(planned, int) else None,
        queued=_whole(live.get("queued")),
        busy_gpus=_whole(live.get("busy_gpus")),
        capacity_gpus=_whole(live.get("capacity_gpus")),
        best=_ended(live.get("best")),
        running=tuple(
            _running(int(number), facts, now_s)
            for number, facts in trials
            if isinstance(facts, dict) and number.isdecimal() and len(number) <= _DIGITS
        ),
        recent=tuple(
            trial
            for each in (recent if isinstance(recent, list) else ())
            if (trial := _ended(each)) is not None
        ),
    )


_FIGURES = frozenset(
    item.name
    for item in fields(RunningTrial)
    if item.name.endswith(("_ms", "_ratio")) or item.name.startswith("requests_")
)


def _running(number: int, facts: Mapping[str, Json], now_s: float) -> RunningTrial:
    measured = "planned" in facts
    gpus = _whole(facts.get("gpus"))
    tokens = _number(facts.get("output_tokens_per_s"))
    started_s = _number(facts.get("started_unix_s"))
    parameters, gpu_ids = facts.get("parameters"), facts.get("gpu_ids")
    return RunningTrial(
        number=number,
        attempt=_whole(facts.get("attempt")),
        engine=str(facts.get("engine", "")),
        parameters=parameters if isinstance(parameters, dict) else {},
        gpus=gpus,
        gpu_ids=tuple(map(str, gpu_ids)) if isinstance(gpu_ids, Sequence) else (),
        node=str(facts.get("node", "")),
        phase=str(facts.get("phase", "")),
        doing=str(facts.get("step") or facts.get("phase", "")),
        progress=_progress(facts) if measured else "",
        output_tokens_per_s_per_gpu=None if tokens is None else tokens / max(gpus, 1),
        in_flight=_whole(facts.get("in_flight")) if measured else None,
        running_s=None if started_s is None else max(0.0, now_s - started_s),
        **{name: _number(facts.get(name)) for name in _FIGURES},
    )


def _progress(facts: Mapping[str, Json]) -> str:
    done = f"{_whole(facts.get('completed'))}/{facts.get('planned')}"
    stage = _whole(facts.get("stage"))
    return f"stage {stage + 1}: {done}" if stage else done


def _ended(facts: Json) -> EndedTrial | None:
    if not isinstance(facts, dict) or not isinstance(number := facts.get("trial"), int):
        return None
    objectives = facts.get("objectives")
    return EndedTrial(
        number,
        str(facts.get("state", "completed")),
        {
            name: float(value)
            for name, value in (objectives.items() if isinstance(objectives, dict) else ())
            if isinstance(value, int | float)
        },
        str(facts.get("reason", "")),
    )


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: Json) -> int:
    return int(value) if isinstance(value, int | float) else 0
