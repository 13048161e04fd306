"""A workload that raises where nobody expects it; other processes can import it from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from runtimes.json_types import Json
from runtimes.workloads.base import Prompt, Workload, WorkloadContext


@dataclass(frozen=True)
class BrokenWorkload(Workload):
    """Raises when it is asked for prompts."""

    name: ClassVar[str] = "broken"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Json], context: WorkloadContext) -> Workload:
        return cls()

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        raise RuntimeError("no prompts today")

    @property
    def max_context(self) -> int:
        return 1


def refuse() -> NoReturn:
    raise RuntimeError("cannot be unpacked here")


@dataclass(frozen=True)
class UnpackableWorkload(BrokenWorkload):
    """Pickles well and cannot be unpickled, as a class that a node does not have."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return (refuse, ())

    def prompts(self, stage: str, count: int) -> list[Prompt]:
        refuse()
