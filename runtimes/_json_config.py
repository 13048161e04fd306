"""Reading a Hugging Face configuration file, which may hold anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from runtimes.errors import UserError

JsonMapping: TypeAlias = Mapping[str, object]

_LARGEST = 10**9
"""No width or count of a model comes near; a larger one is a damaged file."""


def load_json(path: Path) -> JsonMapping:
    """The mapping in a JSON file.

    Raises:
        UserError: it is absent, cannot be read, is not JSON or is no mapping.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. A model folder holds config.json; "
            "name the folder itself or a Hub id."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(read, dict):
        raise UserError(f"{path}: holds {_shown(read)}, not a mapping of names to values")
    return read


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


@dataclass(frozen=True, slots=True)
class Fields:
    """Typed access to a configuration; a key that is absent and one that is null are alike.

    Attributes:
        where: the file, for messages.
        values: its mapping, or a nested one.
        defaults: what a key is where the file leaves it out.
    """

    where: str
    values: JsonMapping
    defaults: Mapping[str, int]

    def count(self, *keys: str, default: int | None = None) -> int:
        """The first of `keys` that is given, as a whole number from 0 on; else `default`.

        Raises:
            UserError: it is no such number, or none is given and there is no default.
        """
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                return self._whole(key, value)
        known = next((self.defaults[key] for key in keys if key in self.defaults), default)
        if known is None:
            raise UserError(f"{self.where}: lacks {keys[0]!r}, needed to size the model")
        return known

    def positive(self, *keys: str, default: int | None = None) -> int:
        """As `count`, from 1 on."""
        value = self.count(*keys, default=default)
        if value < 1:
            raise UserError(f"{self.where}: {keys[0]} is {value}; it has to be at least 1")
        return value

    def words(self, key: str) -> list[str] | None:
        """A list of text; None when it is not given.

        Raises:
            UserError: it is something else.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise UserError(f"{self.where}: {key} is {_shown(value)}; it has to be a list of text")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value; what is none counts as `default`."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else default

    def text(self, *keys: str, default: str = "") -> str:
        """The first of `keys` that holds text."""
        values = (self.values.get(key) for key in keys)
        return next((value for value in values if isinstance(value, str) and value), default)

    def nested(self, *keys: str) -> JsonMapping | None:
        """The first of `keys` that holds a mapping."""
        values = (self.values.get(key) for key in keys)
        return next((value for value in values if isinstance(value, dict)), None)

    def items(self, key: str) -> Iterable[object]:
        """A list's items; none when it is no list."""
        value = self.values.get(key)
        return value if isinstance(value, list) else ()

    def _whole(self, key: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
            raise UserError(
                f"{self.where}: {key} is {_shown(value)}; "
                f"it has to be a whole number from 0 to {_LARGEST:,}"
            )
        return value


def _shown(value: object) -> str:
    """The value as JSON, cut short."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > 1e15:
        return f"{value:.3g}" if isinstance(value, float) else "a number beyond any size"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
