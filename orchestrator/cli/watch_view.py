"""A running study on a terminal, as lines, and as JSON objects."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli import words
from orchestrator.cli.console import one_line, said
from orchestrator.cli.documents import result_document
from orchestrator.cli.next_steps import next_steps
from orchestrator.cli.stdout import write
from orchestrator.watching import EndedTrial, RunningTrial, Snapshot
from runtimes.json_types import Json
from search.goals import Goal
from tracking.events import Ending
from tracking.layout import RunLayout
from tracking.run_data import RunData
from tracking.summary import summarise_run
from tracking.words import count, duration, figure, objective_value, objective_words

_RECENT = 5
"""Ended trials on the screen."""
_GAP = 2
"""Spaces between columns."""
_REASON = 120
"""Characters of why one ended."""


class View(ABC):
    """Where snapshots go, from the first to the end of the run."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show the study as it is now."""

    @abstractmethod
    def ended(self, data: RunData, layout: RunLayout) -> None:
        """No driver is at work (any more)."""


class LinesView(View):
    """A line for each change of what runs, what ended and what is best."""

    def __init__(self, console: Console, goals: Sequence[Goal]) -> None:
        self._console = console
        self._goals = goals
        self._last: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        last, self._last = self._last, snapshot
        if last is None or last.state != snapshot.state:
            self._say("  ".join(header(snapshot)))
        before = {} if last is None else {trial.number: trial for trial in last.running}
        for trial in snapshot.running:
            known = before.get(trial.number)
            if known is None or _stage(known) != _stage(trial):
                self._say(_running_words(trial))
        seen = () if last is None else last.recent
        for ended in snapshot.recent:
            if ended not in seen:
                self._say(ended_words(ended, self._goals))
        if snapshot.best is not None and (last is None or last.best != snapshot.best):
            self._say(best_words(snapshot.best, self._goals))

    def ended(self, data: RunData, layout: RunLayout) -> None:
        print_end(self._console, data, layout)

    def _say(self, line: str) -> None:
        self._console.print(said(one_line(line)), soft_wrap=True)
        self._console.file.flush()


class ScreenView(View):
    """The whole study at once, drawn again with each snapshot."""

    def __init__(self, console: Console, goals: Sequence[Goal]) -> None:
        self._console = console
        self._goals = goals
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(screen(snapshot, self._goals, self._console.width), refresh=True)

    def ended(self, data: RunData, layout: RunLayout) -> None:
        print_end(self._console, data, layout)


class JsonView(View):
    """One object a line whenever something but the time has changed, and one at the end."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        told = _timeless(snapshot)
        if told != self._last:
            self._last = told
            facts = {name: _finite(value) for name, value in asdict(snapshot).items()}
            _write_line({"state": snapshot.state, **facts})

    def ended(self, data: RunData, layout: RunLayout) -> None:
        state = "ended" if data.ended else "interrupted"
        _write_line({"state": state, **result_document(data, layout)})


def screen(snapshot: Snapshot, goals: Sequence[Goal], width: int) -> RenderableType:
    """What a terminal of `width` columns shows."""
    parts: list[RenderableType] = [_line(text, "bold") for text in _packed(header(snapshot), width)]
    if snapshot.best is not None:
        parts.append(_line(best_words(snapshot.best, goals)))
    if snapshot.running:
        parts += [Text(""), running_table(snapshot.running, width)]
    if snapshot.recent:
        parts.append(Text(""))
        for ended in reversed(snapshot.recent[-_RECENT:]):
            parts.append(_line(ended_words(ended, goals), "dim"))
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _packed(parts: Sequence[str], width: int) -> list[str]:
    """The parts in as few lines of `width` columns as hold them whole, in order."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + _GAP + len(part) <= width:
            lines[-1] += " " * _GAP + part
        else:
            lines.append(part)
    return lines


def header(snapshot: Snapshot) -> list[str]:
    """Run, time, trials, devices: a part each."""
    states = words.states(snapshot.counts)
    of = f" of {snapshot.planned}" if snapshot.planned is not None else ""
    trials = f"{snapshot.finished}{of} trials ended" + (f" ({states})" if states else "")
    if snapshot.finished == 1 and not of:
        trials = f"1 trial ended ({states})"
    parts = [snapshot.run, *_silence(snapshot)]
    if snapshot.elapsed_s is not None:
        parts.append(duration(snapshot.elapsed_s))
    parts.append(trials)
    if snapshot.capacity_gpus:
        idle = snapshot.capacity_gpus - snapshot.busy_gpus
        parts.append(f"GPUs {snapshot.busy_gpus} busy, {idle} idle")
    if snapshot.queued:
        parts.append(f"{snapshot.queued} waiting for GPUs")
    return parts


def _silence(snapshot: Snapshot) -> list[str]:
    if snapshot.state == "starting":
        return ["its driver is starting"]
    if snapshot.silent_s is not None:
        return [f"its driver has said nothing for {duration(snapshot.silent_s)}"]
    return []


def best_words(best: EndedTrial, goals: Sequence[Goal]) -> str:
    """`best so far: trial 3, goodput per GPU 3.86 requests/s/GPU`."""
    return f"best so far: trial {best.number}, {_objectives(best, goals)}"


def ended_words(ended: EndedTrial, goals: Sequence[Goal]) -> str:
    """`trial 3  completed  goodput per GPU 3.86 requests/s/GPU`, or why it has no figures."""
    why = _objectives(ended, goals) or ended.reason[:_REASON]
    return f"trial {ended.number:>3}  {ended.state}  {why}".rstrip()


def _objectives(ended: EndedTrial, goals: Sequence[Goal]) -> str:
    return ", ".join(
        f"{objective_words(goal.name)} {objective_value(goal.name, ended.objectives[goal.name])}"
        for goal in goals
        if goal.name in ended.objectives
    )


def _running_words(trial: RunningTrial) -> str:
    again = f" (attempt {trial.attempt + 1})" if trial.attempt else ""
    parts = [f"trial {trial.number:>3}  {trial.phase}{again}", count(trial.gpus, "GPU")]
    if trial.progress:
        parts.append(trial.progress)
    parts.append(f"{trial.engine} {words.parameters(trial.parameters)}")
    return "  ".join(parts)


def _stage(trial: RunningTrial) -> tuple[int, str, str]:
    """What of a trial is worth a line when it changes."""
    stage, colon, _ = trial.progress.partition(":")
    return (trial.attempt, trial.phase, stage if colon else "")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table, which a narrow terminal shows without the least important ones.

    Attributes:
        width: columns it takes at most, the space after it left out.
        rank: the less, the longer it stays.
    """

    heading: str
    width: int
    rank: int
    cell: Callable[[RunningTrial], str]
    right: bool = True


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.0f} %"


def _value(value: float | None) -> str:
    return "" if value is None else figure(value)


def _queue(trial: RunningTrial) -> str:
    if trial.requests_running is None and trial.requests_waiting is None:
        return ""
    return f"{figure(trial.requests_running)}/{figure(trial.requests_waiting)}"


_COLUMNS = (
    _Column("trial", 5, 0, lambda t: str(t.number)),
    _Column("GPUs", 4, 6, lambda t: str(t.gpus)),
    _Column("doing", 26, 1, lambda t: t.doing, right=False),
    _Column("requests", 16, 2, lambda t: t.progress),
    _Column("tok/s/GPU", 9, 3, lambda t: _value(t.output_tokens_per_s_per_gpu)),
    _Column("TTFT ms", 7, 4, lambda t: _value(t.ttft_mean_ms)),
    _Column("TPOT ms", 7, 5, lambda t: _value(t.tpot_mean_ms)),
    _Column("in flight", 9, 9, lambda t: "" if t.in_flight is None else str(t.in_flight)),
    _Column("run/wait", 9, 8, _queue),
    _Column("KV", 5, 7, lambda t: _ratio(t.kv_cache_usage_ratio)),
    _Column("hits", 5, 10, lambda t: _ratio(t.prefix_cache_hit_ratio)),
    _Column("for", 10, 11, lambda t: "" if t.running_s is None else duration(t.running_s)),
)
_PARAMETERS = 20
"""Columns that have to be left before the parameters are shown."""


def running_table(trials: Sequence[RunningTrial], width: int) -> Table:
    """What runs, in as many of the columns as fit `width`, the most important first."""
    shown: list[_Column] = []
    room = width
    for column in sorted(_COLUMNS, key=lambda column: column.rank):
        cells = [column.heading, *(column.cell(trial) for trial in trials)]
        needed = min(max(map(len, cells)), column.width) + _GAP
        if needed > room and column.rank > 1:
            break
        shown.append(column)
        room -= needed
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    columns = [column for column in _COLUMNS if column in shown]
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=column.width,
        )
    parameters = room >= _PARAMETERS
    if parameters:
        table.add_column("parameters", no_wrap=True, overflow="ellipsis")
    for trial in trials:
        cells = [said(one_line(column.cell(trial))) for column in columns]
        values = f"{trial.engine} {words.parameters(trial.parameters)}"
        table.add_row(*cells, *([said(one_line(values))] if parameters else []))
    return table


def print_end(console: Console, data: RunData, layout: RunLayout) -> None:
    """The line of the last screen, and how to go on."""
    summary = summarise_run(data)
    how = data.ended or "not running; its driver was killed"
    if data.ending is Ending.RUNNING:
        how = "another driver has taken it in hand"
    counts = words.states(summary.counts, data.unread_trials) or "no trial has ended"
    console.print(f"[bold]{said(one_line(data.run))}[/]: {said(how)}; {counts}")
    if summary.best is not None:
        best = summary.best
        gain = f", {summary.gain.words}" if summary.gain is not None else ""
        value = objective_value(summary.goal.name, best.value)
        named = objective_words(summary.goal.name)
        console.print(said(f"best: trial {best.trial}, {named} {value}{gain}"))
    for index, (why, step) in enumerate(next_steps(data, layout)):
        comment = f"  [dim]# {said(why)}[/]" if why else ""
        console.print(f"{'' if index else 'go on':<9}{said(step)}{comment}")


def _timeless(snapshot: Snapshot) -> Snapshot:
    running = tuple(replace(trial, running_s=None) for trial in snapshot.running)
    silent = None if snapshot.silent_s is None else math.inf
    return replace(snapshot, elapsed_s=None, silent_s=silent, running=running)


def _finite(value: Json) -> Json:
    """JSON has no infinity: a driver that has not spoken yet is silent for null seconds."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _write_line(document: dict[str, Json]) -> None:
    write(json.dumps(document, ensure_ascii=False) + "\n")
