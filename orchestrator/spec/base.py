"""What every section of the experiment file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every section: closed, frozen, strict about what a number is."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
