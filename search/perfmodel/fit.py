"""The fit of engines' overheads to public measurements, and what is uncertain about it.

`overheads.json` is written by `benchmarks/perfmodel_fit.py` and carries the hash of the rows it was
fitted to; nothing else may change it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from search.perfmodel.efficiency import Efficiencies
from search.perfmodel.formats import formats_of
from search.perfmodel.overheads import EAGER_LAYER_S, EngineOverheads
from search.perfmodel.question import Configuration

_STORED = Path(__file__).with_name("overheads.json")
_FALLBACK = "vllm"
"""Whose overheads stand in for those of an engine that nobody has measured."""
WIDER = 1.5
"""Factor on the logarithm of an interval's ends for each thing that is extrapolated."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """Factors between which measured over predicted lies nine times of ten."""

    ttft: tuple[float, float]
    tpot: tuple[float, float]
    throughput: tuple[float, float]

    def wider(self, times: int) -> Spreads:
        """Intervals for what is extrapolated in `times` ways."""
        power = WIDER**times
        return Spreads(*((low**power, high**power) for low, high in self._pairs()))

    def _pairs(self) -> tuple[tuple[float, float], ...]:
        return (self.ttft, self.tpot, self.throughput)


@dataclass(frozen=True, slots=True)
class Fit:
    """Overheads and spreads by engine.

    Attributes:
        engines: by engine, and by narrower keys where they differ (see `overhead_keys`).
        spreads: by the same keys.
        data_sha256: of the rows fitted to.
        rows: how many these were.
    """

    engines: Mapping[str, EngineOverheads]
    spreads: Mapping[str, Spreads]
    data_sha256: str = ""
    rows: int = 0

    def overheads(self, configuration: Configuration) -> EngineOverheads:
        return self.engines[self._key(configuration, self.engines)]

    def spread(self, configuration: Configuration, extrapolated: int) -> Spreads:
        return self.spreads[self._key(configuration, self.spreads)].wider(extrapolated)

    def extrapolates(
        self, configuration: Configuration, efficiencies: Efficiencies, accelerator: int
    ) -> tuple[str, ...]:
        """In words, what no measurement stands behind."""
        notes = []
        if configuration.engine not in self.engines:
            notes.append(f"no measurements of {configuration.engine}; {_FALLBACK}'s overheads")
        stand_in = efficiencies.stands_for(accelerator)
        if stand_in is not None:
            notes.append(
                f"no kernels measured on {configuration.accelerator.name}; rates of {stand_in}"
            )
        formats = formats_of(configuration.model, configuration.quantization)
        missing = {
            name
            for name in (formats.linear, formats.experts)
            if stand_in is None and not efficiencies.measured(accelerator, name)
        }
        if missing:
            notes.append(f"no kernels measured in {', '.join(sorted(missing))}")
        if not configuration.limits.compiled_graphs:
            notes.append(
                f"kernels launched one by one: {EAGER_LAYER_S * 1e6:.0f} µs a layer are assumed"
            )
        return tuple(notes)

    @staticmethod
    def _key(configuration: Configuration, known: Mapping[str, object]) -> str:
        return next((key for key in overhead_keys(configuration) if key in known), _FALLBACK)


def overhead_keys(configuration: Configuration) -> tuple[str, ...]:
    """Keys of the overheads of a configuration, the narrowest first.

    `engine/vendor` for accelerators that are not NVIDIA's, whose kernels are others; `engine/moe`
    for mixtures of experts; `engine`.
    """
    engine, vendor = configuration.engine, configuration.accelerator.vendor
    if vendor != "nvidia":
        return f"{engine}/{vendor}", engine
    return (f"{engine}/moe", engine) if configuration.model.is_moe else (engine,)


def generic_overheads() -> EngineOverheads:
    """Those that stand in where no engine is named."""
    return stored_fit().engines[_FALLBACK]


@cache
def stored_fit() -> Fit:
    """The fit that ships with servetune."""
    document = json.loads(_STORED.read_text(encoding="utf-8"))
    return Fit(
        {name: EngineOverheads(**values) for name, values in document["overheads"].items()},
        {
            name: Spreads(**{each: tuple(pair) for each, pair in values.items()})
            for name, values in document["spreads"].items()
        },
        document["data_sha256"],
        document["rows"],
    )
