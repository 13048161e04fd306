"""Which section of the experiment file a place lies in."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel


def section_at(root: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The section that pydantic's `location` leads to, for the list of its keys."""
    found = [root]
    for part in location:
        following = [
            model
            for section in found
            if (field := section.model_fields.get(str(part))) is not None
            for model in _models_in(field.annotation)
        ]
        # A part that is no field is a key of a mapping, an index, or the tag of a union.
        found = following or [model for model in found if _is_of_kind(model, part)] or found
    return found[0] if found else None


def _is_of_kind(section: type[BaseModel], tag: str | int) -> bool:
    kind = section.model_fields.get("kind")
    return kind is not None and tag in get_args(kind.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, dict, list, tuple):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []
