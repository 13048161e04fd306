"""Whether all engines counted the same prompts alike."""

from __future__ import annotations

from collections.abc import Iterable

from runtimes.measurement import Measurement
from tracking.records import TrialRecord


def prompt_count_note(trials: Iterable[TrialRecord]) -> str | None:
    """By how much engines differ in the prompt tokens they count; None where they do not.

    Every engine is sent the same token ids, or the same messages, so that `usage` must agree to the
    token. What an engine counts beyond them (a token that begins every sequence, another chat
    template) is work that the others did not do.
    """
    added: dict[str, set[float]] = {}
    for trial in trials:
        more = None if trial.measurement is None else _added(trial.measurement)
        if more is not None:
            added.setdefault(trial.engine, set()).add(round(more, 2) + 0.0)
    if len(set().union(*added.values())) < 2:
        return None
    counted = "; ".join(f"{engine} {_range(found)}" for engine, found in sorted(added.items()))
    return (
        "Not all trials count the same prompts alike; tokens counted per request beyond those "
        f"sent: {counted}. What they say of input cannot be held against each other to the token."
    )


def _added(measured: Measurement) -> float | None:
    """Prompt tokens of one request beyond those sent; of a chat, the server's template."""
    if measured.prompt_token_excess is not None and measured.requests_completed:
        return measured.prompt_token_excess / measured.requests_completed
    return measured.template_tokens


def _range(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:+g}" if low == high else f"{low:+g} to {high:+g}"
