"""Values of the command line that are lists, shares and engine arguments, read and checked."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from orchestrator.spec.refusal import suggestion
from runtimes.errors import UserError
from runtimes.parallel import DEGREES, ParallelLayout
from runtimes.presets import PRECISION_PRESETS
from runtimes.quantization import PRECISIONS, Precision, Quantization

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.what_if_split import Pool
    from runtimes.hardware import Accelerator
    from runtimes.json_types import Json
    from runtimes.node_curves import NodeCurves
    from search.perfmodel.question import Load

_MOST = 10**9
"""Of anything that is counted; more is a mistake."""


def check_curves(curves: Sequence[NodeCurves], accelerators: Iterable[Accelerator]) -> None:
    """Raises: UserError: some of `curves` were measured on none of `accelerators`."""
    from search.perfmodel.efficiency import curves_of

    known = {accelerator.name: accelerator for accelerator in accelerators}
    for each in curves:
        if not any(curves_of(accelerator, [each]) for accelerator in known.values()):
            raise UserError(
                f"--curves: one file was measured on {each.accelerator}, and what is asked runs "
                f"on {', '.join(known) or 'nothing'}; leave it out, or ask about {each.accelerator}"
            )


def names(option: str, text: str) -> list[str]:
    """The names of a comma list, each once.

    Raises:
        UserError: one of them is empty.
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise UserError(f"{option} {text!r}: a name is empty; write a or a,b")
    return list(dict.fromkeys(found))


def whole_number(option: str, text: str, *, most: int = _MOST) -> int:
    """One whole number from 1 to `most`.

    Raises:
        UserError: it is none, or several.
    """
    found = whole_numbers(option, text, most=most)
    if len(found) > 1:
        raise UserError(f"{option} {text!r}: takes one number")
    return found[0]


def whole_numbers(option: str, text: str, *, most: int = _MOST) -> list[int]:
    """The whole numbers, from 1 to `most`, of a comma list.

    Raises:
        UserError: one of them is none.
    """
    found = []
    for part in names(option, text):
        if not (part.isascii() and part.isdigit() and len(part) < 12 and 0 < int(part) <= most):
            top = f" to {most:,}" if most < _MOST else ""
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
    """The numbers above 0, and up to `_MOST`, of a comma list.

    Raises:
        UserError: one of them is none.
    """
    found = [_number(part) for part in names(option, text)]
    for part, value in zip(names(option, text), found, strict=True):
        if not 0 < value <= _MOST:
            raise UserError(
                f"{option} {part!r}: takes numbers above 0 and up to {_MOST:,}, as 0.5,8"
            )
    return found


def share(option: str, text: str, *, below_one: bool = False) -> float:
    """A number from 0 to 1; below 1 where `below_one`.

    Raises:
        UserError: it is none.
    """
    value = _number(text)
    if not 0 <= value <= 1 or (below_one and value == 1):
        most = "below 1" if below_one else "from 0 to 1"
        raise UserError(f"{option} {text!r}: takes a share {most}, as 0.5")
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


def pool(option: str, text: str, accelerator: Callable[[str | None], Accelerator]) -> Pool:
    """A pool of engines as tp=4,replicas=2,accelerator=H200 says it.

    `accelerator` finds the one of a name; of None, that of pools which name none.

    Raises:
        UserError: a part is not NAME=VALUE, of an unknown name or twice, or a value is none.
    """
    from orchestrator.what_if_split import Pool

    keys = [*(degree.replace("_", "-") for degree in DEGREES), "replicas", "accelerator"]
    found: dict[str, str] = {}
    for part in names(option, text):
        key, equals, value = part.partition("=")
        key = key.strip().replace("_", "-")
        if not (equals and value):
            raise UserError(f"{option} {part!r}: write NAME=VALUE,…, as tp=4,replicas=2")
        if key not in keys:
            raise UserError(f"{option} {part!r}: no such part; {suggestion(key, keys)}")
        if key in found:
            raise UserError(f"{option} {part!r}: {key} stands twice; keep one of them")
        found[key] = value.strip()
    name, engines = found.pop("accelerator", None), found.pop("replicas", "1")
    degrees = {
        key.replace("-", "_"): whole_number(f"{option} {key}", value, most=2**20)
        for key, value in found.items()
    }
    return Pool(
        layout=ParallelLayout(**degrees),
        accelerator=accelerator(name),
        engines=whole_number(f"{option} replicas", engines, most=2**20),
    )


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
    hit = share("--prefix-hit", arguments.prefix_hit or "0", below_one=True)
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
