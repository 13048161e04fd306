"""Where an engine is installed, as the experiment file says it."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from orchestrator.spec.base import Section
from orchestrator.spec.refusal import RefusedValueError
from orchestrator.spec.values import ExpandedPath
from runtimes.json_types import Json
from runtimes.plan import Environment

WAYS = "{python: PATH}, {requirements: [vllm==0.33.0]}, {image: NAME} or {label: NAME}"
"""The forms of an environment, for messages."""

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ELSEWHERE = re.compile(r"-(?:r|c|e)\b|--(?:requirement|constraint|editable)\b|[./~]")
_CREDENTIALS = re.compile(r"(?<!ssh)://(?P<given>[^\s/]+)@")


def _requirement(value: str) -> str:
    if not value.strip() or "\n" in value:
        raise RefusedValueError("is no requirement", "write one line that pip takes: vllm==0.33.0")
    if _ELSEWHERE.match(value.strip()):
        raise RefusedValueError(
            "leads to files whose content an environment cannot be told apart by",
            "write the requirements themselves; folders of wheels stand under `wheels`",
        )
    credentials = _CREDENTIALS.search(value)
    if credentials is not None and "${" not in credentials["given"]:
        raise RefusedValueError(
            "holds credentials, which would be recorded with the experiment",
            "write ${NAME} in their place; pip fills it in from the environment",
        )
    return value.strip()


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise RefusedValueError(
            "is no label of a node", "use letters, digits, '.', '_', '-', at most 63"
        )
    return value


def _image(value: str) -> str:
    if not value or value.startswith("-") or any(character.isspace() for character in value):
        raise RefusedValueError("is no name of an image", "write REPOSITORY:TAG")
    return value


Requirement: TypeAlias = Annotated[str, AfterValidator(_requirement)]


class EnvironmentSpec(Section):
    """Where the engine's interpreter comes from; without it, its command is taken from PATH.

    One of `image`, `requirements`, `python` and PATH, in this order of precedence; `label` says on
    which nodes, and stands beside any of them.
    """

    python: ExpandedPath | None = None
    requirements: Annotated[list[Requirement], Field(min_length=1)] | None = None
    overrides: list[Requirement] = []
    wheels: list[ExpandedPath] = []
    image: Annotated[str, AfterValidator(_image)] | None = None
    container: Literal["docker", "podman"] | None = None
    label: Annotated[str, AfterValidator(_label)] | None = None
    version: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> EnvironmentSpec:
        inside = [name for name in ("python", "requirements") if getattr(self, name) is not None]
        if self.image is not None and inside:
            raise RefusedValueError(
                f"names both an `image` and `{inside[0]}`", "keep one of the two"
            )
        for name, owner in (("overrides", "requirements"), ("wheels", "requirements"),
                            ("container", "image")):  # fmt: skip
            if getattr(self, name) and getattr(self, owner) is None:
                raise RefusedValueError(
                    f"`{name}` belongs to `{owner}`", f"add `{owner}`, or remove `{name}`"
                )
        if not self.model_fields_set:
            raise RefusedValueError("does not say where the engine is", f"write {WAYS}")
        return self

    def environment(self) -> Environment:
        """The same, as plans carry it."""
        return Environment(
            python=self.python,
            requirements=tuple(self.requirements or ()),
            image=self.image,
            label=self.label,
            overrides=tuple(self.overrides),
            wheels=tuple(self.wheels),
            container=self.container or "docker",
            version=self.version,
        )

    def as_json(self) -> dict[str, Json]:
        """The section as a file says it."""
        given = self.model_dump(exclude_none=True)
        return {name: value for name, value in given.items() if value != []}


def environment_of(section: EnvironmentSpec | None) -> Environment:
    """The environment of an engine's section; its command on PATH where it names none."""
    return Environment() if section is None else section.environment()
