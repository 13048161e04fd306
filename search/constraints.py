"""Rules of an experiment: expressions that a point must make true, or a dimension waits for."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.json_types import Json
from search.expressions import evaluate, names_in, parse


@dataclass(frozen=True, slots=True)
class Constraint:
    """One rule, written in the language of `search.expressions`.

    Names are those of `search.values`: `tp` and other degrees, `gpus` (what the engine takes),
    `engine`, `quantization_gemm`, and parameters as `constraint_name` spells them. Two
    constraints of the same text are equal.
    """

    text: str
    names: tuple[str, ...] = field(compare=False)
    _tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a rule.

        Raises:
            ValueError: it cannot be read or holds what is not allowed; says where.
        """
        tree = parse(text)
        return cls(" ".join(text.split()), names_in(tree), tree)

    def applies(self, values: Mapping[str, Json]) -> bool:
        """True when every name has a value: a rule about an argument that the engine at hand
        lacks, or that is left to the engine, says nothing about it.
        """
        return all(values.get(name) is not None for name in self.names)

    def evaluate(self, values: Mapping[str, Json]) -> bool:
        """True when `values` keep the rule.

        Raises:
            ValueError: it has no truth value for them; says which values and why.
        """
        return _decided(self._tree, values, f"constraint `{self.text}`", self.shown(values))

    def shown(self, values: Mapping[str, Json]) -> str:
        """The values it reads, for messages: `tp=8, pp=2`."""
        return _shown(self.names, values)


@dataclass(frozen=True, slots=True)
class Condition:
    """When a dimension is searched; language and names as of a `Constraint`."""

    text: str
    names: tuple[str, ...] = field(compare=False)
    _tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            ValueError: it cannot be read or holds what is not allowed; says where.
        """
        tree = parse(text)
        return cls(" ".join(text.split()), names_in(tree), tree)

    def holds(self, values: Mapping[str, Json]) -> bool:
        """True when `values` fulfil it; not when a name it reads has no value.

        Raises:
            ValueError: it has no truth value for them; says which values and why.
        """
        if any(values.get(name) is None for name in self.names):
            return False
        shown = _shown(self.names, values)
        return _decided(self._tree, values, f"condition `{self.text}`", shown)


def _decided(tree: ast.expr, values: Mapping[str, Json], what: str, shown: str) -> bool:
    try:
        result = evaluate(tree, values)
        if not isinstance(result, bool):
            raise ValueError(f"it gives {result!r}, not true or false; compare it with something")
    except ValueError as error:
        raise ValueError(f"{what} cannot be decided for {shown}: {error}") from None
    return result


def _shown(names: tuple[str, ...], values: Mapping[str, Json]) -> str:
    return ", ".join(f"{name}={values.get(name)!r}" for name in names) or "any values"
