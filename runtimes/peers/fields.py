"""Reading JSON that somebody else wrote: every wrong value is named with its place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeGuard

from runtimes.errors import UserError
from runtimes.json_types import Json


class WrongFieldError(UserError):
    """A key is absent, or holds something else than it should."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object and its place in the document, empty for the whole of it.

    The methods named `find_…` return None for a key that is absent or null; the others raise
    WrongFieldError then. All raise it for a value of another type.
    """

    values: Mapping[str, Json]
    place: str = ""

    def section(self, key: str) -> Fields:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return Fields(value, self._at(key))

    def find_section(self, key: str) -> Fields:
        """The object; an empty one where there is none."""
        if self.values.get(key) is None:
            return Fields({}, self._at(key))
        return self.section(key)

    def sections(self, key: str) -> list[Fields]:
        """The objects of a list."""
        found = []
        for index, value in enumerate(self.items(key)):
            place = f"{self._at(key)}[{index}]"
            if not isinstance(value, dict):
                raise WrongFieldError(f"`{place}` must be an object, got {_shown(value)}")
            found.append(Fields(value, place))
        return found

    def items(self, key: str) -> list[Json]:
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def number(self, key: str) -> float:
        found = self.find_number(key)
        if found is None:
            raise self._wrong(key, "a number")
        return found

    def find_number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._wrong(key, "a finite number")
        return float(value)

    def count(self, key: str) -> int:
        """A whole number from 0."""
        found = self.number(key)
        if found < 0 or found != int(found):
            raise self._wrong(key, "a whole number from 0")
        return int(found)

    def find_count(self, key: str) -> int | None:
        return None if self.values.get(key) is None else self.count(key)

    def numbers(self, key: str) -> list[float]:
        return [self._item(key, index, value) for index, value in enumerate(self.items(key))]

    def number_lists(self, key: str) -> list[list[float]]:
        """A list of lists of numbers."""
        found = []
        for index, value in enumerate(self.items(key)):
            inner = Fields({"": value}, f"{self._at(key)}[{index}]")
            found.append(inner.numbers(""))
        return found

    def text(self, key: str) -> str:
        found = self.find_text(key)
        if found is None:
            raise self._wrong(key, "a text")
        return found

    def find_text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def instant(self, key: str) -> float:
        """Seconds since the epoch of an ISO 8601 instant; local time where it names no zone."""
        text = self.text(key)
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise self._wrong(key, "an ISO 8601 instant") from None

    def wrong(self, key: str, expected: str) -> WrongFieldError:
        """The error to raise where `key` holds what it cannot."""
        return self._wrong(key, expected)

    def _item(self, key: str, index: int, value: Json) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            place = f"{self._at(key)}[{index}]"
            raise WrongFieldError(f"`{place}` must be a finite number, got {_shown(value)}")
        return float(value)

    def _wrong(self, key: str, expected: str) -> WrongFieldError:
        if key not in self.values:
            return WrongFieldError(f"`{self._at(key)}` is absent; it must be {expected}")
        return WrongFieldError(
            f"`{self._at(key)}` must be {expected}, got {_shown(self.values[key])}"
        )

    def _at(self, key: str) -> str:
        return ".".join(filter(None, (self.place, key)))


def _is_number(value: Json) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
