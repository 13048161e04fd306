"""Leading tokens that make every prompt of an engine's life different from every other.

A stage has a number and a prompt an index within it. The two are paired into one number g
(Cantor's pairing, one to one), and the first tokens of the prompt spell g in base B, the count
of usable token ids, lowest digit first. Each digit is shifted by an amount that depends on the
seed and on the digits before it: the tokens look random, yet g can be read back from left to
right, so that different g make different prompts. Tokens after the `width` that any g needs are
free. A prompt shorter than `width` holds its g when that needs no more digits than there are.

Stages called `N` and `warmup-N` are numbered exactly. Any other name is numbered by a hash, and
two such names fall on one number with a probability of 2⁻²⁹.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_INDEX = 1 << 31
"""Prompts of one stage stay below this, so that g fits in 63 bits."""

_HASH_BITS = 29
_NUMBERED_STAGE = re.compile(r"(warmup-)?(0|[1-9]\d{0,7})")


def stage_number(stage: str) -> int:
    """A number below 2³¹ for the stage; one to one for `N` and `warmup-N`."""
    match = _NUMBERED_STAGE.fullmatch(stage)
    if match is None:
        digest = hashlib.sha256(stage.encode()).digest()
        return 3 * (int.from_bytes(digest[:8], "big") >> (64 - _HASH_BITS)) + 2
    return 3 * int(match[2]) + (1 if match[1] else 0)


def pair(stage: int, indices: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Cantor's pairing of `stage` with each index: one to one, and small for small numbers."""
    import numpy as np  # here, because workloads are also made where no prompt ever is

    diagonal = indices + np.uint64(stage)
    # One of two neighbours is even; halving that one first keeps the product within 64 bits.
    even = diagonal % np.uint64(2) == 0
    half = np.where(even, diagonal // np.uint64(2), (diagonal + np.uint64(1)) // np.uint64(2))
    other = np.where(even, diagonal + np.uint64(1), diagonal)
    return half * other + np.uint64(stage)


def width(base: int) -> int:
    """Digits that any g needs in base `base`."""
    digits, reach = 1, base
    while reach < 1 << 63:
        digits += 1
        reach *= base
    return digits


def digits_needed(numbers: npt.NDArray[np.uint64], base: int) -> npt.NDArray[np.int64]:
    """Digits that each number needs in base `base`, at least one."""
    import numpy as np

    needed = np.ones(len(numbers), dtype=np.int64)
    rest = numbers // np.uint64(base)
    while rest.any():
        needed += rest > 0
        rest //= np.uint64(base)
    return needed


def spell(
    numbers: npt.NDArray[np.uint64], base: int, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Rows of `width(base)` shifted digits, one row a number, lowest digit first.

    Rows with the same key differ wherever their numbers do.
    """
    import numpy as np

    rest = numbers.copy()
    state = keys
    columns = []
    for _ in range(width(base)):
        state = mix(state)
        digit = rest % np.uint64(base)
        rest //= np.uint64(base)
        columns.append((digit + state % np.uint64(base)) % np.uint64(base))
        state = state + digit + np.uint64(1)
    return np.stack(columns, axis=1).astype(np.int64)


def mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A one-to-one scrambling of 64 bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    import numpy as np

    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
