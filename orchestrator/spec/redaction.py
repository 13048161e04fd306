"""Values of the experiment file as messages show them: short, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runtimes.secrets import (
    MASK,
    MIN_SECRET_LENGTH,
    is_secret_argument,
    is_secret_name,
    mask,
    mask_credentials,
)

_MAX_SHOWN = 120


def shown(value: object, location: Sequence[str | int], data: object) -> str:
    """`value`, which stands at `location` of `data`, for a message.

    What stands under a name that tells a secret is masked, wherever else it stands too.
    """
    if any(_is_secret(part) for part in location):
        return repr(MASK)
    text = mask_credentials(mask(repr(_redacted(value)), secrets_in(data)))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def shape(value: object) -> str:
    """What kind of thing `value` is, for places where its contents might be secrets."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "keys with values"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a number"


def secrets_in(data: object) -> list[str]:
    """Texts that stand under a name that tells a secret, long enough to be one."""
    return [text for text in _secret_texts(data, secret=False) if len(text) >= MIN_SECRET_LENGTH]


def _secret_texts(value: object, *, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "from_env":
                yield from _secret_texts(item, secret=secret or _is_secret(key))
    elif isinstance(value, list):
        for item in value:
            yield from _secret_texts(item, secret=secret)
    elif secret and isinstance(value, str):
        yield value


def _redacted(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_secret(key) and not isinstance(item, Mapping) else _redacted(item)
            for key, item in value.items()
        }
    return [_redacted(item) for item in value] if isinstance(value, list) else value


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and (is_secret_name(name) or is_secret_argument(name))
