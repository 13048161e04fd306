"""What another load generator measured, in our terms, and the formats it can be read from."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from runtimes.errors import UserError
from runtimes.json_types import Json
from runtimes.measurement import Measurement, RequestRecord
from runtimes.peers.fields import Fields, WrongFieldError
from runtimes.registry import Registry


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One load that another tool ran.

    Attributes:
        tool: name of the format it was read from.
        load, load_value: as `Load.kind` and `Load.value` of ours.
        measurement: figures whose definition is ours; None stands for what the tool defines
            otherwise or does not say. No SLO is judged.
        records: its requests, empty where the file does not have every one of them. Their clock
            is the tool's own.
        gpus: GPUs behind the server; None where the file does not say.
        facts: what else it says of the server and of itself, by name.
    """

    tool: str
    model: str
    load: str
    load_value: float
    started_unix_s: float
    ended_unix_s: float
    measurement: Measurement
    records: tuple[RequestRecord, ...] = field(default=(), repr=False)
    gpus: int | None = None
    gpu_model: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class ResultFormat(ABC):
    """A kind of JSON document that results come in. Pure.

    Attributes:
        name: of the tool, as users write it.
        keys: top-level keys that every document of the kind has, and no other kind has all of.
    """

    name: ClassVar[str]
    keys: ClassVar[frozenset[str]]

    @abstractmethod
    def read(self, document: Fields) -> list[PeerResult]:
        """The results in `document`, which has all of `keys`.

        Raises:
            WrongFieldError: it is broken.
        """


RESULT_FORMATS: Registry[type[ResultFormat]] = Registry(
    "result format", package="runtimes.peers.formats", group="servetune.result_formats"
)
"""Every format by the tool's name."""


def read_results(path: Path) -> list[PeerResult]:
    """The results in the file, which holds one JSON document, or one a line.

    Raises:
        UserError: it cannot be read, is of no known tool, or is broken; nothing is guessed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from None
    found = []
    for document in _documents(path, text):
        result_format = _format_of(path, document)
        try:
            found += result_format().read(Fields(document))
        except WrongFieldError as error:
            raise UserError(f"{path}: a result of {result_format.name}, but {error}") from None
    if not found:
        raise UserError(f"{path}: holds no result: its list of benchmarks is empty")
    return found


def _documents(path: Path, text: str) -> list[dict[str, Json]]:
    try:
        documents = _parsed(text)
    except ValueError as error:
        raise UserError(f"{path}: is no JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply to be the result of any tool") from None
    for document in documents:
        if not isinstance(document, dict):
            raise UserError(f"{path}: must hold a JSON object, got {type(document).__name__}")
    if not documents:
        raise UserError(f"{path}: is empty")
    return documents


def _parsed(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except ValueError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise error from None


def _format_of(path: Path, document: Mapping[str, Json]) -> type[ResultFormat]:
    known = [RESULT_FORMATS.get(name) for name in RESULT_FORMATS.names()]
    for result_format in known:
        if result_format.keys <= document.keys():
            return result_format
    looked_for = "; ".join(f"{kind.name}: {', '.join(sorted(kind.keys))}" for kind in known)
    has = ", ".join(list(document)[:8]) or "none"
    raise UserError(
        f"{path}: is the result of no known tool. Keys that were looked for: {looked_for}. "
        f"It has: {has}"
    )
