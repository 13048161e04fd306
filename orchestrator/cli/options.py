"""Values of the command line that are lists, shares and engine arguments, read and checked."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from orchestrator.spec.refusal import suggestion
from runtimes.errors import UserError
from runtimes.parallel import ParallelLayout
from runtimes.presets import PRECISION_PRESETS
from runtimes.quantization import PRECISIONS, Precision, Quantization

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from runtimes.json_types import Json
    from search.perfmodel.question import Load


def names(option: str, text: str) -> list[str]:
    """The names of a comma list, each once.

    Raises:
        UserError: one of them is empty.
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise UserError(f"{option} {text!r}: a name is empty; write a or a,b")
    return list(dict.fromkeys(found))


def whole_number(option: str, text: str, *, most: int = 10**9) -> int:
    """One whole number from 1 to `most`.

    Raises:
        UserError: it is none, or several.
    """
    found = whole_numbers(option, text, most=most)
    if len(found) > 1:
        raise UserError(f"{option} {text!r}: takes one number")
    return found[0]


def whole_numbers(option: str, text: str, *, most: int = 10**9) -> list[int]:
    """The whole numbers, from 1 to `most`, of a comma list.

    Raises:
        UserError: one of them is none.
    """
    found = []
    for part in names(option, text):
        if not (part.isascii() and part.isdigit() and len(part) < 12 and 0 < int(part) <= most):
            top = f" to {most:,}" if most < 10**9 else ""
            raise UserError(f"{option} {part!r}: takes whole numbers from 1{top}, as 1,2,4")
        found.append(int(part))
    return found


def port(option: str, text: str) -> int:
    """A port number; 0 for any that is free.

    Raises:
        UserError: it is none.
    """
    return 0 if text == "0" else whole_number(option, text, most=65535)


def amounts(option: str, text: str) -> list[float]:
    """The numbers above 0 of a comma list.

    Raises:
        UserError: one of them is none.
    """
    found = [_number(part) for part in names(option, text)]
    for part, value in zip(names(option, text), found, strict=True):
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"{option} {part!r}: takes numbers above 0, as 0.5,8")
    return found


def share(option: str, text: str, *, below: float | None = None) -> float:
    """A number from 0 to 1, or below `below`.

    Raises:
        UserError: it is none.
    """
    value = _number(text)
    if not 0 <= value <= 1 or (below is not None and value >= below):
        raise UserError(f"{option} {text!r}: takes a share of 1, as 0.5")
    return value


def layouts(degrees: Mapping[str, str | None]) -> list[ParallelLayout]:
    """Every combination of the degrees given, by option.

    Raises:
        UserError: a degree is no whole number.
    """
    given = {
        option.removeprefix("--").replace("-", "_"): whole_numbers(option, text, most=2**20)
        for option, text in degrees.items()
        if text is not None
    }
    return [
        ParallelLayout(**dict(zip(given, values, strict=True)))
        for values in product(*given.values())
    ]


def precisions(presets: str | None, parts: Mapping[str, str | None]) -> list[str | Quantization]:
    """The presets, or the one precision that its parts name.

    Raises:
        UserError: there is no such preset or format, or both are given.
    """
    given: dict[str, Precision] = {}
    for part, text in parts.items():
        if text is None:
            continue
        option = "--" + part.replace("_", "-")
        found = next((known for known in PRECISIONS if known == text), None)
        if found is None:
            raise UserError(f"{option} {text!r}: no such format; {suggestion(text, PRECISIONS)}")
        if presets is not None:
            raise UserError(f"{option} and --quantization both name a precision; give one of them")
        given[part] = found
    if presets is None:
        return [Quantization(**given)] if given else ["default"]
    wanted = names("--quantization", presets)
    for name in wanted:
        if name not in PRECISION_PRESETS:
            known = suggestion(name, list(PRECISION_PRESETS))
            raise UserError(f"--quantization {name!r}: no such preset; {known}")
    return list(wanted)


def engine_arguments(given: Sequence[str]) -> dict[str, Json]:
    """Arguments by long name; a value that is JSON is what it says, and any other is text.

    Raises:
        UserError: one is not NAME=VALUE, or stands twice.
    """
    from orchestrator.spec.values import argument_name

    found: dict[str, Json] = {}
    for text in given:
        written, equals, value = text.partition("=")
        if not (written and equals):
            raise UserError(f"--arg {text!r}: write NAME=VALUE, as max-num-seqs=512")
        try:
            name = argument_name(written)
        except ValueError as error:
            raise UserError(f"--arg {text!r}: {error}") from None
        if name in found:
            raise UserError(f"--arg {name}: stands twice; keep one of them")
        found[name] = _json(value)
    return found


def loads(arguments: argparse.Namespace, usual_concurrency: str) -> list[Load]:
    """The loads that `predict`'s options describe.

    Raises:
        UserError: a value is none.
    """
    from search.perfmodel.question import Load

    inputs = whole_number("--input-tokens", arguments.input_tokens or "1024")
    outputs = whole_number("--output-tokens", arguments.output_tokens or "256")
    hit = share("--prefix-hit", arguments.prefix_hit or "0", below=1)
    base = Load(input_tokens=inputs, output_tokens=outputs, prefix_hit=hit, saturated=True)
    if arguments.saturated:
        return [base]
    if arguments.rate is not None:
        rates = amounts("--rate", arguments.rate)
        return [replace(base, saturated=False, request_rate=rate) for rate in rates]
    running = whole_numbers("--concurrency", arguments.concurrency or usual_concurrency)
    return [replace(base, saturated=False, concurrency=value) for value in running]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _json(text: str) -> Json:
    try:
        return json.loads(text, parse_constant=_no_constant)  # type: ignore[no-any-return]  # JSON
    except (ValueError, RecursionError):
        return text


def _no_constant(word: str) -> None:
    """`NaN` and `Infinity`, which JSON does not have, are text."""
    raise ValueError(word)
