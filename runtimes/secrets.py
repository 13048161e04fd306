"""Which names hold secrets, and how their values are kept out of what is written down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASK = "***"
"""Stands where a secret stood."""
MIN_SECRET_LENGTH = 6
"""Characters below which a value is taken for a placeholder: masking `1` would spoil every log."""

_VARIABLE = re.compile(r"(_KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(://)[^\s/]+@")
# Narrower than for variables: `allow-credentials` and `…-per-token` are ordinary arguments.
_ARGUMENT = re.compile(r"(^|-)(api-key|(hf|access|auth)-token|password|secret)$")


def is_secret_name(name: str) -> bool:
    """True when an environment variable of this name holds a secret."""
    return _VARIABLE.search(name) is not None


def is_secret_argument(name: str) -> bool:
    """True when an engine argument of this name, dashes or underscores, takes a secret."""
    spelled = name.lstrip("-").replace("_", "-").lower()
    return _ARGUMENT.search(spelled) is not None


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Values of the variables whose names tell a secret, `MIN_SECRET_LENGTH` or longer."""
    return [
        value
        for name, value in environment.items()
        if is_secret_name(name) and len(value) >= MIN_SECRET_LENGTH
    ]


def mask(text: str, secrets: Iterable[str]) -> str:
    """`text` with every occurrence of every secret replaced by `MASK`."""
    # Longest first: a secret that begins with another would leave its rest readable.
    for secret in sorted(filter(None, set(secrets)), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask_credentials(text: str) -> str:
    """`text` with what stands before the `@` of an address replaced by `MASK`."""
    return _CREDENTIALS.sub(rf"\1{MASK}@", text)
