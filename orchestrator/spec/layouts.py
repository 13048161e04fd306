"""The sections `parallel` and `quantization`: presets, lists, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import field_validator, model_validator

from orchestrator.spec.base import Section
from orchestrator.spec.refusal import RefusedValueError, suggestion
from runtimes.parallel import DEGREES
from runtimes.presets import LAYOUT_PRESETS, PRECISION_PRESETS
from runtimes.quantization import PARTS, PRECISIONS

USUAL_DEGREES = ("tp", "pp", "dp")
"""Degrees that are 1 where a file that names any says nothing of them."""


class ParallelSpec(Section):
    """Degrees to try, a single number being fixed, and layouts by name beside or instead."""

    presets: list[str] | None = None
    tp: list[int] | None = None
    pp: list[int] | None = None
    dp: list[int] | None = None
    ep: list[int] | None = None
    dcp: list[int] | None = None
    pcp: list[int] | None = None
    cp: list[int] | None = None
    attention_dp: list[int] | None = None
    moe_tp: list[int] | None = None
    moe_ep: list[int] | None = None
    moe_dense_tp: list[int] | None = None
    moe_cluster: list[int] | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        if value.get("presets") is not None and not set(DEGREES) & set(value):
            return value
        return {**dict.fromkeys(USUAL_DEGREES, 1), **value}

    @field_validator(*DEGREES, mode="before")
    @classmethod
    def _degrees(cls, value: object) -> object:
        if value is None:
            return value
        degrees = value if isinstance(value, list) else [value]
        for degree in degrees:
            if not isinstance(degree, int) or isinstance(degree, bool) or degree < 1:
                raise RefusedValueError("degrees are whole numbers from 1", "write 2 or [1, 2, 4]")
        if not degrees or len(set(degrees)) != len(degrees):
            raise RefusedValueError("names no degree, or one twice", "write 2 or [1, 2, 4]")
        return degrees

    @field_validator("presets", mode="before")
    @classmethod
    def _presets(cls, value: object) -> object:
        return None if value is None else _named_once(value, "layout", list(LAYOUT_PRESETS))

    @property
    def degrees(self) -> dict[str, list[int]]:
        """Degrees by name, those that stand in the file and the usual ones."""
        listed = {name: getattr(self, name) for name in DEGREES}
        return {name: degrees for name, degrees in listed.items() if degrees is not None}


class QuantizationSpec(Section):
    """Precisions to try, a single word being fixed, and presets beside or instead."""

    presets: list[str] | None = None
    gemm: list[str | None] | None = None
    kv_cache: list[str | None] | None = None
    attention: list[str | None] | None = None
    moe: list[str | None] | None = None

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _precisions(cls, value: object) -> object:
        if value is None:
            return value
        words = value if isinstance(value, list) else [value]
        for word in words:
            if word is not None and word not in PRECISIONS:
                raise RefusedValueError(
                    f"{word!r} is no precision", suggestion(str(word), [*PRECISIONS, "null"])
                )
        if not words or len(set(words)) != len(words):
            raise RefusedValueError("names no precision, or one twice", "write fp8 or [null, fp8]")
        return words

    @field_validator("presets", mode="before")
    @classmethod
    def _presets(cls, value: object) -> object:
        return None if value is None else _named_once(value, "precision", list(PRECISION_PRESETS))

    @property
    def parts(self) -> dict[str, list[str | None]]:
        """What stands in the file, by part."""
        listed = {name: getattr(self, name) for name in PARTS}
        return {name: words for name, words in listed.items() if words is not None}


def _named_once(value: object, kind: str, known: Sequence[str]) -> list[object]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in known:
            raise RefusedValueError(f"{name!r} is no {kind} preset", suggestion(str(name), known))
    if not names or len(set(names)) != len(names):
        raise RefusedValueError("names no preset, or one twice", f"write [{known[0]}, {known[1]}]")
    return names
