"""The JSON values that engine arguments are made of."""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

JsonScalar: TypeAlias = str | int | float | bool | None
Json: TypeAlias = "JsonScalar | list[Json] | dict[str, Json]"


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no spaces. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: object, length: int = 12) -> str:
    """First `length` hexadecimal digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
