"""What the rules of several engines have in common: divisibility, and how it is told.

A rule is a function that returns a `Refusal` with the rule, the values at hand and the nearest
valid ones, or None. One whose facts are unknown says nothing: refusing what would have run costs
more than a failed start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from runtimes.engines.base import Refusal
from runtimes.parallel import ParallelLayout

_SHOWN = 4


def nearest(value: int, valid: Iterable[int]) -> str:
    """Up to four of `valid`, those nearest to `value`, ascending: `1, 2, 4, 8`."""
    found = sorted(set(valid), key=lambda n: (abs(n - value), n))[:_SHOWN]
    return ", ".join(str(n) for n in sorted(found))


def divisors(count: int) -> list[int]:
    """Numbers that divide `count`, ascending."""
    return [n for n in range(1, count + 1) if count % n == 0]


def not_divided(rule: str, name: str, degree: int, count: int, what: str) -> Refusal | None:
    """`tp=3 does not divide 64 attention heads; valid: 1, 2, 4, 8`; None when it does."""
    if degree > 0 and count % degree == 0:
        return None
    valid = nearest(degree, divisors(count))
    return Refusal(rule, f"{name}={degree} does not divide {count} {what}; valid: {valid}")


def unsupported_degree(
    engine: str, layout: ParallelLayout, supported: Collection[str]
) -> Refusal | None:
    """The first degree in use that the engine has no word for."""
    for name, degree in layout.used.items():
        if name not in supported:
            known = ", ".join(supported)
            words = f"{engine} has no {name} (got {name}={degree}); it knows {known}"
            return Refusal("degree_supported", words)
    return None
