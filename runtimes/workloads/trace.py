"""Requests as somebody's servers received them: lengths, arrivals, and what prompts shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from runtimes.json_types import Json
from runtimes.workloads.alphabet import Alphabet, Spelling, alphabet_for
from runtimes.workloads.base import WORKLOADS, Prompt, WorkloadContext
from runtimes.workloads.files import existing_file, named, pack, read_once, unpack, wrong
from runtimes.workloads.recorded import BOUNDS, Bounds, RecordedWorkload, Recording
from runtimes.workloads.segments import Maker, roots
from runtimes.workloads.settings import COMMON, Settings
from runtimes.workloads.trace_blocks import BlockTree, change
from runtimes.workloads.trace_files import FORMATS, Row, detect
from runtimes.workloads.transcripts import ReplayedTexts, Transcripts

_AUTO = "auto"
_NS = 1_000_000_000
_MOST_YEARS = 10
_MOST_NS = _MOST_YEARS * 366 * 86_400 * _NS


@dataclass(frozen=True, slots=True)
class ReplayedRows(Recording):
    """Requests of the recorded lengths in the order in which they arrived.

    Attributes:
        inputs, outputs: lengths, packed (`files.pack`).
        at_ns: arrivals, counted from the first, packed in 64 bits.
        tree: what their prompts have in common; None where the trace does not say.
        left_out: as in `Recording`.
        longest: as in `Recording`.
    """

    inputs: bytes = field(repr=False)
    outputs: bytes = field(repr=False)
    at_ns: bytes = field(repr=False)
    tree: BlockTree | None
    left_out: int
    longest: int

    @classmethod
    def of(
        cls, rows: list[Row], left_out: int, block_tokens: int, alphabet: Alphabet
    ) -> ReplayedRows:
        """From rows in the order of the file, all with blocks or none."""
        rows = sorted(rows, key=lambda row: row.at_ns)
        tree = BlockTree.of(rows, block_tokens, alphabet.size) if rows[0].blocks else None
        longest = max(max(row.input_tokens, alphabet.room) + row.output_tokens for row in rows)
        return cls(
            pack(row.input_tokens for row in rows),
            pack(row.output_tokens for row in rows),
            pack((row.at_ns - rows[0].at_ns for row in rows), "q"),
            tree,
            left_out,
            longest + (tree.stretch if tree is not None else 0),
        )

    @property
    def taken(self) -> int:
        return len(unpack(self.inputs))

    @property
    def size(self) -> int:
        return self.taken

    def prompts(self, maker: Maker, count: int) -> list[Prompt]:
        inputs = unpack(self.inputs)[:count]
        if self.tree is None:
            segments, counts, shared, repeats = roots(inputs), None, [0] * len(inputs), None
        else:
            segments, counts = self.tree.segments(inputs)
            shared = unpack(self.tree.shared)[:count].tolist()
            repeats = unpack(self.tree.repeats).tolist()
        spelling = Spelling(maker.alphabet)
        outputs, at_ns = unpack(self.outputs).tolist(), unpack(self.at_ns, "q").tolist()
        prompts = []
        for place, numbers in enumerate(maker.numbers(maker.fitted(segments), counts)):
            if repeats is not None and repeats[place]:
                change(numbers, repeats[place], maker.alphabet.size)
            ids, messages = spelling.content(numbers)
            prompts.append(
                Prompt(
                    ids,
                    outputs[place],
                    shared_tokens=shared[place],
                    messages=messages,
                    at_s=at_ns[place] / _NS,
                )
            )
        return prompts


@WORKLOADS.register("trace")
@dataclass(frozen=True, slots=True)
class TraceWorkload(RecordedWorkload):
    """The requests of a trace in the order in which they arrived, with the recorded lengths.

    A trace of texts has conversations instead, turn by turn, each with what was said before.
    Tokens are made up for all but those, anew for each stage.
    """

    name: ClassVar[str] = "trace"
    required: ClassVar[tuple[str, ...]] = ("file",)
    defaults: ClassVar[Mapping[str, Json]] = {
        "format": _AUTO,
        "from": 0,
        **BOUNDS,
        "block_tokens": 512,
        **COMMON,
    }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Json], context: WorkloadContext) -> TraceWorkload:
        """Read the file, and which of its requests are taken."""
        given = Settings(cls, settings)
        path = existing_file("file", given["file"])
        bounds = Bounds.read(given)
        skipped = given.count("from", least=0)
        block_tokens = given.count("block_tokens")
        kind = given.choice("format", (_AUTO, *FORMATS))
        skip_special_ids = given.flag("skip_special_ids")
        recording: Recording
        with named("file"):
            if kind == _AUTO:
                kind = read_once(detect, path)
        if FORMATS[kind] is None:
            texts = Transcripts.read(path, bounds, context, skipped=skipped, whole=True)
            return cls(ReplayedTexts(texts), texts.words, context.seed)
        alphabet = alphabet_for(context, skip_special_ids=skip_special_ids)
        with named("file"):
            recording = read_once(_rows, path, kind, skipped, bounds, block_tokens, alphabet)
        return cls(recording, alphabet, context.seed)


def _rows(
    path: Path, kind: str, skipped: int, bounds: Bounds, block_tokens: int, alphabet: Alphabet
) -> ReplayedRows:
    read = FORMATS[kind]
    assert read is not None
    rows = _with_blocks(path, read(path), block_tokens)
    taken, left_out = bounds.take(path, rows, skipped)
    for row in taken:
        apart_ns = abs(row.at_ns - taken[0].at_ns)
        if apart_ns > _MOST_NS:
            wrong(
                path,
                row.line,
                f"arrives over {_MOST_YEARS} years from the first request taken",
                f"{apart_ns // _NS} s",
            )
    if bounds.clip:
        taken = [
            row._replace(blocks=row.blocks[: -(-row.input_tokens // block_tokens)]) for row in taken
        ]
    return ReplayedRows.of(taken, left_out, block_tokens, alphabet)


def _with_blocks(path: Path, rows: Iterable[Row], block_tokens: int) -> Iterator[Row]:
    """The same rows, sure to have as many blocks as their prompts consist of, all or none."""
    has_blocks: bool | None = None
    for row in rows:
        if row.input_tokens:
            has_blocks = bool(row.blocks) if has_blocks is None else has_blocks
            needed = -(-row.input_tokens // block_tokens) if has_blocks else 0
            if len(row.blocks) != needed:
                wrong(
                    path, row.line,
                    f"{row.input_tokens} tokens have to be {needed} hash_ids of {block_tokens} "
                    "tokens (`block_tokens`), as in the lines before", len(row.blocks),
                )  # fmt: skip
        yield row
