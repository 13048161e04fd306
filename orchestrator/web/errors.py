"""How the API says no: one shape for every error, with path, value and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_origin

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.spec.problems import Location, dotted
from orchestrator.spec.refusal import closest, suggestion
from orchestrator.spec.sections import keys_of, section_at
from runtimes.errors import Problem, UserError

_MOST_PROBLEMS = 50
_MOST_SHOWN = 120
"""Characters of a value or a key that an answer repeats."""

_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "less_than_equal": ("must be at most", "le"),
    "string_too_long": ("must not be longer than", "max_length"),
    "too_long": ("must not hold more entries than", "max_length"),
}
_WRONG_TYPE = {
    "int_type": "takes a whole number",
    "string_type": "takes text",
    "list_type": "takes a list",
    "model_type": "takes an object",
    "model_attributes_type": "takes an object",
    "dict_type": "takes an object",
    "string_too_short": "must not be empty",
    "string_unicode": "holds half of a character, as \\ud83d without what belongs to it",
    "too_short": "must not be empty",
}
_OBJECT = ("model_type", "model_attributes_type", "dict_type")
_ANYTHING_ELSE = "GET /openapi.json describes every field"

Detail = Mapping[str, Any]
"""One of the errors that pydantic lists."""


class ProblemBody(BaseModel):
    """One thing wrong in a request."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    path: str = Field(
        description="where, as `decode_req.layer_configs[3].tp_degree`; empty for the whole request"
    )
    message: str = Field(description="the rule that is broken")
    value: str | None = Field(
        description="what stood there, shortened; null when nothing stood there"
    )
    remedy: str = Field(description="what to send instead")


class ErrorBody(BaseModel):
    """Why a request is not answered: everything found wrong in it."""

    model_config = ConfigDict(extra="forbid")

    errors: list[ProblemBody] = Field(description="what was found, 50 at most")


class RefusedRequestError(UserError):
    """A request that cannot be answered.

    Attributes:
        problems: what is wrong with it.
        status: of the HTTP answer.
        headers: of the HTTP answer.
    """

    def __init__(
        self, *problems: Problem, status: int = 422, headers: Mapping[str, str] | None = None
    ) -> None:
        self.problems = problems
        self.status = status
        self.headers = headers
        super().__init__("; ".join(map(str, problems)))


def body_of(problems: Sequence[Problem]) -> list[ProblemBody]:
    """`problems` as answers hold them."""
    return [ProblemBody.model_validate(problem) for problem in problems[:_MOST_PROBLEMS]]


def refusal(error: RefusedRequestError) -> JSONResponse:
    """The answer that says so."""
    content = ErrorBody(errors=body_of(error.problems)).model_dump()
    headers = dict(error.headers or {})
    return JSONResponse(content, status_code=error.status, headers=headers)


def validation_problems(details: Sequence[Detail], root: type[BaseModel]) -> list[Problem]:
    """What pydantic found in a request whose body, or query, is a `root`.

    A field that is missing is not reported where a misspelt one beside it stands for it.
    """
    shortened = [(tuple(detail["loc"][1:]), detail) for detail in details[:_MOST_PROBLEMS]]
    meant = {
        (*location[:-1], closest(clipped(str(location[-1])), keys_of(_section(root, location))))
        for location, detail in shortened
        if detail["type"] == "extra_forbidden"
    }
    return [
        _problem(detail, location, _section(root, location))
        for location, detail in shortened
        if detail["type"] != "missing" or location not in meant
    ]


def _section(root: type[BaseModel], location: Location) -> type[BaseModel]:
    return section_at(root, location[:-1]) or root


def _problem(detail: Detail, location: Location, section: type[BaseModel]) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    path = dotted([clipped(part) if isinstance(part, str) else part for part in location])
    if not location:
        rule = "the body is missing" if kind == "missing" else _WRONG_TYPE.get(kind, "is no object")
        return Problem("", rule, shown(detail["input"]), "send a JSON object")
    if kind == "missing":
        what = _description(section, location)
        return Problem(path, "is required and missing", remedy=f"add it: {what}")
    if kind == "extra_forbidden":
        known = suggestion(clipped(str(location[-1])), keys_of(section))
        return Problem(path, "unknown field", shown(detail["input"]), known)
    if kind == "literal_error":
        return Problem(path, "unknown value", shown(detail["input"]), f"use {context['expected']}")
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        remedy = _range(section, location)
        return Problem(path, f"{words} {context[limit]:,}", shown(detail["input"]), remedy)
    rule = _WRONG_TYPE.get(kind) or str(detail["msg"])
    remedy = _description(section, location) or _ANYTHING_ELSE
    if kind in _OBJECT:
        inside = section_at(section, location[-1:]) or section
        remedy = f"send an object with {', '.join(keys_of(inside))}"
    return Problem(path, rule, shown(detail["input"]), remedy)


def _description(section: type[BaseModel], location: Sequence[str | int]) -> str:
    for name, field in section.model_fields.items():
        if (field.alias or name) == location[-1]:
            return field.description or ""
    return ""


def _range(section: type[BaseModel], location: Sequence[str | int]) -> str:
    """Which values, or how many entries or characters, the field takes."""
    for name, field in section.model_fields.items():
        if (field.alias or name) != location[-1]:
            continue
        limits = {
            key: getattr(limit, key)
            for limit in field.metadata
            for key in ("ge", "le", "min_length", "max_length")
            if hasattr(limit, key)
        }
        if "le" in limits:
            return f"send {limits['ge']:,} to {limits['le']:,}"
        unit = "entries" if get_origin(field.annotation) is list else "characters"
        return f"send {limits['min_length']:,} to {limits['max_length']:,} {unit}"
    return _ANYTHING_ELSE


def shown(value: object) -> str:
    """`value` as an answer repeats it."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def clipped(key: str) -> str:
    """A key as a path may hold it: printable and short."""
    return shown(key)[1:-1] if len(key) <= _MOST_SHOWN else f"{shown(key)[1:-1]}…"
