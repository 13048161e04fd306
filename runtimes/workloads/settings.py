"""Reading the `workload` section of an experiment, one setting after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeGuard, TypeVar

from runtimes.json_types import Json
from runtimes.workloads.base import Workload

COMMON: Mapping[str, Json] = {"skip_special_ids": False}
"""Settings of every workload that makes up token ids."""

T = TypeVar("T", int, float)

_MOST = 2**31 - 1


class Settings:
    """Typed access to a workload's settings; one that is left out or null has its default.

    Args:
        workload: whose settings they are.
        values: what the user wrote.

    Raises:
        ValueError: a setting is unknown, or a required one missing.
    """

    def __init__(self, workload: type[Workload], values: Mapping[str, Json]) -> None:
        known = (*workload.required, *workload.defaults)
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"{name}: unknown setting; {hint}known: {', '.join(known)}")
        for name in workload.required:
            if values.get(name) is None:
                raise ValueError(f"{name}: has to be given for the workload {workload.name}")
        given = {name: value for name, value in values.items() if value is not None}
        self._values: Mapping[str, Json] = {**workload.defaults, **given}

    def __getitem__(self, name: str) -> Json:
        return self._values[name]

    def count(self, name: str, *, least: int = 1) -> int:
        """A whole number of at least `least`."""
        return _count(name, self[name], least)

    def optional_count(self, name: str, *, least: int = 1) -> int | None:
        """The same; None where it is left out and has no default."""
        return None if self[name] is None else self.count(name, least=least)

    def counts(self, name: str, *, least: int = 1) -> tuple[int, ...]:
        """A whole number or a list of them, all different."""
        value = self[name]
        listed = value if isinstance(value, list) else [value]
        found = [_count(f"{name}[{place}]", item, least) for place, item in enumerate(listed)]
        return tuple(_different(name, found))

    def shares(self, name: str) -> tuple[float, ...]:
        """A number between 0 and 1, both out, or a list of them, all different."""
        value = self[name]
        listed = value if isinstance(value, list) else [value]
        for place, item in enumerate(listed):
            if not _is_number(item) or not 0 < item < 1:
                raise ValueError(f"{name}[{place}]: must be between 0 and 1, got {item!r}")
        return tuple(_different(name, [float(item) for item in listed if _is_number(item)]))

    def share(self, name: str) -> float:
        """A number from 0 to 1."""
        value = self[name]
        if not _is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name}: must be a share from 0 to 1, got {value!r}")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self[name]
        if not isinstance(value, bool):
            raise ValueError(f"{name}: must be true or false, got {value!r}")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        """One of `known`."""
        value = self[name]
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name}: must be one of {', '.join(known)}, got {value!r}")
        return value


def _count(where: str, value: Json, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise ValueError(f"{where}: must be a whole number of at least {least}, got {value!r}")
    return value


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _different(name: str, found: list[T]) -> list[T]:
    if not found:
        raise ValueError(f"{name}: must have at least one number, got []")
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: must be different numbers, got {found}")
    return found
