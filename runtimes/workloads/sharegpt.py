"""Requests as people sent them to a chat: recorded lengths, or the texts themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Spelling, alphabet_for
from runtimes.workloads.base import WORKLOADS, Prompt, WorkloadContext
from runtimes.workloads.files import (
    columns,
    csv_rows,
    existing_file,
    first_line,
    named,
    pack,
    read_once,
    token_count,
    unpack,
)
from runtimes.workloads.recorded import BOUNDS, Bounds, RecordedWorkload, Recording
from runtimes.workloads.segments import Maker, roots
from runtimes.workloads.settings import COMMON, Settings
from runtimes.workloads.trace_files import Row
from runtimes.workloads.transcripts import SampledTexts, Transcripts

_COLUMNS = ("input_length", "output_length")


@dataclass(frozen=True, slots=True)
class SampledLengths(Recording):
    """Rows of a length file, drawn with replacement: input and output of one row go together.

    Attributes:
        inputs, outputs: lengths of each row, packed (`files.pack`).
        left_out, longest: as in `Recording`.
    """

    inputs: bytes = field(repr=False)
    outputs: bytes = field(repr=False)
    left_out: int
    longest: int

    @property
    def taken(self) -> int:
        return len(unpack(self.inputs))

    def prompts(self, maker: Maker, count: int) -> list[Prompt]:
        inputs, outputs = unpack(self.inputs), unpack(self.outputs)
        rows = maker.randoms(1)[0].integers(0, len(inputs), count)
        made = maker.numbers(maker.fitted(roots(inputs[rows])))
        return [
            Prompt(ids, output, messages=messages)
            for (ids, messages), output in zip(
                map(Spelling(maker.alphabet).content, made), outputs[rows].tolist(), strict=True
            )
        ]


@WORKLOADS.register("sharegpt")
@dataclass(frozen=True, slots=True)
class SharegptWorkload(RecordedWorkload):
    """Requests drawn from a file, without end.

    Of a CSV file of lengths the tokens are made up; of a JSON file of conversations they are those
    of the first question, after a few words that make it different, and the answer's length is
    that of the recorded one.
    """

    name: ClassVar[str] = "sharegpt"
    required: ClassVar[tuple[str, ...]] = ("file",)
    defaults: ClassVar[Mapping[str, Json]] = {"from": 0, **BOUNDS, **COMMON}

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Json], context: WorkloadContext
    ) -> SharegptWorkload:
        """Read the file, and which of its rows or conversations are taken."""
        given = Settings(cls, settings)
        path = existing_file("file", given["file"])
        bounds = Bounds.read(given)
        skipped = given.count("from", least=0)
        skip_special_ids = given.flag("skip_special_ids")
        with named("file"):
            start = read_once(first_line, path)
        if start.startswith(("[", "{")):
            texts = Transcripts.read(path, bounds, context, skipped=skipped, whole=False)
            return cls(SampledTexts(texts), texts.words, context.seed)
        alphabet = alphabet_for(context, skip_special_ids=skip_special_ids)
        with named("file"):
            lengths = read_once(_lengths, path, skipped, bounds, alphabet.room)
        return cls(lengths, alphabet, context.seed)


def _lengths(path: Path, skipped: int, bounds: Bounds, room: int) -> SampledLengths:
    header, listed = csv_rows(path)
    pick = columns(path, header, _COLUMNS)

    def rows() -> Iterator[Row]:
        for line, row in listed:
            given, asked = pick(line, row)
            yield Row(
                line,
                0,
                token_count(path, line, _COLUMNS[0], given),
                token_count(path, line, _COLUMNS[1], asked),
            )

    taken, left_out = bounds.take(path, rows(), skipped)
    return SampledLengths(
        pack(row.input_tokens for row in taken),
        pack(row.output_tokens for row in taken),
        left_out,
        max(max(row.input_tokens, room) + row.output_tokens for row in taken),
    )
