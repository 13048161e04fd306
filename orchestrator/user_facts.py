"""A user's own accelerators and models: read from YAML, checked, found before the built-in ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.spec.refusal import suggestion
from orchestrator.spec.user_facts import AcceleratorSpec, ModelShapeSpec, read_user_facts
from runtimes.errors import Problem, SpecError, UnknownNameError, UserError
from runtimes.hardware import ACCELERATORS, Accelerator, find_accelerator
from runtimes.model import LinearShape, MlaShape, ModelFacts, closest_model, find_model, read_config
from runtimes.quantization import CheckpointQuantization

T = TypeVar("T")


def load_hardware_yaml(path: str | Path) -> dict[str, Accelerator]:
    """The accelerators of a file, by the names it gives them.

    Raises:
        SpecError: the file cannot be read, names no accelerator, or holds problems: all are named.
    """
    spec = read_user_facts(Path(path), "accelerators", "my-gpu: {like: H100, memory_bytes: 80e9}")
    return {name: _accelerator(name, entry, str(path)) for name, entry in spec.accelerators.items()}


def load_models_yaml(path: str | Path) -> dict[str, ModelFacts]:
    """The models of a file, by the names it gives them.

    Paths of `config` count from the folder of the file.

    Raises:
        SpecError: the file cannot be read, names no model, or holds problems: all are named.
    """
    file = Path(path)
    spec = read_user_facts(file, "models", "my-model: {config: my-model/config.json}")
    found: dict[str, ModelFacts] = {}
    problems: list[Problem] = []
    for name, entry in spec.models.items():
        try:
            facts = _model(name, entry, file)
        except UserError as error:
            key = "config" if entry.config is not None else "like"
            problems.append(Problem(f"models.{name}.{key}", str(error)))
            continue
        found[name] = facts
        problems += (replace(each, path=f"models.{name}.{each.path}") for each in _odd(facts))
    if problems:
        raise SpecError(str(path), problems)
    return found


def hardware_of(paths: Iterable[str | Path]) -> dict[str, Accelerator]:
    """The accelerators of several files; of two with one name, the later one.

    Raises:
        SpecError: as `load_hardware_yaml`.
    """
    return {name: each for path in paths for name, each in load_hardware_yaml(path).items()}


def accelerator_called(name: str, own: Mapping[str, Accelerator]) -> Accelerator:
    """The one of `own` called `name`, or else the one servetune knows.

    Raises:
        UnknownNameError: there is neither; the message lists both kinds.
    """
    lowered = {known.lower(): accelerator for known, accelerator in own.items()}
    if (found := lowered.get(name.lower())) is not None:
        return found
    try:
        return find_accelerator(name)
    except UnknownNameError:
        known = suggestion(name, list({**own, **ACCELERATORS}))
        raise UnknownNameError(
            f"unknown accelerator {name!r}; {known}; or describe it in a file for --hardware"
        ) from None


def model_called(name: str, own: Mapping[str, ModelFacts]) -> ModelFacts:
    """The one of `own` called `name`, or else what `find_model` finds.

    Raises:
        UserError: nothing is known of it, or its folder cannot be read.
    """
    found = own.get(name) or find_model(name)
    if found is None:
        here = f" of {', '.join(own)}," if own else ""
        close = closest_model(name)
        meant = f"did you mean {close!r}? Or " if close else ""
        raise UserError(
            f"nothing is known of the model {name!r}; {meant}name one{here} of the catalogue, a "
            "folder with its config.json, or describe it in a file for --models"
        )
    return found


def _accelerator(name: str, entry: AcceleratorSpec, path: str) -> Accelerator:
    values = {"name": name, "id": name, "source": path, **entry.given()}
    if isinstance(values.get("capability"), list):
        values["capability"] = tuple(values["capability"])
    if entry.like is None:
        return Accelerator(**values)
    return replace(ACCELERATORS[entry.like], **values)


def _model(name: str, entry: ModelShapeSpec, file: Path) -> ModelFacts:
    """Raises: UserError: what it starts from is not known or cannot be read."""
    values = {"source": str(file), **entry.given(), "name": name}
    values.pop("config", None)
    values.update(_part(values, "mla", MlaShape) | _part(values, "linear", LinearShape))
    values.update(_part(values, "quantization", CheckpointQuantization))
    if isinstance(values.get("quantization"), CheckpointQuantization):
        values["quantization"] = replace(values["quantization"], source=str(file))
    known: ModelFacts | None = None
    if entry.config is not None:
        path = (file.parent / Path(entry.config).expanduser()).resolve()
        known = (
            find_model(str(path)) if path.is_dir() or path.suffix == ".gguf" else read_config(path)
        )
        if known is None:
            raise UserError(f"{path}: its shape cannot be read; write the keys of its shape here")
    elif entry.like is not None:
        known = find_model(entry.like)
        if known is None:
            raise UserError(f"nothing is known of the model {entry.like!r}")
    return ModelFacts(**values) if known is None else replace(known, **values)


def _part(values: Mapping[str, Any], key: str, made_of: Callable[..., T]) -> dict[str, T]:
    """`key` as our own value instead of a mapping; nothing where it is not given."""
    found = values.get(key)
    return {key: made_of(**found)} if isinstance(found, Mapping) else {}


def _odd(model: ModelFacts) -> Iterator[Problem]:
    """What of a shape contradicts itself."""
    limits = (
        ("dense_layers", "layers"),
        ("windowed_layers", "layers"),
        ("linear_layers", "layers"),
        ("experts_per_token", "experts"),
        ("kv_heads", "heads"),
    )
    for key, most in limits:
        value, limit = getattr(model, key), getattr(model, most)
        if value > limit:
            yield Problem(key, f"is more than {most}", str(value), f"at most {limit}")
    if model.heads % model.kv_heads:
        rule = f"does not divide heads, which are {model.heads}"
        yield Problem("kv_heads", rule, str(model.kv_heads), "write the heads of keys and values")
    if model.linear_layers and model.linear is None:
        rule = "is missing, and linear_layers are not 0"
        yield Problem("linear", rule, None, "write its key_heads, value_heads and widths")
    wanted = ["experts_per_token", "moe_intermediate"] if model.experts else []
    wanted += ["sliding_window"] if model.windowed_layers else []
    wanted += ["intermediate"] if model.moe_layers < model.layers else []
    for key in wanted:
        if getattr(model, key) == 0:
            yield Problem(key, "is 0, and the layers that use it are not", "0", "write its width")
