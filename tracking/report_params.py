"""Parameters of a trial as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from runtimes.json_types import Json
from search.trial import LAYOUT_PRESET, PRECISION_PRESET
from tracking.words import parameter, printable

MAX_PARAMETERS = 40
MAX_CHARACTERS = 200
"""Of one value; the record has all of it."""
_PRESETS = (LAYOUT_PRESET, PRECISION_PRESET)


def parameter_pairs(params: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    """Names and values as text; a preset that is not taken says nothing."""
    shown = (
        (name, value) for name, value in params.items() if not (name in _PRESETS and value is None)
    )
    return tuple(
        (shortened(printable(name)), value_words(value))
        for name, value in islice(shown, MAX_PARAMETERS)
    )


def value_words(value: Json) -> str:
    return shortened(printable(parameter(value)))


def shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
