"""From an engine's log to a `Failure`: the root cause, not the last thing that fell over.

Engines are trees of processes: one fails with a cause, the others then fail for want of it, and
the last lines of the log are the least telling. The cause is the first line that says one.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import Literal

from runtimes._causes import (
    CAUSES,
    DEVICE_FULL,
    MEMORY_REMEDIES,
    SIGQUIT,
    WEIGHTS_LOADED,
    WRAPPERS,
    Cause,
)
from runtimes.failure import Failure, FailureKind
from runtimes.printable import printable

TAIL_LINES = 40
_MESSAGE_CHARACTERS = 500
_READ = "No known cause: read the engine's log, whose last lines are kept here."
_KILLED = (
    "A process that dies without a word was mostly killed for the node's memory: see dmesg there, "
    "and the engine's log."
)

# `(EngineCore_DP0 pid=123) ERROR 11-21 10:34:34 [core.py:133] ` of vLLM, `[rank0]: ` of PyTorch,
# `[2026-11-21 10:34:34 TP0] ` of SGLang, `[11/21/2026-10:34:34] [TRT-LLM] [RANK 1] [E] ` and
# `[TensorRT-LLM][ERROR] ` of TensorRT-LLM, `INFO:     ` of uvicorn.
_PROCESS = re.compile(r"^(?:\([\w-]+ pid=\d+\) ?|\[rank\d+\]: ?)")
_STAMP = re.compile(
    r"^(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)"
    r"(?: \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]]*\] ?|:\s+)"
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] "
    r"|\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[TRT-LLM\] (?:\[RANK \d+\] )?\[(?P<letter>[A-Z])\] "
    r"|\[TensorRT-LLM\]\[(?P<word>[A-Z]+)\] )"
)
_ECHO = re.compile(r'^(?: {4}|  File ")')
"""A traceback's own lines: source text, which names errors that may not have happened."""
_HARMLESS_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "V", "D", "I", "W", "VERBOSE"})
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)(?:: |$)")
_NOISE = re.compile(r"\s|\[W\d{4} |nanobind: |See https?://|Process \w+:$|INFO: |.*: \w*Warning: ")
_FRONT = re.compile(r"^(?:\S+: error: |(?:[A-Za-z_][\w.]*\.)(?=\w+(?:Error|Exception): ))")
_PYDANTIC_TAIL = re.compile(r" \[type=\w+, input_value=.*$")
_FIELD = re.compile(r"[A-Za-z_][\w.]*")


def classify(log: str, *, exit_code: int | None, phase: Literal["start", "serve"]) -> Failure:
    """Name the failure of an engine that ended, or had to be ended.

    Message and tail hold no terminal escapes and no control characters.

    Args:
        log: standard output and error of all its processes, merged; may be empty.
        exit_code: its exit status, negative for a signal; None while it lives.
        phase: "start" until it was ready, "serve" afterwards.
    """
    whole = [printable(line) for line in log.splitlines()]  # engines colour what they log
    lines = [_stripped(line) for line in whole]
    serving = phase == "serve"
    found = _first_cause(lines, serving=serving)
    if found is not None:
        cause, position = found
        kind, remedy = _named(cause, whole[:position], serving=serving)
        message = _told(lines, position)
    else:
        kind, message, remedy = _unnamed(lines, exit_code, serving=serving)
    tail = "\n".join(whole[-TAIL_LINES:])
    return Failure(kind, message, remedy=remedy, exit_code=exit_code, log_tail=tail)


def _stripped(line: str) -> str:
    """`line` without its logger's prefix; empty for what cannot tell a cause."""
    text = _PROCESS.sub("", line)
    stamp = _STAMP.match(text)
    if stamp is not None:
        if not _HARMLESS_LEVELS.isdisjoint(stamp.groupdict().values()):
            return ""
        text = text[stamp.end() :]
    return "" if _ECHO.match(text) else text.rstrip()


def _first_cause(lines: Sequence[str], *, serving: bool) -> tuple[Cause, int] | None:
    for position, line in enumerate(lines):
        for cause in CAUSES:
            if (cause.while_serving or not serving) and cause.pattern.search(line):
                return cause, position
    return None


def _named(cause: Cause, before: Sequence[str], *, serving: bool) -> tuple[FailureKind, str]:
    """Kind and remedy of `cause`; what filled a GPU is told by the log's lines `before` it."""
    if cause is not DEVICE_FULL:
        return cause.kind, cause.remedy
    if serving:
        kind = FailureKind.OOM_SERVING
    elif any(map(WEIGHTS_LOADED.search, before)):
        kind = FailureKind.OOM_WARMUP
    else:
        kind = FailureKind.OOM_WEIGHTS
    return kind, MEMORY_REMEDIES[kind]


def _told(lines: Sequence[str], position: int) -> str:
    """The line at `position` as a message; pydantic names the field on the line before."""
    line = lines[position]
    before = lines[position - 1].strip() if position else ""
    field = before if _PYDANTIC_TAIL.search(line) and _FIELD.fullmatch(before) else ""
    text = _PYDANTIC_TAIL.sub("", _FRONT.sub("", line.strip())).removeprefix("Value error, ")
    return _shortened(f"{field}: {text}" if field else text)


def _unnamed(
    lines: Sequence[str], exit_code: int | None, *, serving: bool
) -> tuple[FailureKind, str, str]:
    """Kind, message and remedy when no cause is known: of the most telling line there is."""
    telling = [line for line in lines if line.strip() and not _NOISE.match(line)]
    wrappers = [line for line in telling if WRAPPERS.search(line)]
    exceptions = [line for line in telling if _EXCEPTION.match(line) and line not in wrappers]
    killed = exit_code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if killed and not exceptions and not any(SIGQUIT in line for line in wrappers):
        message = f"killed by SIGKILL (exit code {exit_code})"
        return FailureKind.HOST_OUT_OF_MEMORY, message, _KILLED
    status = "it runs still" if exit_code is None else f"exit code {exit_code}"
    line = (exceptions or wrappers or telling[-1:] or [f"no word in the log ({status})"])[0]
    kind = FailureKind.CRASHED if serving else FailureKind.START_EXIT
    remedy = _KILLED if wrappers and not exceptions else _READ  # an exception is a word
    return kind, _shortened(_FRONT.sub("", line.strip())), remedy


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"
