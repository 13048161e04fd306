"""One registry for every extension point: engines, workloads, objectives, samplers.

A registry finds its entries in the modules of one package, each imported on first use, and in
an entry-point group of other distributions. Adding an entry is adding one file.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from runtimes.errors import InternalError, UnknownNameError

_logger = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V", bound=object)


class Registry(Generic[T]):
    """Names to entries of one kind.

    Args:
        kind: what an entry is, for messages ("engine").
        package: dotted name of the package whose modules register the built-in entries.
        group: entry-point group through which other distributions add entries.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entries: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[V], V]:
        """Decorate a class or a function with the name users write.

        Raises:
            InternalError: another entry has that name.
        """

        def decorate(entry: V) -> V:
            self.add(name, entry)  # type: ignore[arg-type]  # V is T where it is used
            return entry

        return decorate

    def add(self, name: str, entry: T) -> None:
        """Register `entry`; used directly by files that make several entries."""
        known = self._entries.get(name)
        if known is not None and known is not entry:
            raise InternalError(f"two {self.kind}s are called {name!r}: {known!r} and {entry!r}")
        self._entries[name] = entry

    def get(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            UnknownNameError: there is none; the message suggests the nearest and lists all.
        """
        self._scan()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(unknown_name(self.kind, name, list(self._entries))) from None

    def names(self) -> list[str]:
        """All names, sorted."""
        self._scan()
        return sorted(self._entries)

    def entries(self) -> Mapping[str, T]:
        """All entries by name."""
        self._scan()
        return dict(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._entries

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        for point in entry_points(group=self._group):
            try:
                self.add(point.name, point.load())
            except Exception:  # somebody else's package must not stop ours
                _logger.warning("%s plugin %s is broken, skipped", self.kind, point, exc_info=True)


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """The message for a name that is not among `known`: suggestion first, then the whole list."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{suggestion} Known: {', '.join(sorted(known))}"
