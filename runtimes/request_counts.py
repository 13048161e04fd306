"""A stage's requests, counted where they were measured: what a monitor needs of them, and no more.

A histogram of a million gaps between tokens travels as its few dozen counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.latencies import latencies_of, within_limit
from runtimes.measurement import RequestRecord
from runtimes.request_columns import Floats, Ints, RequestColumns
from runtimes.slo import LATENCY_METRICS, Slo

# vLLM's own boundaries where they are fine enough, finer ones where they are not.
_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160),
)
_TOKEN_S = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5),
)
_E2E_S = (
    *(0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2.5, 5, 10, 20, 30),
    *(60, 120, 240, 480, 960),
)
_TOKENS = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))
_USUAL_S = {"ttft_ms": _TTFT_S, "tpot_ms": _TOKEN_S, "itl_ms": _TOKEN_S, "e2e_ms": _E2E_S}
_LENGTHS = ("input_tokens", "output_tokens")

COUNTED = (*LATENCY_METRICS, *_LENGTHS)
"""What is counted by bucket, by its name in the record."""


@dataclass(frozen=True, slots=True)
class Bucketed:
    """Values counted by bucket.

    Attributes:
        bounds: upper bounds, inclusive and ascending; the last bucket takes what is above them.
        counts: values in each bucket: one entry more than there are bounds.
        total: sum of the values.
        largest: the largest value in each bucket; None in an empty one.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    largest: tuple[float | None, ...]

    @classmethod
    def of(cls, ordered: Floats | Ints, bounds: tuple[float, ...]) -> Bucketed:
        """Count values that are in ascending order."""
        ends = [*np.searchsorted(ordered, bounds, side="right").tolist(), len(ordered)]
        counts = np.diff(ends, prepend=0).tolist()
        return cls(
            bounds,
            tuple(counts),
            float(ordered.sum()),
            tuple(
                float(ordered[end - 1]) if count else None
                for end, count in zip(ends, counts, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True)
class LimitCount:
    """Requests held against one limit: `met` of `evaluated`; `limit` in words."""

    limit: str
    evaluated: int
    met: int


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """The requests of one stage.

    Attributes:
        completed, failed: as in the stage's measurement.
        values: by name in `COUNTED`, of completed requests, whenever they were scheduled:
            latencies in seconds, lengths in tokens as `usage` counts them.
        limits: of every limit that a single request must meet. All requests are evaluated; one
            that failed meets none (`runtimes.latencies.within_limit`).
    """

    completed: int
    failed: int
    values: Mapping[str, Bucketed]
    limits: tuple[LimitCount, ...]

    @classmethod
    def of(cls, records: Sequence[RequestRecord], slo: Slo) -> RequestCounts:
        """Count `records`, every request of a stage."""
        columns = RequestColumns.of(records)
        scheduled_ns = columns.scheduled_ns
        whole = (int(scheduled_ns.min()), int(scheduled_ns.max())) if len(records) else (0, 0)
        latencies = latencies_of(columns, whole)
        values: dict[str, Floats | Ints] = {
            name: latencies[name].ordered / 1e3 for name in LATENCY_METRICS
        }
        for name, tokens, counted in (
            ("input_tokens", columns.prompt_tokens, columns.prompt_counted),
            ("output_tokens", columns.output_tokens, columns.output_counted),
        ):
            values[name] = np.sort(tokens[columns.completed & counted])
        bounds = bucket_bounds(slo)
        completed = int(columns.completed.sum())
        return cls(
            completed=completed,
            failed=len(records) - completed,
            values={name: Bucketed.of(values[name], bounds[name]) for name in COUNTED},
            limits=tuple(
                LimitCount(
                    str(limit),
                    len(records),
                    int(within_limit(columns, metric, limit.limit_ms).sum()),
                )
                for metric, limit in slo.request_limits().items()
            ),
        )


def bucket_bounds(slo: Slo) -> Mapping[str, tuple[float, ...]]:
    """Upper bounds by name in `COUNTED`: seconds, tokens.

    The limits of `slo` are among them, so that the share of requests within one is exact.
    """
    bounds: dict[str, tuple[float, ...]] = {}
    for metric, usual_s in _USUAL_S.items():
        limits_s = [limit.limit_ms / 1e3 for limit in slo.limits if limit.metric == metric]
        bounds[metric] = tuple(sorted({*map(float, usual_s), *limits_s}))
    return bounds | dict.fromkeys(_LENGTHS, tuple(map(float, _TOKENS)))
