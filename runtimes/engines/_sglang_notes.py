"""What a user should know of how a configuration becomes a command of SGLang's."""

from __future__ import annotations

from collections.abc import Iterator

from runtimes.engines._sglang_effective import SPANNING_BACKENDS
from runtimes.engines._sglang_settings import Settings


def notes_on(settings: Settings) -> tuple[str, ...]:
    """Sentences on `settings`: what stands instead of what was asked, and what follows from it."""
    return (*settings.notes, *_follows(settings))


def _follows(settings: Settings) -> Iterator[str]:
    groups, ranks = settings.degree("attn-dp-size"), settings.degree("tp-size")
    if groups > 1:  # arg_groups/parallel_hook.py, `handle_data_parallelism`
        yield (
            f"attention_dp={groups}: SGLang divides chunked-prefill-size by {groups} and "
            "multiplies schedule-conservativeness by 0.3"
        )
    if settings.degree("pp-size") > 1:
        yield "pp above 1: SGLang turns the overlap of scheduling and computing off"
    backend = settings.text("moe-a2a-backend", "none")
    if backend in SPANNING_BACKENDS and settings.degree("ep-size") != ranks:
        yield f"moe-a2a-backend={backend}: SGLang takes ep={ranks}, all tensor-parallel ranks"
