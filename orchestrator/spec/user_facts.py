"""A file of a user's own facts: accelerators and models, under the names of our own fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from orchestrator.spec.bounds import out_of_bounds
from orchestrator.spec.problems import problems_of
from orchestrator.spec.refusal import RefusedValueError, closest, suggestion
from orchestrator.spec.values import Count, Natural
from orchestrator.spec.yaml_file import read_mapping
from runtimes.errors import Problem, SpecError, UnknownNameError
from runtimes.hardware import ACCELERATORS, Vendor, find_accelerator
from runtimes.json_types import Json
from runtimes.quantization import Precision

_ACCELERATOR_NEEDS = (
    "vendor", "memory_bytes", "bf16_flops", "memory_bytes_per_s", "link_bytes_per_s",
)  # fmt: skip
_MODEL_NEEDS = (
    "layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab",
)  # fmt: skip
_MAY_BE_NULL = frozenset({
    "fp8_flops", "fp4_flops", "int8_ops", "power_w", "capability", "mla", "linear", "quantization",
})  # fmt: skip
"""Keys whose null says that there is none, and not that nothing is said."""
_NUMBER = "write it in the unit that the key names, as 989e12"


def _figure(value: object) -> object:
    """A number; YAML reads `989e12` as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise RefusedValueError("takes a number", _NUMBER) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedValueError("takes a number", _NUMBER)
    if not (value > 0 and math.isfinite(value)):
        raise RefusedValueError("must be finite and above 0", _NUMBER)
    return value


def _whole(value: object) -> object:
    figure = _figure(value)
    if isinstance(figure, float):
        if not figure.is_integer():
            raise RefusedValueError("takes a whole number of bytes", "write it as 85520809984")
        return int(figure)
    return figure


def _known_accelerator(name: str) -> str:
    try:
        return find_accelerator(name).name
    except UnknownNameError:
        words = suggestion(name, list(ACCELERATORS))
        raise RefusedValueError("is no accelerator that servetune knows", words) from None


def _between(least: float, most: float, unit: str, example: str) -> Callable[[float], float]:
    """A check that a figure can be what it says it is: one in another unit lies far outside."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise RefusedValueError(f"must lie between {least:g} and {most:g} {unit}", example)
        return value

    return check


Bytes: TypeAlias = Annotated[int, BeforeValidator(_whole)]
MemoryBytes: TypeAlias = Annotated[
    Bytes, AfterValidator(_between(1e9, 1e14, "bytes", "write bytes: an H100 has 85520809984"))
]
_Figure: TypeAlias = Annotated[float, BeforeValidator(_figure)]
Flops: TypeAlias = Annotated[
    _Figure,
    AfterValidator(
        _between(1e8, 1e19, "operations per second", "write FLOP/s: an H100 has 989e12 in bf16")
    ),
]
MemoryRate: TypeAlias = Annotated[
    _Figure,
    AfterValidator(
        _between(1e8, 1e15, "bytes per second", "write bytes per second: an H100 has 3.35e12")
    ),
]
LinkRate: TypeAlias = Annotated[
    _Figure,
    AfterValidator(
        _between(
            1e7,
            1e15,
            "bytes per second",
            "write bytes per second in one direction: an H100 has 450e9 of NVLink",
        )
    ),
]
Watts: TypeAlias = Annotated[
    _Figure, AfterValidator(_between(1, 1e5, "watts", "write watts: an H100 takes 700"))
]


class FactsSection(BaseModel):
    """Base of every section of the file: closed, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(FactsSection):
    """An entry that may start from something known and say only what differs."""

    def given(self) -> dict[str, Any]:
        """What it says by itself, null where it says that there is none; `like` left out."""
        said = self.model_dump(exclude_unset=True, exclude={"like"})
        return {
            key: value for key, value in said.items() if value is not None or key in _MAY_BE_NULL
        }


class AcceleratorSpec(Entry):
    """One accelerator; what it does not say is that of the one it is `like`."""

    like: str | None = None
    id: str | None = None
    vendor: Vendor | None = None
    memory_bytes: MemoryBytes | None = None
    bf16_flops: Flops | None = None
    fp8_flops: Flops | None = None
    fp4_flops: Flops | None = None
    int8_ops: Flops | None = None
    memory_bytes_per_s: MemoryRate | None = None
    link_bytes_per_s: LinkRate | None = None
    link: str | None = None
    scale_up: Count | None = None
    network_bytes_per_s: LinkRate | None = None
    power_w: Watts | None = None
    capability: Annotated[list[Natural], Field(min_length=2, max_length=2)] | None = None
    source: str | None = None

    @field_validator("like")
    @classmethod
    def _like(cls, name: str | None) -> str | None:
        return None if name is None else _known_accelerator(name)

    @field_validator("capability", mode="before")
    @classmethod
    def _capability(cls, value: object) -> object:
        """`9.0` is what NVIDIA's tables say, and a number to YAML."""
        if isinstance(value, float | str):
            major, _, minor = str(value).partition(".")
            if major.isdigit() and minor.isdigit():
                return [int(major), int(minor)]
        if value is None or (isinstance(value, list) and len(value) == 2):
            return value
        raise RefusedValueError("is no compute capability", "write it as 9.0")


class MlaSpec(FactsSection):
    """Widths of multi-head latent attention."""

    q_lora: Natural
    kv_lora: Count
    nope: Count
    rope: Natural
    value: Count


class LinearSpec(FactsSection):
    """Widths of a gated delta rule."""

    key_heads: Count
    value_heads: Count
    key_dim: Count
    value_dim: Count
    kernel: Count = 4


class CheckpointSpec(FactsSection):
    """What a checkpoint is quantised with."""

    method: Annotated[str, Field(min_length=1)]
    weights: Precision | None = None
    kv_cache: Precision | None = None
    experts_only: bool = False


class ModelShapeSpec(Entry):
    """One model: read from its `config`, `like` a known one, or by its shape alone."""

    config: str | None = None
    like: str | None = None
    layers: Count | None = None
    hidden: Count | None = None
    heads: Count | None = None
    kv_heads: Count | None = None
    head_dim: Count | None = None
    intermediate: Natural | None = None
    vocab: Count | None = None
    max_context: Natural | None = None
    tied: bool | None = None
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    experts: Natural | None = None
    experts_per_token: Natural | None = None
    shared_experts: Natural | None = None
    moe_intermediate: Natural | None = None
    dense_layers: Natural | None = None
    mla: MlaSpec | None = None
    sliding_window: Natural | None = None
    windowed_layers: Natural | None = None
    linear_layers: Natural | None = None
    linear: LinearSpec | None = None
    mtp_layers: Natural | None = None
    multimodal: bool | None = None
    architecture: str | None = None
    quantization: CheckpointSpec | None = None
    output_gate: bool | None = None
    gated_mlp: bool | None = None
    checkpoint_bytes: Bytes | None = None
    source: str | None = None


class UserFactsSpec(FactsSection):
    """A whole file; either part may stand alone."""

    accelerators: dict[str, AcceleratorSpec] = {}
    models: dict[str, ModelShapeSpec] = {}


def read_user_facts(path: Path, part: str, example: str) -> UserFactsSpec:
    """The file, in which `part` may not be absent.

    Args:
        path: the file.
        part: `accelerators` or `models`.
        example: an entry of that part, for the message where it is absent.

    Raises:
        SpecError: it cannot be read or holds problems; all of them are named.
    """
    data = read_mapping(path, example=f"{part}:", kind=f"a file of {part}")
    problems = out_of_bounds(data)
    if problems:
        raise SpecError(str(path), problems)
    if not data.get(part):
        problems.append(Problem(part, "the file names none", remedy=f"write {part}: {{{example}}}"))
    spec = UserFactsSpec()
    try:
        spec = UserFactsSpec.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, UserFactsSpec, data)
    problems += _missing(data)
    problems += _unusable_names(data)
    if problems:
        raise SpecError(str(path), _once(problems))
    return spec


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """One problem a place: an empty section lacks every key as well."""
    return list({problem.path: problem for problem in reversed(problems)}.values())[::-1]


def _unusable_names(data: Mapping[str, Json]) -> Iterator[Problem]:
    """Names that no list can hold, or that stand for two entries: case does not count in names."""
    for part in ("accelerators", "models"):
        entries = data.get(part)
        first: dict[str, str] = {}
        for name in map(str, entries) if isinstance(entries, dict) else ():
            where = f"{part}.{name}"
            if not name.strip() or "," in name:
                rule = "a name is not empty and holds no comma"
                yield Problem(where, rule, repr(name), "give it another name")
            other = first.setdefault(name.lower(), name)
            if other != name:
                rule = f"differs from {other!r} only in upper and lower case"
                yield Problem(where, rule, None, "keep one of them, or name it otherwise")


def _missing(data: Mapping[str, Json]) -> Iterator[Problem]:
    """Keys that an entry lacks which starts from nothing known."""
    for part, section, bases, needed in (
        ("accelerators", AcceleratorSpec, ("like",), _ACCELERATOR_NEEDS),
        ("models", ModelShapeSpec, ("config", "like"), _MODEL_NEEDS),
    ):
        entries = data.get(part)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if not isinstance(entry, dict):
                continue
            where = f"{part}.{name}"
            given = [base for base in bases if entry.get(base) is not None]
            if len(given) > 1:
                rule = "`config` and `like` both say what the model starts from"
                yield Problem(where, rule, remedy="keep one of them")
            misspelt = [key for key in map(str, entry) if key not in section.model_fields]
            for key in needed if not given else ():
                if entry.get(key) is None and closest(key, misspelt) is None:
                    remedy = f"add it, or name what is known and alike with `{bases[-1]}`"
                    yield Problem(
                        f"{where}.{key}", "this key is required and missing", None, remedy
                    )
