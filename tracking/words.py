"""Figures, names and commands in the words a reader of a summary or a report sees."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from runtimes.json_types import Json, canonical_json
from runtimes.plan import HOST, PORT
from runtimes.printable import printable as printable
from runtimes.secrets import MASK
from search.objectives.base import OBJECTIVES

DEPLOY_HOST = "127.0.0.1"
DEPLOY_PORT = "8000"
"""Where a pasted command listens when its plan left address and port open."""

_FLAG_WORDS = {
    "accuracy_unverified": "accuracy unverified: its precision may cost accuracy, which nobody "
    "measured",
    "attached_simulator": "the server measured is a simulation: its figures are a model's",
    "client_limited": "the load generator could not keep up, so the engine may not be the limit",
    "imported": "another load generator measured it; what that defines otherwise is left out",
    "not_idle": "other requests still ran in its engine when its load began",
    "not_streamed": "answers came whole, so that TTFT and TPOT say nothing of the engine",
    "not_steady": "no part of its load was seen to be stationary",
    "cache_contaminated": "its prefix cache held more or less than the workload means it to",
    "content_sensitive": "its speed depends on what is generated, and its prompts mean nothing",
    "port_taken": "something still listened on a port of it after its engine's end",
    "gpu_errors": "a GPU of it reported an error of its memory or of its driver",
    "gpu_dirty": "memory of a GPU of it stayed in use after its end",
    "gpu_foreign": "somebody else used a GPU of it",
    "gpu_throttled": "a GPU of it was slowed by heat or by its power brake",
    "long_output": "outputs were longer than asked for",
    "request_errors": "some of its requests failed",
    "short_output": "outputs were shorter than asked for",
    "simulator_late": "the machine was too busy for the simulated engine to keep its own time",
    "usage_missing": "the engine did not count the tokens of some responses",
}
_OWN_VARIABLES = "SERVETUNE_"  # they steer the simulator; a deployed engine has no use for them
_OPTION = re.compile(r"--?[A-Za-z]")  # and not -1, a value


def figure(value: float | None) -> str:
    """Three significant digits or all of the integer part, thousands apart; a dash for None."""
    if value is None or value != value:
        return "–"
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def instant(unix_s: float) -> str:
    """`2026-01-31 12:34:56 UTC`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def objective_words(name: str) -> str:
    """`output_throughput_per_gpu` → `output throughput per GPU`, `ttft_p99_9_ms` → `TTFT p99.9`."""
    bare = re.sub(r"(p\d+)_(\d)", r"\1.\2", name.removesuffix("_ms").removesuffix("_j"))
    words = bare.replace("_per_gpu", "_per_GPU").split("_")
    return " ".join(
        word.upper() if word in ("ttft", "tpot", "itl", "e2e", "slo") else word for word in words
    )


def objective_unit(name: str) -> str:
    """Unit of an objective's values; empty for one that no registry entry describes."""
    return OBJECTIVES.get(name).unit if name in OBJECTIVES else ""


def objective_value(name: str, value: float) -> str:
    """`3.42 requests/s/GPU`."""
    return f"{figure(value)} {objective_unit(name)}".rstrip()


def parameter(value: Json) -> str:
    """A parameter's value: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else canonical_json(value)


def flag_words(flag: str) -> str:
    """What a flag says about a result."""
    return _FLAG_WORDS.get(flag, flag.replace("_", " "))


def count(number: int, noun: str) -> str:
    """`1 trial`, `3 trials`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def trial_list(numbers: Sequence[int], shown: int = 12) -> str:
    """`trial 3`, `trials 3, 5 and 8`, `trials 0, 1, … and 90 more`."""
    names = [str(number) for number in numbers[:shown]]
    if len(numbers) > shown:
        return f"trials {', '.join(names)} and {len(numbers) - shown} more"
    if len(names) == 1:
        return f"trial {names[0]}"
    return f"trials {', '.join(names[:-1])} and {names[-1]}"


def shell_command(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """A command to paste: quoted for a POSIX shell, one option a line.

    Placeholders of address and port become `DEPLOY_HOST` and `DEPLOY_PORT`. Variables whose
    value was masked are left out: they have to come from the user's own environment.
    """
    lines = [
        f"{name}={shlex.quote(value)}"
        for name, value in sorted(env.items())
        if MASK not in value and not name.startswith(_OWN_VARIABLES)
    ]
    current: list[str] = []
    for part in argv:
        if _OPTION.match(part) and current:
            lines.append(" ".join(current))
            current = []
        filled = part.replace(HOST, DEPLOY_HOST).replace(PORT, DEPLOY_PORT)
        current.append(shlex.quote(filled))
    lines.append(" ".join(current))
    return " \\\n  ".join(lines)
