"""Rules of an experiment: expressions that a point of the search space must make true."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtimes.json_types import Json
from search.expressions import evaluate, names_in, parse


def constraint_name(parameter: str) -> str:
    """How a constraint spells a parameter: `max-num-seqs` is `max_num_seqs`, `env.A` is `env_A`."""
    return parameter.replace("-", "_").replace(".", "_")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One rule, written in the language of `search.expressions`.

    Names are `tp`, `pp`, `dp`, `gpus` (their product), `engine`, and parameters as
    `constraint_name` spells them. Two constraints of the same text are equal.
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
        try:
            result = evaluate(self._tree, values)
            if not isinstance(result, bool):
                raise ValueError(
                    f"it gives {result!r}, not true or false; compare it with something"
                )
        except ValueError as error:
            raise ValueError(
                f"constraint `{self.text}` cannot be decided for {self.shown(values)}: {error}"
            ) from None
        return result

    def shown(self, values: Mapping[str, Json]) -> str:
        """The values it reads, for messages: `tp=8, pp=2`."""
        return ", ".join(f"{name}={values.get(name)!r}" for name in self.names) or "any values"
