"""How log records leave this process: lines for people, or JSON objects for programs.

Ids of the run, the trial and its attempt are carried by a context variable: `about` sets them for a
block and for every task that is started in it, and each JSON line of a record made there has them.
A driver's run, which `of_run` sets, is that of its whole process, so that its threads have it too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from runtimes.json_types import Json
from runtimes.secrets import mask, secret_values

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_VARIABLE = "SERVETUNE_LOG"
"""`FORMAT:LEVEL` for processes of ours that this one starts."""
_OURS = ("orchestrator", "runtimes", "search", "tracking")
"""Libraries say of their own work what nobody asked for; below `warning` only we are heard."""


@dataclass(frozen=True, slots=True)
class _Ids:
    run: str | None = None
    trial: int | None = None
    attempt: int | None = None


_NO_IDS = _Ids()
_runs: list[str] = []
_IDS: ContextVar[_Ids] = ContextVar("servetune_ids", default=_NO_IDS)


@contextmanager
def of_run(run: str) -> Iterator[None]:
    """Records that any thread of this process makes while the block runs belong to `run`."""
    _runs.append(run)
    try:
        yield
    finally:
        _runs.remove(run)


@contextmanager
def about(run: str, trial: int, attempt: int) -> Iterator[None]:
    """Records made in the block, and in tasks started there, are about this attempt."""
    token = _IDS.set(_Ids(run, trial, attempt))
    try:
        yield
    finally:
        _IDS.reset(token)


def fields(**values: Json) -> dict[str, Mapping[str, Json]]:
    """`extra=` of a log call: facts beside its message, which JSON lines carry as keys."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class JsonLines(logging.Formatter):
    """One JSON object a record, on one line.

    Keys: `time` (ISO 8601, UTC, microseconds), `level`, `logger`, `message`, then `run`, `trial`
    and `attempt` where they are known, what the call gave by `fields`, and `exception` (a
    traceback) where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, Json] = {
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = _IDS.get()
        run = ids.run or (_runs[-1] if _runs else None)
        known = {"run": run, "trial": ids.trial, "attempt": ids.attempt}
        document.update({name: value for name, value in known.items() if value is not None})
        document.update(getattr(record, "fields", {}))
        if record.exc_info:
            document["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        if record.stack_info:
            document["stack"] = record.stack_info
        # Any code of any library makes records, and what they say may hold what it was given.
        secrets = secret_values(os.environ)
        masked = {k: mask(v, secrets) if isinstance(v, str) else v for k, v in document.items()}
        return json.dumps(masked, ensure_ascii=False, default=str)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment: a live display replaces it for its time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # an attribute there, read only
        return sys.stderr


def configure(log_format: str = "text", level: str = "warning") -> None:
    """Send the records of this process to stderr.

    With `json` warnings of Python and exceptions that nobody catches become records too, so that
    stderr holds JSON lines only.

    Args:
        log_format: one of `FORMATS`.
        level: the least of `LEVELS` that is shown.
    """
    as_json = log_format == "json"
    handler = _Stderr()
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if as_json else text)
    root = logging.getLogger()
    for known in [each for each in root.handlers if isinstance(each, _Stderr)]:
        root.removeHandler(known)
    root.addHandler(handler)
    least = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(least, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(as_json)
    if as_json:
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread


def configure_child() -> None:
    """As `child_environment` of the process that started this one says; else nothing changes."""
    log_format, _, level = os.environ.get(_VARIABLE, "").partition(":")
    if log_format in FORMATS and level in LEVELS:
        configure(log_format, level)


def child_environment() -> dict[str, str]:
    """What a process of ours has to have in its environment to log as this one does."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, _Stderr)]
    if not handlers:
        return {}
    level = logging.getLevelName(logging.getLogger(_OURS[0]).level).lower()
    return {_VARIABLE: f"{FORMATS[as_json()]}:{level}"}


def as_json() -> bool:
    """Whether this process writes JSON lines, so that nothing else may reach stderr."""
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonLines) for handler in handlers)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("orchestrator").critical("%s", error, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
