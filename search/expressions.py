"""A small safe expression language: arithmetic and comparisons on named values.

Python's own parser reads the text, a whitelist says which of its nodes may stand in it, and a
walk over the tree computes the value. Nothing is compiled or executed. Sizes are bounded
(length, depth, magnitude), so no expression takes noticeable time.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from runtimes.json_types import Json
from search.domains import is_number

Number: TypeAlias = int | float
Value: TypeAlias = bool | int | float | str

ALLOWED = (
    "names, numbers, 'text', True and False, + - * / // % **, == != < <= > >=, "
    "`in (a, b)`, and, or, not, parentheses, min(), max(), abs()"
)
"""What an expression may hold, in words for messages."""

_MAX_LENGTH = 500
_MAX_DEPTH = 50
_MAX_MAGNITUDE = 1e30
_MAX_POWER_BITS = 128.0


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) * math.log2(abs(base) + 2) > _MAX_POWER_BITS:
        raise ValueError(f"{base} ** {exponent} is too large")
    result = base**exponent
    if not is_number(result):
        raise ValueError(f"{base} ** {exponent} is not a real number")
    return result


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[Value, Value], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: Mapping[str, tuple[Callable[..., Number], int, int]] = {
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "abs": (abs, 1, 1),
}


def parse(text: str) -> ast.expr:
    """The tree of `text`, every node of it allowed.

    Raises:
        ValueError: it cannot be read or holds something else; says where and what is allowed.
    """
    line = " ".join(text.splitlines()).strip()
    if not line:
        raise ValueError(f"the expression is empty; write {ALLOWED}")
    if len(line) > _MAX_LENGTH:
        raise ValueError(f"the expression has {len(line)} characters, {_MAX_LENGTH} at most")
    try:
        tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"`{line}` cannot be read at column {error.offset or 1}: {error.msg}; write {ALLOWED}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"`{line}` cannot be read: {error}; write {ALLOWED}") from None
    _check(tree, line, depth=0)
    return tree


def names_in(tree: ast.expr) -> tuple[str, ...]:
    """Names the expression reads, each once, in order of appearance."""
    found = [
        (node.col_offset, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id not in _FUNCTIONS
    ]
    return tuple(dict.fromkeys(name for _, name in sorted(found)))


def evaluate(tree: ast.expr, values: Mapping[str, Json]) -> Value:
    """The value of a tree from `parse`, with names taken from `values`.

    Raises:
        ValueError: a name is missing or holds no scalar, types do not go together, a number
            becomes too large, or something is divided by zero.
    """
    try:
        return _evaluate(tree, values)
    except ZeroDivisionError:
        raise ValueError("division by zero") from None
    except OverflowError:
        raise ValueError("a number becomes too large") from None


def _check(node: ast.expr, line: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"`{line}` is nested more than {_MAX_DEPTH} deep")
    for child in _operands(node, line):
        _check(child, line, depth + 1)


def _operands(node: ast.expr, line: str) -> list[ast.expr]:
    """The operands of an allowed node."""
    match node:
        case ast.Name(id=name) if name not in _FUNCTIONS:
            return []
        case ast.Constant(value=bool() | str()):
            return []
        case ast.Constant(value=int() | float() as number) if abs(number) <= _MAX_MAGNITUDE:
            return []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            return [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return [left, right]
        case ast.BoolOp(values=parts):
            return parts
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return [left, *_comparands(ops, comparators, node, line)]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            _, fewest, most = _FUNCTIONS[name]
            if fewest <= len(args) <= most:
                return args
    raise _not_allowed(node, line)


def _comparands(
    ops: list[ast.cmpop], comparators: list[ast.expr], node: ast.expr, line: str
) -> Iterator[ast.expr]:
    for op, comparator in zip(ops, comparators, strict=True):
        if isinstance(op, ast.In | ast.NotIn):
            if len(ops) > 1 or not isinstance(comparator, ast.Tuple | ast.List):
                raise _not_allowed(comparator, line)
            yield from comparator.elts
        elif type(op) in _ORDER:
            yield comparator
        else:
            raise _not_allowed(node, line)


def _not_allowed(node: ast.expr, line: str) -> ValueError:
    encoded = line.encode()
    column = len(encoded[: node.col_offset].decode()) + 1
    part = encoded[node.col_offset : node.end_col_offset].decode()
    return ValueError(f"`{part}` at column {column} of `{line}` is not allowed; write {ALLOWED}")


def _evaluate(node: ast.expr, values: Mapping[str, Json]) -> Value:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return constant
        case ast.Name(id=name):
            return _lookup(name, values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(_evaluate(operand, values))
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(_evaluate(operand, values))
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            operands = _number(_evaluate(left, values)), _number(_evaluate(right, values))
            return _bounded(_ARITHMETIC[type(op)](*operands))
        case ast.BoolOp(op=op, values=parts):
            truths = (_truth(_evaluate(part, values)) for part in parts)
            return all(truths) if isinstance(op, ast.And) else any(truths)
        case ast.Compare():
            return _compare(node, values)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name][0](*[_number(_evaluate(item, values)) for item in args])
    raise ValueError(f"{ast.unparse(node)} is not allowed")


def _compare(node: ast.Compare, values: Mapping[str, Json]) -> bool:
    left = _evaluate(node.left, values)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        if isinstance(comparator, ast.Tuple | ast.List):
            members = [_evaluate(item, values) for item in comparator.elts]
            found = any(_alike(left, member) and left == member for member in members)
            return found is isinstance(op, ast.In)
        right = _evaluate(comparator, values)
        if not _alike(left, right):
            raise ValueError(f"{left!r} cannot be compared with {right!r}")
        if not _ORDER[type(op)](left, right):
            return False
        left = right
    return True


def _lookup(name: str, values: Mapping[str, Json]) -> Value:
    if name not in values:
        raise ValueError(f"{name} has no value")
    value = values[name]
    if isinstance(value, str | bool):
        return value
    if is_number(value):
        return _bounded(value)
    raise ValueError(f"{name} is {value!r}, not a number, a text, true or false")


def _alike(left: Value, right: Value) -> bool:
    """True when both are numbers, both texts or both truths."""
    return type(left) is type(right) or (is_number(left) and is_number(right))


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false, as `and`, `or` and `not` need")
    return value


def _number(value: Value) -> Number:
    if not is_number(value):
        raise ValueError(f"{value!r} is not a number")
    return value


def _bounded(number: Number) -> Number:
    if not math.isfinite(number) or abs(number) > _MAX_MAGNITUDE:
        raise ValueError(f"a number goes beyond {_MAX_MAGNITUDE:g}")
    return number
