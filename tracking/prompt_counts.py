"""Whether all engines counted the same prompts alike."""

from __future__ import annotations

from collections.abc import Iterable

from tracking.records import TrialRecord


def prompt_count_note(trials: Iterable[TrialRecord]) -> str | None:
    """By how much engines differ in the prompt tokens they count; None where they do not.

    Every engine is sent the same token ids, so that `usage` must agree to the token. What an
    engine counts beyond them (a token that begins every sequence, another chat template) is work
    that the others did not do.
    """
    excesses: dict[str, set[float]] = {}
    for trial in trials:
        measured = trial.measurement
        if measured is None or measured.prompt_token_excess is None:
            continue
        if measured.requests_completed:
            each = measured.prompt_token_excess / measured.requests_completed
            excesses.setdefault(trial.engine, set()).add(round(each, 2) + 0.0)
    if len(set().union(*excesses.values())) < 2:
        return None
    counted = "; ".join(f"{engine} {_range(found)}" for engine, found in sorted(excesses.items()))
    return (
        "Not all trials count the same prompts alike; tokens counted per request beyond those "
        f"sent: {counted}. What they say of input cannot be held against each other to the token."
    )


def _range(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:+g}" if low == high else f"{low:+g} to {high:+g}"
