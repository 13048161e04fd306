"""What one node was measured to reach: kernels' rates by size, as `servetune calibrate` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from runtimes.errors import UserError
from runtimes.quantization import PRECISIONS

Curve: TypeAlias = tuple[tuple[float, float], ...]
"""(size, figure) pairs, sizes ascending."""

_VERSION = 1
_REQUIRED = ("accelerator", "gemm_flops", "gemm_bytes_per_s", "copy_bytes_per_s")
_FORMATS = ("fp32", *PRECISIONS)
_MOST_POINTS = 1024
_SIZES = (1.0, 1e15)
"""Tokens or bytes."""
_RATES = (1e3, 1e20)
"""FLOP/s or bytes per second."""
_TIMES_S = (1e-9, 1e6)
_REMEDY = "measure it again with `servetune calibrate`"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCurves:
    """Rates of one accelerator of a node, each the median of repeated runs.

    Attributes:
        accelerator: its name in `runtimes.hardware`, or as the driver calls it.
        gemm_flops: by number format (`bf16`, `fp8` …): batch tokens → FLOP/s of a square GEMM
            large enough to fill the device.
        gemm_bytes_per_s: by number format: bytes of weights read per second at few tokens.
        copy_bytes_per_s: bytes read and written per second by a large copy.
        prefill_attention_flops: tokens of a prompt → FLOP/s, the causal half counted.
        decode_attention_s: bytes of keys and values → seconds of one layer.
        all_reduce_s: by ranks: bytes of the tensor → seconds.
        software: what it was measured with, by name (`torch` → version).
        measured_at: when, in ISO 8601.
        missing: what could not be measured, by its name, with the reason.
    """

    accelerator: str
    gemm_flops: Mapping[str, Curve]
    gemm_bytes_per_s: Mapping[str, float]
    copy_bytes_per_s: float
    prefill_attention_flops: Curve = ()
    decode_attention_s: Curve = ()
    all_reduce_s: Mapping[int, Curve] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)
    measured_at: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)


def load_curves(path: str | Path) -> NodeCurves:
    """The curves in the file `path`.

    Raises:
        UserError: it cannot be read or is no such file; the message says where and why.
    """
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text, so no file of curves; {_REMEDY}") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({error}); {_REMEDY}") from None
    return _Reader(str(path)).curves(data)


def dump_curves(curves: NodeCurves) -> str:
    """`curves` as the text of a file that `load_curves` reads back."""
    values = {part.name: _plain(getattr(curves, part.name)) for part in fields(curves)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{\n  " + ",\n  ".join([f'"version": {_VERSION}', *lines]) + "\n}\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks one file; what is wrong is told with its place in `source`."""

    source: str

    def curves(self, data: Any) -> NodeCurves:
        if not isinstance(data, dict) or "version" not in data:
            raise UserError(f"{self.source}: is no file of curves; {_REMEDY}")
        version = data.pop("version")
        if isinstance(version, bool) or version != _VERSION:
            raise UserError(
                f"{self.source}: version: this servetune reads {_VERSION}; use the servetune that "
                f"wrote it, or {_REMEDY}"
            )
        known = {part.name for part in fields(NodeCurves)}
        for key in data:
            if key not in known:
                raise self._wrong(key, "is no key of a file of curves")
        for key in _REQUIRED:
            if key not in data:
                raise self._wrong(key, "is missing")
        curves = NodeCurves(**{key: self._part(key, value) for key, value in data.items()})
        if not curves.gemm_flops:
            raise self._wrong("gemm_flops", "is empty")
        if unknown := [name for name in curves.gemm_flops if name not in _FORMATS]:
            rule = f"is no number format; known are {', '.join(_FORMATS)}"
            raise self._wrong(f"gemm_flops.{unknown[0]}", rule)
        if curves.gemm_flops.keys() != curves.gemm_bytes_per_s.keys():
            formats = ", ".join(curves.gemm_flops)
            raise self._wrong("gemm_bytes_per_s", f"takes the formats of gemm_flops, {formats}")
        return curves

    def _part(self, key: str, value: Any) -> Any:
        if key in ("accelerator", "measured_at"):
            return self._text(key, value, empty=key == "measured_at")
        if key == "copy_bytes_per_s":
            return self._figure(key, value, _RATES)
        if key in ("prefill_attention_flops", "decode_attention_s"):
            bounds = _RATES if key == "prefill_attention_flops" else _TIMES_S
            return self._curve(key, value, bounds) if value != [] else ()
        if not isinstance(value, dict):
            raise self._wrong(key, "takes keys with values", value)
        inside = {name: f"{key}.{name}" for name in value}
        if key == "gemm_flops":
            return {name: self._curve(inside[name], each, _RATES) for name, each in value.items()}
        if key == "gemm_bytes_per_s":
            return {name: self._figure(inside[name], each, _RATES) for name, each in value.items()}
        if key == "all_reduce_s":
            return {
                self._ranks(key, name): self._curve(inside[name], each, _TIMES_S)
                for name, each in value.items()
            }
        return {name: self._text(inside[name], each, empty=True) for name, each in value.items()}

    def _curve(self, place: str, value: Any, bounds: tuple[float, float]) -> Curve:
        if not isinstance(value, list) or not value:
            raise self._wrong(place, "takes a list of [size, figure]", value)
        if len(value) > _MOST_POINTS:
            raise self._wrong(place, f"holds {len(value):,} points, at most {_MOST_POINTS:,} do")
        points: list[tuple[float, float]] = []
        for index, pair in enumerate(value):
            here = f"{place}[{index}]"
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._wrong(here, "takes [size, figure]", pair)
            point = (
                self._figure(f"{here}[0]", pair[0], _SIZES),
                self._figure(f"{here}[1]", pair[1], bounds),
            )
            if points and point[0] <= points[-1][0]:
                raise self._wrong(here, "sizes have to ascend", pair)
            points.append(point)
        return tuple(points)

    def _figure(self, place: str, value: Any, bounds: tuple[float, float]) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(place, "takes a number", value)
        try:
            figure = float(value)
        except OverflowError:
            figure = float("inf")
        least, most = bounds
        if not least <= figure <= most:
            raise self._wrong(place, f"takes a number from {least:g} to {most:g}", value)
        return figure

    def _text(self, place: str, value: Any, *, empty: bool) -> str:
        if not isinstance(value, str) or not (value or empty):
            raise self._wrong(place, "takes text", value)
        return value

    def _ranks(self, place: str, name: str) -> int:
        if not (name.isascii() and name.isdigit() and 1 < int(name[:6]) < 10**5 and name[0] != "0"):
            raise self._wrong(place, "takes numbers of ranks from 2 as keys", name)
        return int(name)

    def _wrong(self, place: str, rule: str, *value: Any) -> UserError:
        shown = f" (got {str(value[0])[:80]!r})" if value else ""
        return UserError(f"{self.source}: {place}: {rule}{shown}; {_REMEDY}")
