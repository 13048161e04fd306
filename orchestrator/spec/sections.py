"""Which section of the experiment file a place lies in."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def section_at(root: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The section that pydantic's `location` leads to, for the list of its keys."""
    found = [root]
    for part in location:
        tagged = [model for model in found if _is_of_kind(model, part)]
        if len(found) > 1 and tagged:  # a tag may have the name of a key: {kind: stages, stages: …}
            found = tagged
            continue
        following = [
            model
            for section in found
            if (field := _field(section, part)) is not None
            for model in _models_in(field.annotation)
        ]
        # A part that is no field is a key of a mapping, or an index.
        found = following or found
    return found[0] if found else None


def keys_of(section: type[BaseModel]) -> list[str]:
    """The section's keys, as a file says them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _field(section: type[BaseModel], key: str | int) -> FieldInfo | None:
    fields = section.model_fields.items()
    return next((field for name, field in fields if (field.alias or name) == key), None)


def _is_of_kind(section: type[BaseModel], tag: str | int) -> bool:
    kind = section.model_fields.get("kind")
    return kind is not None and tag in get_args(kind.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, dict, list, tuple):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []
