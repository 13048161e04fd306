"""Progress of a study on a terminal, and as lines where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli import words
from orchestrator.cli.console import one_line, said
from orchestrator.cli.documents import print_json, result_document
from orchestrator.logs import as_json as json_lines
from orchestrator.messages import Phase
from orchestrator.observer import Observer, RunInfo, Status
from orchestrator.scheduler import Waiting
from runtimes.failure import Failure
from runtimes.plan import Allocation
from runtimes.telemetry.release import DirtyGpu
from search.trial import TrialState
from tracking.layout import RunLayout
from tracking.live import LiveFigures
from tracking.records import TrialRecord
from tracking.run_data import attaches
from tracking.words import count, duration, figure

if TYPE_CHECKING:
    from orchestrator.study import RunResult

NOTHING_MEASURED = 1
"""Exit code of a study in which no trial completed."""
INTERRUPTED = 130
"""Exit code of a study that was stopped from outside; it can be resumed."""

_TAIL_LINES = 8
_WIDEST = 40
"""Characters of a column; a step of a start that says more is cut."""
_MARKS = {
    TrialState.COMPLETED: "[green]completed[/]",
    TrialState.INFEASIBLE: "[yellow]infeasible[/]",
    TrialState.FAILED: "[red]failed[/]",
    TrialState.CANCELLED: "[yellow]cancelled[/]",
    TrialState.PRUNED: "[yellow]pruned[/]",
}


def shown_study(study: Callable[[Sequence[Observer]], RunResult], *, as_json: bool) -> int:
    """Run `study` under a progress display; print its last screen or its document.

    Returns:
        0, or `NOTHING_MEASURED`, or `INTERRUPTED`.
    """
    from orchestrator.cli.summary_view import print_summary

    result = watched_study(study)
    layout = RunLayout(result.folder)
    if as_json:
        print_json(result_document(result.data, layout))
    else:
        print_summary(result.data, layout, report=result.report)
    return exit_code(result)


def watched_study(study: Callable[[Sequence[Observer]], RunResult]) -> RunResult:
    """Run `study` under a progress display, on stderr; JSON lines there take its place."""
    if json_lines():
        return study([])
    display = Progress(Console(stderr=True))
    with display:
        return study([display])


def exit_code(result: RunResult) -> int:
    """0, or `NOTHING_MEASURED`, or `INTERRUPTED`."""
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.best is not None else NOTHING_MEASURED


class Progress(Observer):
    """One line an event; on a terminal also a live table of what runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._info: RunInfo | None = None
        self._status: Status | None = None
        self._running: dict[int, _Row] = {}

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=4, get_renderable=self._render,
                transient=True,
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, info: RunInfo) -> None:
        self._info = info
        kind = " on simulated devices" if info.simulated else ""
        self._say(f"[bold]{said(one_line(info.run))}[/]{kind}")
        self._say(f"record   {said(str(info.folder))}")
        self._say(f"metrics  {info.metrics_url}")
        if info.selection:
            self._say(f"workload {said(info.selection)}")
        if info.finished:
            self._say(f"resumed  {info.finished} trials are finished and stay so")

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        values = words.parameters(trial.params.values)
        held = () if attaches(trial.params.engine) else allocation.gpu_ids
        devices = ",".join(held)
        self._running[trial.number] = _Row(trial, devices, values)
        again = f" (attempt {trial.attempt + 1})" if trial.attempt else ""
        where = f" on {said(allocation.node)} gpu {said(devices)}" if held else ""
        self._say(
            f"trial {trial.number:>3}  started{again}{where}: "
            f"{said(trial.params.engine)} {said(values)}"
        )

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        if number in self._running:
            self._running[number].phase = phase
            self._running[number].step = ""

    def step(self, number: int, attempt: int, words: str) -> None:
        if number in self._running:
            self._running[number].step = words

    def gpus_awaited(self, number: int, node: str, gpus: tuple[DirtyGpu, ...]) -> None:
        for gpu in gpus:
            self._say(f"trial {number:>3}  [yellow]waits[/]: {said(node)} {said(str(gpu))}")

    def gpu_withheld(self, node: str, gpu: DirtyGpu) -> None:
        self._say(f"[yellow]{words.withheld(gpu.kind)}[/]: {said(node)} {said(str(gpu))}")

    def gpu_returned(self, node: str, gpu: str) -> None:
        self._say(f"free again: {said(node)} GPU {said(gpu)}")

    def live(self, figures: LiveFigures) -> None:
        if figures.number in self._running:
            self._running[figures.number].figures = figures

    def finished(self, record: TrialRecord, retry: bool) -> None:
        self._running.pop(record.number, None)
        goals = self._info.goals if self._info is not None else ()
        line = f"trial {record.number:>3}  {_MARKS[record.state]}"
        if record.state is TrialState.COMPLETED:
            line += f"  {said(words.objectives(goals, record))}  {words.latencies(record)}"
            line += _slo_words(record)
        elif record.failure is not None:
            line += f"  {record.failure.kind.value}: {said(record.failure.message)}"
        elif record.reason:
            line += f"  {said(record.reason)}"
        self._say(line + ("  [yellow]tried again[/]" if retry else ""))
        if record.failure is not None:
            self._explain(record.failure)

    def status(self, status: Status) -> None:
        self._status = status

    def stopping(self, reason: str) -> None:
        running = len(self._running)
        ending = f"{count(running, 'running trial')} {'is' if running == 1 else 'are'} being ended"
        wait = f"; {ending}" if running else ""
        self._say(f"[yellow]stopping:[/] {said(reason)}{wait}")

    def _explain(self, failure: Failure) -> None:
        for line in failure.log_tail.strip().splitlines()[-_TAIL_LINES:]:
            self._say(f"           [dim]{said(line[:200])}[/]")
        if failure.remedy:
            self._say(f"           remedy: {said(failure.remedy)}")

    def _say(self, markup: str) -> None:
        self._console.print(markup, highlight=False, soft_wrap=True)

    def _render(self) -> Group:
        parts: list[Table | Text | ProgressBar] = []
        if self._running:
            parts.append(_running_table(list(self._running.values())))
        if self._status is not None:
            parts.append(self._footer(self._status))
        return Group(*parts)

    def _footer(self, status: Status) -> Text:
        finished = sum(status.counts.values())
        planned = self._info.planned if self._info is not None else None
        of = f"/{planned}" if planned is not None else ""
        attached = self._info is not None and self._info.attached
        gpus = "" if attached else f"{status.busy_gpus}/{status.capacity_gpus} GPUs busy  "
        text = f"{finished}{of} trials  {gpus}{duration(status.elapsed_s)}"
        if status.best is not None and self._info is not None:
            best = words.objectives(self._info.goals, status.best)
            text += f"  best so far: trial {status.best.number}, {best}"
        return Text(text, style="bold")


class _Row:
    """A running trial on the screen."""

    def __init__(self, trial: Waiting, devices: str, values: str) -> None:
        self.trial = trial
        self.devices = devices
        self.values = values
        self.phase = Phase.STARTING
        self.step = ""
        self.figures: LiveFigures | None = None


def _running_table(rows: list[_Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("trial", "gpu", "phase", "requests", "tok/s/GPU", "KV", "parameters"):
        narrow = heading != "parameters"
        table.add_column(heading, no_wrap=narrow, max_width=_WIDEST if narrow else None)
    for row in rows:
        figures = row.figures
        table.add_row(
            str(row.trial.number),
            said(row.devices),
            said(row.step or row.phase.value),
            "" if figures is None else figures.progress,
            "" if figures is None else figure(figures.output_tokens_per_s_per_gpu),
            "" if figures is None or figures.kv_cache_usage_ratio is None
            else f"{figures.kv_cache_usage_ratio:.0%}",
            said(f"{row.trial.params.engine} {row.values}"),
        )  # fmt: skip
    return table


def _slo_words(record: TrialRecord) -> str:
    measurement = record.measurement
    if measurement is None or not measurement.slo:
        return ""
    broken = [str(verdict.limit) for verdict in measurement.slo if not verdict.met]
    return f"  [red]breaks {said(', '.join(broken))}[/]" if broken else "  [green]SLO met[/]"
