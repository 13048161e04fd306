"""Tables of the arguments that engines' commands take, one file per engine and version.

A table is a JSON file in `runtimes/engines/flags/`: names, kinds, choices and defaults as the
engine's own parser declares them, without its words. It tells a misspelt argument before a GPU is
touched, and an argument that only restates the engine's default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from runtimes.json_types import Json, canonical_json

Kind: TypeAlias = Literal["switch", "toggle", "int", "count", "float", "text", "json", "list"]
"""`switch` is there or not; `toggle` has a negative form too; `list` takes values in a row;
`count` is an integer that may be written `8k` (8000), `8K` (8192) or `auto`."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One argument.

    Attributes:
        name: its long name without dashes, as the parser spells it.
        aliases: its other names, without dashes.
        negatives: names that mean the opposite of it (`no-enable-x`).
        choices: the values it takes; empty when any value of its kind will do.
        default: what it is when it is not given; None also when the engine works it out.
    """

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()
    choices: tuple[Json, ...] = ()
    default: Json = None
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlagTable:
    """Arguments of one engine's command.

    Attributes:
        version: the version they are of; of several, all of them (`0.32.0, 0.33.0`).
        flags: by name.
    """

    version: str
    flags: Mapping[str, Flag]
    _by_alias: Mapping[str, str] = field(repr=False, default_factory=dict)
    _by_negative: Mapping[str, str] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, version: str, flags: Iterable[Flag]) -> FlagTable:
        """A table of `flags`."""
        listed = list(flags)
        by_alias = {_plain(name): flag.name for flag in listed for name in flag.aliases}
        by_alias.update({_plain(flag.name): flag.name for flag in listed})
        by_negative = {_plain(name): flag.name for flag in listed for name in flag.negatives}
        return cls(version, {flag.name: flag for flag in listed}, by_alias, by_negative)

    def find(self, name: str) -> Flag | None:
        """The flag that users call `name`: dashes and underscores are alike, aliases count."""
        found = self._by_alias.get(_plain(name))
        return self.flags[found] if found is not None else None

    def read(self, name: str, value: Json) -> tuple[str, Json]:
        """An argument under its own name: aliases replaced, negative forms turned round.

        Of a dotted name that no flag has, the first part is replaced. A name that is in no way
        known is given back with dashes for underscores before its first dot.
        """
        whole = self.find(name)
        if whole is not None:
            return whole.name, value
        first, dot, rest = name.partition(".")
        opposite = self._by_negative.get(_plain(first))
        if opposite is not None and not dot and isinstance(value, bool):
            return opposite, not value
        flag = self.find(first)
        return (flag.name if flag else first.replace("_", "-")) + dot + rest, value

    def knows(self, name: str) -> bool:
        """True for any name of any flag, negative forms included; dotted ones by first part."""
        names = (_plain(name), _plain(name.partition(".")[0]))
        return any(each in self._by_alias or each in self._by_negative for each in names)

    def closest(self, name: str) -> str | None:
        """The flag that a misspelt `name` probably stands for."""
        known = [*self._by_alias, *self._by_negative]
        matches = get_close_matches(_plain(name), known, n=1, cutoff=0.7)
        if not matches:
            return None
        return self._by_alias.get(matches[0]) or matches[0]

    def restates_default(self, name: str, value: Json) -> bool:
        """True when giving `value` changes nothing: it is what the engine has without it."""
        flag = self.find(name)
        if flag is None or flag.default is None:
            return False
        if _same_number(flag.default, value):
            return True
        return canonical_json(flag.default) == canonical_json(value)


def _plain(name: str) -> str:
    return name.replace("_", "-").lower()


def _same_number(left: Json, right: Json) -> bool:
    """1 and 1.0 are one value of an argument; true is none of them."""
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return False


@cache
def load_table(engine: str, version: str) -> FlagTable:
    """The shipped table of `engine` in `version`.

    Raises:
        FileNotFoundError: there is none; `known_versions` lists what there is.
    """
    path = files("runtimes.engines").joinpath("flags", f"{engine}-{version}.json")
    rows: dict[str, dict[str, Json]] = json.loads(path.read_text(encoding="utf-8"))["flags"]
    return FlagTable.of(version, [_flag(name, row) for name, row in rows.items()])


@cache
def known_versions(engine: str) -> tuple[str, ...]:
    """Versions of `engine` with a table, oldest first."""
    pattern = re.compile(rf"{re.escape(engine)}-(\d[\w.]*)\.json")
    folder = files("runtimes.engines").joinpath("flags")
    found = [match[1] for entry in folder.iterdir() if (match := pattern.fullmatch(entry.name))]
    return tuple(sorted(found, key=lambda text: [int(part) for part in re.findall(r"\d+", text)]))


@cache
def table_for(engine: str, version: str | None) -> FlagTable | None:
    """The table of that very version; else what all known versions share; None without any."""
    versions = known_versions(engine)
    if version in versions:
        return load_table(engine, str(version))
    tables = [load_table(engine, known) for known in versions]
    return shared(tables) if tables else None


def shared(tables: list[FlagTable]) -> FlagTable:
    """What `tables` have in common: flags that all know, defaults and choices that all agree on.

    Choices are those that any of them takes, so that nothing is refused that one would accept.
    """
    first, *rest = tables
    common = [name for name in first.flags if all(name in table.flags for table in rest)]
    return FlagTable.of(
        ", ".join(table.version for table in tables),
        [_common(name, [table.flags[name] for table in tables]) for name in common],
    )


def _common(name: str, flags: list[Flag]) -> Flag:
    first = flags[0]
    agreed = all(canonical_json(flag.default) == canonical_json(first.default) for flag in flags)
    free = any(not flag.choices for flag in flags)
    choices = dict.fromkeys(
        choice for flag in flags for choice in map(canonical_json, flag.choices)
    )
    return Flag(
        name,
        first.kind,
        tuple(alias for alias in first.aliases if all(alias in flag.aliases for flag in flags)),
        () if free else tuple(json.loads(choice) for choice in choices),
        first.default if agreed else None,
        # The opposite of a flag is written in a form that all versions take.
        tuple(dict.fromkeys(name for flag in flags for name in flag.negatives)),
    )


def _flag(name: str, row: Mapping[str, Json]) -> Flag:
    kind, choices = row["kind"], row.get("choices")
    return Flag(
        name,
        kind,  # type: ignore[arg-type]  # the tables are ours; a test reads every one
        _names(row.get("aliases")),
        tuple(choices) if isinstance(choices, list) else (),
        row.get("default"),
        _names(row.get("negatives")),
    )


def _names(listed: Json) -> tuple[str, ...]:
    return tuple(str(name) for name in listed) if isinstance(listed, list) else ()
