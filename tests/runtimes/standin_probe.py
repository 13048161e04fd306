"""Interpreters that say what a probe would, or something else: for faults no real probe has."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runtimes.calibration.probe.said import TAG

DEVICE = {
    "device": {
        "kind": "cuda", "name": "NVIDIA H200", "vendor": "nvidia", "memory_bytes": 150_000_000_000,
        "cache_bytes": 1 << 26, "devices": 8, "software": {"torch": "2.11.0"},
    }
}  # fmt: skip
FIGURES = {
    "copy": [(1 << 30, 4e12)],
    "gemm bf16": [(1, 4e12), (32, 1.2e14), (512, 6.5e14), (8192, 7e14)],
    "gemm fp8": [(1, 6e12), (64, 3e14), (8192, 1.3e15)],
    "prefill attention": [(512, 1.6e14), (16384, 6e14)],
    "decode attention": [(1 << 22, 9e-6), (1 << 30, 2.4e-4)],
    "all-reduce 2": [(1 << 14, 1.3e-5), (1 << 28, 1e-3)],
    "all-reduce 8": [(1 << 14, 1.4e-5), (1 << 28, 1.2e-3)],
}


def said(
    figures: Mapping[str, Iterable[tuple[float, float]]] = FIGURES, *, end: bool = True
) -> list[Any]:
    """The lines of a whole measurement."""
    lines: list[Any] = [DEVICE]
    for part, points in figures.items():
        lines.append({"part": part, "points": 1})
        lines += ({"part": part, "size": size, "value": value} for size, value in points)
    return [*lines, {"end": True}] if end else lines


def interpreter(folder: Path, lines: Iterable[Any], ending: str = "") -> Path:
    """A program that writes `lines`, texts as they are, and then does what `ending` says."""
    written = "".join(
        f"{TAG}{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines
    )
    path = folder / "python"
    path.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\n"
        f"print('a library talks'); print({written!r}, flush=True)\n{ending}\n"
    )
    path.chmod(0o755)
    return path
