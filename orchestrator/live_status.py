"""`live/status.json`: the study at this instant, for watchers in other processes."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path

from orchestrator.messages import Phase
from orchestrator.observer import Observer, RunInfo, Status
from orchestrator.scheduler import Waiting
from runtimes.json_types import Json
from runtimes.plan import Allocation
from runtimes.printable import printable
from runtimes.telemetry.release import DirtyGpu
from tracking.live import LiveFigures
from tracking.records import TrialRecord

_logger = logging.getLogger(__name__)
_PERIOD_S = 1.0
_RECENT = 8
"""Attempts that ended last and are still shown."""
_MOST_WORDS = 300
"""Characters of what somebody else says, such as an installer's last line."""
_LARGEST = 1e15
"""No figure of a study is larger, and every integer below it is a float as well."""
_DEEPEST = 32
"""Levels of a status, parameters of trials included, that a reader has to expect."""


class LiveStatusFile(Observer):
    """Replaces one small file at most once a second, and once at the end."""

    def __init__(self, path: Path, metrics_url: str) -> None:
        self._path = path
        self._url = metrics_url
        self._running: dict[int, dict[str, Json]] = {}
        self._withheld: dict[tuple[str, str], dict[str, Json]] = {}
        self._written_s = 0.0
        self._status: Status | None = None
        self._attached = False
        self._planned: int | None = None
        self._recent: deque[dict[str, Json]] = deque(maxlen=_RECENT)

    def started(self, info: RunInfo) -> None:
        self._attached, self._planned = info.attached, info.planned

    def launched(self, trial: Waiting, allocation: Allocation) -> None:
        self._running[trial.number] = {
            "attempt": trial.attempt,
            "engine": trial.params.engine,
            "parameters": dict(trial.params.values),
            "node": allocation.node,
            "gpu_ids": [] if self._attached else list(allocation.gpu_ids),
            "started_unix_s": time.time(),
            "gpus": 0 if self._attached else len(allocation.gpu_ids),
            "phase": Phase.STARTING.value,
        }

    def phase(self, number: int, attempt: int, phase: Phase, previous_s: float) -> None:
        if number in self._running:
            self._running[number]["phase"] = phase.value
            self._running[number].pop("step", None)

    def step(self, number: int, attempt: int, words: str) -> None:
        if number in self._running:
            self._running[number]["step"] = _short(words)

    def gpus_awaited(self, number: int, node: str, gpus: tuple[DirtyGpu, ...]) -> None:
        if number in self._running:
            self._running[number]["step"] = _short(f"waits: {'; '.join(map(str, gpus))}")

    def gpu_withheld(self, node: str, gpu: DirtyGpu) -> None:
        self._withheld[node, gpu.gpu] = {
            "node": node,
            "why": gpu.kind,
            "words": _short(str(gpu)),
        }

    def gpu_returned(self, node: str, gpu: str) -> None:
        self._withheld.pop((node, gpu), None)

    def live(self, figures: LiveFigures) -> None:
        if figures.number in self._running:
            shown = asdict(figures)
            del shown["gpus"]
            self._running[figures.number].update(shown)

    def finished(self, record: TrialRecord, retry: bool) -> None:
        self._running.pop(record.number, None)
        failure = record.failure
        self._recent.append(
            {
                "trial": record.number,
                "attempt": record.attempt,
                "state": record.state.value,
                "objectives": dict(record.objectives),
                "reason": _short(failure.message if failure is not None else record.reason),
                "retried": retry,
                "ended_unix_s": time.time(),
            }
        )

    def status(self, status: Status) -> None:
        self._status = status
        now_s = time.monotonic()
        if now_s - self._written_s >= _PERIOD_S:
            self._written_s = now_s
            self._write(ended="")

    def ended(self, reason: str) -> None:
        self._write(ended=reason)

    def _write(self, *, ended: str) -> None:
        status = self._status
        if status is None:
            return
        best = status.best
        document = {
            "at_unix_s": time.time(),
            "elapsed_s": status.elapsed_s,
            "metrics": self._url,
            "ended": ended,
            "queued": status.queued,
            "busy_gpus": status.busy_gpus,
            "capacity_gpus": status.capacity_gpus,
            "withheld": list(self._withheld.values()),
            "counts": dict(status.counts),
            "planned": self._planned,
            "pareto": status.pareto,
            "best": None
            if best is None
            else {"trial": best.number, "objectives": dict(best.objectives)},
            "recent": list(self._recent),
            "running": {str(number): dict(facts) for number, facts in self._running.items()},
        }
        write_aside(self._path, json.dumps(document))


def _short(words: str) -> str:
    words = printable(words)
    return words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 1] + "…"


def write_aside(path: Path, text: str) -> None:
    """Replace a file that only informs; one that cannot be written must not end a study."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        _logger.warning("%s: cannot be written: %s", path, error)


def read_live_status(path: Path) -> dict[str, Json]:
    """The last status a driver wrote; empty when there is none that can be read.

    Numbers in it are finite and below `_LARGEST`; what is not is None.
    """
    try:
        document: Json = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_no_number,
            parse_float=_plain_float,
            parse_int=_plain_int,
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and _shallow(document, _DEEPEST) else {}


def _no_number(constant: str) -> None:
    """NaN and infinities are no JSON."""


def _plain_float(text: str) -> float | None:
    number = float(text)
    return number if abs(number) < _LARGEST else None


def _plain_int(text: str) -> int | None:
    return int(text) if len(text) < len(str(int(_LARGEST))) else None


def _shallow(value: Json, levels: int) -> bool:
    """Whether `value` nests at most `levels` deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(each, levels - 1) for each in inner)
