"""What MLPerf Inference prescribes for its language models: lengths and limits on latency.

Sources: mlcommons/inference loadgen/mlperf.conf (limits), the reference implementations' tokens
per sample, and MLCommons' announcements of 2024-03, 2025-04 and 2025-09 (mean lengths).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """Mean lengths in tokens, and what the 99th percentile must keep (None offline)."""

    input_tokens: float
    output_tokens: float
    longest: int
    tpot_limit_ms: float | None


@dataclass(frozen=True, slots=True)
class _Task:
    input_tokens: float
    output_tokens: float
    longest: int
    server_tpot_ms: float
    interactive_tpot_ms: float | None = None


_TASKS = {
    "meta-llama/llama-2-70b": _Task(294, 294, 2048, 200, 40),
    "meta-llama/llama-3.1-405b": _Task(9400, 684, 22_000, 175, 80),
    "meta-llama/llama-3.1-8b": _Task(778, 73, 2668, 100, 30),
    "deepseek-ai/deepseek-r1": _Task(800, 3886, 23_000, 80, 15),
}
"""By the beginning of a model's name in lower case."""


def scenario(model: str, name: str) -> Scenario | None:
    """The scenario called `name` for the model called `model`; None where lengths are not known."""
    task = next((task for known, task in _TASKS.items() if model.lower().startswith(known)), None)
    if task is None:
        return None
    limits = {
        "offline": None,
        "server": task.server_tpot_ms,
        "interactive": task.interactive_tpot_ms,
    }
    wanted = name.strip().lower()
    if wanted not in limits or (limits[wanted] is None and wanted != "offline"):
        return None
    return Scenario(task.input_tokens, task.output_tokens, task.longest, limits[wanted])
